"""The session: its life from entering to the last task's end."""
