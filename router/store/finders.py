"""How the server is found: it stays where the URL says, or Sentinels tell."""

from typing import Final

from router.store.address import Address, Sentinels
from router.store.node import Finder
from router.store.sentinel import Lookout


class Fixed:
    """A server that stays where it is."""

    moves: Final = False

    def __init__(self, address: Address) -> None:
        self._address = address

    async def find(self) -> Address:
        """Give its address."""
        return self._address

    async def has_moved(self, address: Address) -> bool:
        """Tell that it has not."""
        return address != self._address

    async def replicas(self) -> list[Address]:
        """Nobody knows of any."""
        return []

    def close(self) -> None:
        """Nothing is open."""


def finder_of(place: Address | Sentinels) -> Finder:
    """Choose by what the URL names."""
    return Fixed(place) if isinstance(place, Address) else Lookout(place)
