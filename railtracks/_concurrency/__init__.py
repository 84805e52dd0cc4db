"""Event loops, cancellation and threads. Nothing here knows sessions or calls."""
