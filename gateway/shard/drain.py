"""Stop a shard without losing anything: send devices elsewhere, then store what they said.

Order: stop accepting, tell peers in waves, wait with a deadline, close, flush.
"""

import asyncio
import math
from typing import Final, Protocol

import structlog

from gateway.process import Entropy
from gateway.shard.events import Close
from gateway.shard.registry import Peer, Registry
from router.model.errors import CloseCode

WAVE: Final = 50
"""Devices that are told at once, at least."""
MAX_WAVES: Final = 20
LINGER_S: Final = 0.5
"""How long devices that were told have to leave by themselves."""
FLUSH_S: Final = 3.0
_POLL_S: Final = 0.02
_MIN_RECONNECT_S: Final = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.drain")


class Port(Protocol):
    """What accepts devices (`gateway.shard.listener`)."""

    def stop_accepting(self) -> None:
        """Close the port; connections stay."""
        ...

    async def close(self) -> None:
        """Drop every socket."""
        ...


class Told(Protocol):
    """What sessions said and is not stored yet (`gateway.shard.acks`)."""

    @property
    def waiting(self) -> int:
        """How many routes are still to be given up."""
        ...

    async def flush(self) -> None:
        """Wait until all of it is stored."""
        ...


async def drain(
    port: Port, registry: Registry, ledger: Told, entropy: Entropy, drain_s: float
) -> None:
    """Send every device away and store what they said.

    Args:
        port: where devices come in.
        registry: the sessions.
        ledger: what they said.
        entropy: jitter of the times to reconnect.
        drain_s: seconds over which devices are told; a few are told at once.
    """
    registry.draining = True
    port.stop_accepting()
    peers = registry.peers()
    _log.info("shard.draining", sessions=len(peers))
    waves = min(MAX_WAVES, math.ceil(len(peers) / WAVE))
    size = math.ceil(len(peers) / waves) if waves else 0
    for number in range(waves):
        for peer in peers[number * size : (number + 1) * size]:
            _send_away(peer, entropy, drain_s)
        if number + 1 < waves:
            await asyncio.sleep(drain_s / waves)
    await _wait_until_empty(registry, min(LINGER_S, drain_s))
    for peer in registry.peers():
        peer.carry_out((Close(CloseCode.SHUTDOWN, "shutdown"),))
    await flush(ledger)
    await port.close()


async def flush(ledger: Told) -> None:
    """Store what sessions said, for a while: what the store does not take is delivered again."""
    try:
        async with asyncio.timeout(FLUSH_S):
            await ledger.flush()
    except TimeoutError:
        _log.warning("shard.flush_timeout", detaches=ledger.waiting)


def _send_away(peer: Peer, entropy: Entropy, drain_s: float) -> None:
    if peer.open:
        wait_s = round(entropy.uniform(_MIN_RECONNECT_S, _MIN_RECONNECT_S + drain_s), 1)
        peer.carry_out(peer.session.on_goaway("shutdown", wait_s, 0))


async def _wait_until_empty(registry: Registry, limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    while loop.time() < deadline:
        if not len(registry):
            return
        await asyncio.sleep(_POLL_S)
