"""The HTTP API that app servers and registering devices use."""
