"""Rules without I/O: states of a message, retries, limits."""
