"""Providers of push on loopback: they speak the real protocols, strictly, and fail when told to."""
