"""Connections to providers: which way a request goes.

Each project's credentials have connections of their own, since providers tie a connection to who
used it first. HTTP/2 where a bridge needs it, or its host offers it; HTTP/1.1 for the rest; through
the guard of callbacks to hosts that devices name.
"""

import asyncio
import ssl
from typing import Final, NamedTuple, Self

from router.bridge import AnyBridge, Credentials, Request, Response
from router.bridging.http1 import Http1Client
from router.bridging.http2_pool import Http2Pool, NotHttp2Error
from router.bridging.transport import UnreachableError
from router.model.ids import ProjectId
from router.telemetry.metrics import Metrics

_TICK_S: Final = 1.0
_CONTEXTS: Final = 256
"""TLS contexts that are kept: one for each set of certificates that projects give."""
_PLAIN: Final = 1024
"""Origins of which is remembered that they speak HTTP/1.1."""
_H2: Final = ("h2",)
_ANY: Final = ("h2", "http/1.1")
_H1: Final = ("http/1.1",)


class Account(NamedTuple):
    """Whose bridge it is, and which of its credentials."""

    project: ProjectId
    bridge: str
    generation: int


class Pools:
    """Sends requests: `async with Pools(…) as pools`, and `run` beside it.

    Args:
        timeout_s: what a request may take, from its first byte to the end of its answer.
        connect_s: what a connection may take to be made.
        allow_private: whether devices may name hosts without a public address.
        metrics: counts connections.
    """

    def __init__(
        self, timeout_s: float, connect_s: float, *, allow_private: bool, metrics: Metrics
    ) -> None:
        self._timeout_s, self._connect_s = timeout_s, connect_s
        self._metrics = metrics
        self._trusted = Http1Client(connect_s, guarded=False)
        self._guarded = Http1Client(connect_s, guarded=not allow_private)
        self._pools: dict[tuple[Account, str], Http2Pool] = {}
        self._plain: dict[tuple[Account, str], None] = {}
        self._contexts: dict[tuple[str, tuple[str, ...]], ssl.SSLContext] = {}

    async def __aenter__(self) -> Self:
        """Make ready; connections are made when they are needed."""
        await self._trusted.__aenter__()
        await self._guarded.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()
        await self._trusted.__aexit__(*exception)
        await self._guarded.__aexit__(*exception)

    async def run(self) -> None:
        """Look after connections once a second, until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self.tick()

    def tick(self) -> None:
        """Look after connections: late answers, dead peers, idle ones."""
        for pool in self._pools.values():
            pool.tick()
        self._pools = {place: pool for place, pool in self._pools.items() if not pool.is_idle}
        self._metrics.bridge_connections.set(sum(p.connections for p in self._pools.values()))

    async def send(
        self, bridge: AnyBridge, account: Account, credentials: Credentials, request: Request
    ) -> Response:
        """Send a request and give its answer.

        Raises:
            UnsentError: the provider did not look at it; UnreachableError where there is none,
                ForbiddenError where a device named a host that may not be connected to.
            UnknownError: it may have; SilentError where the answer did not come in time.
        """
        foreign = bridge.foreign_hosts and request.origin != credentials.endpoint
        ca = "" if foreign else credentials.ca
        place = (account, request.origin)
        secure = request.origin.startswith("https:")
        if bridge.multiplexed or (secure and not bridge.foreign_hosts and place not in self._plain):
            tls = self._context(ca, _H2 if bridge.multiplexed else _ANY) if secure else None
            try:
                return await self._pool(place, tls).send(request, self._timeout_s)
            except NotHttp2Error:
                self._pools.pop(place, None)
                if bridge.multiplexed:
                    raise UnreachableError("it does not speak HTTP/2") from None
                self._note_plain(place)
        client = self._guarded if foreign else self._trusted
        return await client.send(request, self._context(ca, _H1), self._timeout_s)

    def _pool(self, place: tuple[Account, str], tls: ssl.SSLContext | None) -> Http2Pool:
        pool = self._pools.get(place)
        if pool is None:
            pool = self._pools[place] = Http2Pool(place[1], tls, self._connect_s)
        return pool

    def _note_plain(self, place: tuple[Account, str]) -> None:
        if len(self._plain) >= _PLAIN:
            self._plain.clear()
        self._plain[place] = None

    def _context(self, ca: str, protocols: tuple[str, ...]) -> ssl.SSLContext:
        """Give a TLS context that trusts `ca`, or what the system trusts."""
        found = self._contexts.get((ca, protocols))
        if found is None:
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            found = ssl.create_default_context(cadata=ca or None)
            found.minimum_version = ssl.TLSVersion.TLSv1_2
            found.set_alpn_protocols(list(protocols))
            self._contexts[ca, protocols] = found
        return found
