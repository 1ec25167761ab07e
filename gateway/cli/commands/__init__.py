"""One module a command, found by discovery."""
