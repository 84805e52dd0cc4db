"""The document: the state file that a session is saved in at its end."""
