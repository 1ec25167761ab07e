"""Metrics and logs of every role."""
