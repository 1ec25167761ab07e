"""More work than the gateway can do: what is left of its best, while it refuses the rest."""
