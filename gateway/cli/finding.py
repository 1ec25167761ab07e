"""What a check of `pushwire doctor` tells."""

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """What one check found. `good` is None for a warning."""

    name: str
    good: bool | None
    found: str
    advice: str = ""
    """What to do where it is not good."""
