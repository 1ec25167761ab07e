"""The Pushwire SDK for Python."""
