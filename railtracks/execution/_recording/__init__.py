"""Recording: what a session writes of its calls while they run."""
