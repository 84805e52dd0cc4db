"""Models behind the SDKs of the providers."""
