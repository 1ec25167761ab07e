"""Destinations of exported files, one a module, found by the scheme of the URL."""
