"""What the suite of ``railtracks.testing.conformance`` consists of."""
