"""Types to JSON Schema, and JSON data to values of types. Knows nothing of language models."""
