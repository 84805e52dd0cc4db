"""Resuming a run: its history, and the recorded call that a new call corresponds to."""
