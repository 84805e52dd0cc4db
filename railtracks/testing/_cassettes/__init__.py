"""Record what was said to a model and by it, and replay it without the model."""
