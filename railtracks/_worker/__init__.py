"""What runs in a worker: a session there, which records the calls for the session that has sent the work."""
