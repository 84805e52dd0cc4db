"""OpenTelemetry: the spans of a session, live and of a recorded run."""
