"""The live view of sessions: what runs, in the terminal or as lines."""
