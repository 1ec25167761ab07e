"""The `pushwire` command."""
