"""How many connections one address may open: judged at accept, before a handshake costs anything.

Each shard judges for itself, in memory: a call of the store for each connection of a storm would
help the storm. The table is bounded, and forgets who has been quiet.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from gateway.addresses import Clients
from gateway.shard.handshake import Refusal
from router.model.limits import UNLIMITED, Rate
from router.policy.rates import SECOND_US, charge

MAX_ADDRESSES: Final = 65_536
"""Addresses that a shard remembers; about 10 MB."""
_SWEPT: Final = 2
"""Quiet addresses that are forgotten for each new one: the table shrinks after a storm."""
_TOO_MANY: Final = 429


class Doorkeeper:
    """Judges connections by the address that they come from.

    Args:
        clients: how they are told apart.
        rate: connections from one address.
        monotonic: a clock in seconds.
    """

    def __init__(self, clients: Clients, rate: Rate, monotonic: Callable[[], float]) -> None:
        self._clients = clients
        self._rate = rate
        self._monotonic = monotonic
        self._full_us: dict[str, float] = {}

    def __len__(self) -> int:
        """Count the addresses that are remembered."""
        return len(self._full_us)

    def at_accept(self, peer: str) -> Refusal | None:
        """Judge a socket; a proxy's is judged when its request tells whose it is."""
        if self._rate == UNLIMITED or self._clients.trusts(peer):
            return None
        return self._judge(self._clients.name(peer))

    def behind_proxy(
        self, peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str]
    ) -> Refusal | None:
        """Judge a request whose socket was let pass at accept because it is a proxy's."""
        if self._rate == UNLIMITED or not self._clients.trusts(peer):
            return None
        return self._judge(self._clients.name(peer, forwarded_for, forwarded))

    def _judge(self, address: str) -> Refusal | None:
        if not address:
            return None
        now_us = int(self._monotonic() * SECOND_US)
        known = self._full_us.pop(address, None)
        if known is None:
            self._make_room(now_us)
        charged = charge(known or 0.0, now_us, self._rate, 1)
        self._full_us[address] = charged.full_us
        if charged.granted:
            return None
        return Refusal("address", max(1, math.ceil(charged.wait_us / SECOND_US)), _TOO_MANY)

    def _make_room(self, now_us: int) -> None:
        """Forget the longest quiet: their buckets are full, or there is no room."""
        table = self._full_us
        for _ in range(_SWEPT):
            oldest = next(iter(table), None)
            if oldest is None or (table[oldest] > now_us and len(table) < MAX_ADDRESSES):
                return
            del table[oldest]
