"""The scenarios that come with Pushwire: one TOML file each, found by its name."""
