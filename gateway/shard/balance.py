"""Spread connections evenly over the shards again: after restarts and crashes some hold too many.

A shard that was started again has no device, and the kernel gives it only its share of those that
connect from then on. So each shard compares itself with the others by what their leases tell, and
asks a few devices at a time to connect anew; most of them land elsewhere.
"""

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog

from gateway.process import Entropy
from gateway.shard.events import Close
from gateway.shard.probe import PROJECT
from gateway.shard.registry import Peer, Registry
from router.model.errors import CloseCode, PushError
from router.model.ids import ShardId
from router.store.leases import Leases

ROUND_S: Final = 4.0
"""Seconds between two looks: what was moved before stands in the leases by then."""
SLACK: Final = 0.1
"""Share above the mean that is left alone, ..."""
SLACK_DEVICES: Final = 20
"""... and so many devices: chance spreads no better."""
MOVED_SHARE: Final = 0.15
"""Share of its devices that a shard sends away in a round at the most, or `SLACK_DEVICES`, ..."""
MOVED: Final = 200
"""... and never more than so many."""
_JITTER_S: Final = 1.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.balance")


class _Lease(msgspec.Struct, frozen=True):
    connections: int = 0


def surplus(own: int, others: Sequence[int]) -> int:
    """Give how many devices a shard is to send away now. Pure.

    Args:
        own: how many it has.
        others: how many each other shard has.
    """
    mean = (own + sum(others)) / (len(others) + 1)
    if own <= mean * (1 + SLACK) + SLACK_DEVICES:
        return 0
    return min(math.ceil(own - mean), MOVED, max(SLACK_DEVICES, int(own * MOVED_SHARE)))


class Balance:
    """Sends away what one shard has too many of.

    Args:
        shard: which.
        registry: its sessions.
        leases: what the others tell.
        entropy: jitter of the times to reconnect, so that they do not come at once.
    """

    def __init__(
        self, shard: ShardId, registry: Registry, leases: Leases, entropy: Entropy
    ) -> None:
        self._shard = shard
        self._registry = registry
        self._leases = leases
        self._entropy = entropy
        self._told: list[Peer] = []

    async def run(self) -> None:
        """Look every round, until cancelled."""
        while True:
            await asyncio.sleep(ROUND_S)
            with contextlib.suppress(PushError):  # the store is away: the next round looks again
                self.look(await self._leases.shards())

    def look(self, leases: Mapping[ShardId, bytes]) -> int:
        """Compare with the others, and send away; gives how many were told to go."""
        for peer in self._told:  # who was told a round ago and is still here
            if peer.open:
                peer.carry_out((Close(CloseCode.SHUTDOWN, "balance"),))
        self._told = []
        others = [
            msgspec.json.decode(value, type=_Lease).connections
            for shard, value in leases.items()
            if shard != self._shard
        ]
        if self._registry.draining or not others:
            return 0
        count = surplus(len(self._registry), others)
        if count:
            movable = (one for one in self._registry.peers() if one.session.project != PROJECT)
            self._told = list(islice(movable, count))
            for peer in self._told:
                wait_s = round(self._entropy.uniform(0.0, _JITTER_S), 1)
                peer.carry_out(peer.session.on_goaway("balance", wait_s, 0))
            _log.info("shard.balanced", sent_away=count, sessions=len(self._registry))
        return count
