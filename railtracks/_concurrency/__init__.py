"""Event loops, cancellation and threads: what knows an event loop, and no session."""
