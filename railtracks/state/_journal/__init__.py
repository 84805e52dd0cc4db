"""The journal: the append-only file of a running session."""
