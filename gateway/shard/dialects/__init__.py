"""One module a dialect, found by discovery."""
