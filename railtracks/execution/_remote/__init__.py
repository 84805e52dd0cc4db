"""Nodes that run in a worker: what is sent there, and how what comes back becomes part of the session."""
