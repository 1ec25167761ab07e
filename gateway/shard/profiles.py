"""Profiles of devices, each kept once: most devices of an app are like many others. Pure."""

from typing import Final

from router.model.selection import Profile

MAX_PROFILES: Final = 10_000
"""Different ones that are remembered, where devices all differ."""


class Profiles:
    """Gives equal profiles as one object, as far as it remembers them."""

    def __init__(self) -> None:
        self._known: dict[Profile, Profile] = {}

    def share(self, profile: Profile) -> Profile:
        """Give the object that stands for this profile."""
        found = self._known.get(profile)
        if found is not None:
            return found
        if len(self._known) >= MAX_PROFILES:
            # Sessions keep theirs. What many devices have in common is soon here again.
            self._known.clear()
        self._known[profile] = profile
        return profile
