"""The document: the state file that a session leaves."""
