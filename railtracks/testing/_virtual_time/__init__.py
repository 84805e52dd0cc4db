"""Event loops with a virtual clock, whose order of tasks is decided by a seed."""
