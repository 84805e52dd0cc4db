"""The journal: the record of a session, appended as it happens."""
