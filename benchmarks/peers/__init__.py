"""The comparison with other libraries: the same work, each in its own way and in an environment of its own."""
