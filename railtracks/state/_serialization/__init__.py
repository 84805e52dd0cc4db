"""Values to JSON text and back."""
