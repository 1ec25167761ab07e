"""One module a resource, found by discovery."""
