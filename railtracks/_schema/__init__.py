"""Turn types into JSON Schema, and JSON data into values of types. Knows nothing of language models."""
