"""Models of the providers' SDKs."""
