"""One server of the store: its connection, kept alive, under the pipeline that goes over it."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakSet

import msgspec
import structlog

from router.store.address import Address
from router.store.batch import Batch, Sync
from router.store.library import Library
from router.store.link import Link, LinkError, Reply, fields, open_link
from router.telemetry.metrics import Metrics

_CONNECT_TIMEOUT_S: Final = 5.0
_BACKOFF_BASE_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0
_WATCH_S: Final = 1.0
"""How often it is asked whether another server has become the primary."""


class Durability(msgspec.Struct, frozen=True):
    """What has to hold a change before it is answered, besides the server's memory."""

    fsync: bool = False
    """The server's disk."""
    replicas: int = 0
    """So many replicas: their memory, with `fsync` their disks."""


class Finder(Protocol):
    """Tells where the server is."""

    async def find(self) -> Address:
        """Give where it is now.

        Raises:
            LinkError: it cannot be found.
        """
        ...

    async def has_moved(self, address: Address) -> bool:
        """Tell whether the server is not the one at this address any more."""
        ...

    @property
    def moves(self) -> bool:
        """Tell whether it ever does."""
        ...

    async def replicas(self) -> list[Address]:
        """Give its replicas, as far as they are known.

        Raises:
            LinkError: nobody tells.
        """
        ...

    def close(self) -> None:
        """Drop what the search keeps open."""
        ...


class Node:
    """Keeps one connection to a server, which may be another one each time.

    Args:
        finder: where it is.
        batch: what goes over the connection.
        library: the functions, loaded on each new connection where they are missing.
        durability: what each answer waits for.
        metrics: of this process.
        entropy: gives so many random bytes, for the jitter.
        deadline_s: seconds until an unanswered command fails.
    """

    def __init__(
        self,
        finder: Finder,
        batch: Batch,
        library: Library,
        durability: Durability,
        metrics: Metrics,
        entropy: Callable[[int], bytes],
        deadline_s: float,
    ) -> None:
        self._finder = finder
        self.batch = batch
        self._library = library
        self._durability = durability
        self._metrics = metrics
        self._entropy = entropy
        self._deadline_s = deadline_s
        self._log = structlog.get_logger("store")
        self.connected = False
        self.last_error = ""
        """Why the last try to connect failed."""
        self._address: Address | None = None
        self._readers: WeakSet[Link] = WeakSet()

    async def open_reader(self) -> Link:
        """Open one more connection to the server, for commands that block; the caller closes it.

        It ends when another server takes the place of this one.

        Raises:
            LinkError: the server is away.
        """
        if self._address is None:
            raise LinkError("the store is away")
        link = await open_link(self._address, _CONNECT_TIMEOUT_S)
        self._readers.add(link)
        return link

    def drop_readers(self) -> None:
        """End the connections that others took for reading."""
        for reader in self._readers:
            reader.abort()

    async def stay_connected(self, on_lost: Callable[[], None] | None = None) -> None:
        """Connect, and again whenever the connection is lost, which is told; for ever."""
        try:
            await self._stay_connected(on_lost)
        finally:
            self._finder.close()

    async def _stay_connected(self, on_lost: Callable[[], None] | None) -> None:
        batch, failures = self.batch, 0
        while True:
            link: Link | None = None
            try:
                address = await self._finder.find()
                link = await self._connect(address)
                self._address, self.connected = address, True
                await self._until_over(link, address)
                self.last_error = "the connection was lost"
            except LinkError as error:
                self.last_error = str(error)
            finally:
                self._address, self.connected = None, False
                batch.detach()
                if link is not None:
                    link.abort()
            failures = 0 if batch.healthy else failures + 1
            batch.healthy = False
            self._metrics.store_errors.inc()
            self._log.warning("store.disconnected", reason=self.last_error)
            if on_lost is not None:
                on_lost()
            await asyncio.sleep(backoff_s(failures, self._entropy))

    async def _until_over(self, link: Link, address: Address) -> None:
        if not self._finder.moves:
            await asyncio.shield(link.lost)
            return
        while not link.lost.done():
            await asyncio.wait((link.lost,), timeout=_WATCH_S)
            if not link.lost.done() and await self._finder.has_moved(address):
                self.drop_readers()
                raise LinkError("another server has become the primary")

    async def _connect(self, address: Address) -> Link:
        """Open a connection, load the functions, hand it to the pipeline."""
        link = await open_link(address, _CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                if self._finder.moves:
                    await _refuse_replica(link)
                await self._library.ensure(link)
                sync = await self._sync(link)
            self.batch.attach(link, sync)
        except TimeoutError as error:
            link.abort()
            raise LinkError("the server does not answer") from error
        except BaseException:
            link.abort()
            raise
        return link

    async def _sync(self, link: Link) -> Sync | None:
        """Choose what each pipeline ends with."""
        fsync, replicas = self._durability.fsync, self._durability.replicas
        patience_ms = int(self._deadline_s * 1000)
        if fsync and (replicas or await appendfsync(link) != "always"):
            return Sync(("WAITAOF", 1, replicas, patience_ms), (1, replicas))
        return Sync(("WAIT", replicas, patience_ms), (replicas,)) if replicas else None


def backoff_s(failures: int, entropy: Callable[[int], bytes]) -> float:
    """Full jitter: anything from zero to a ceiling that doubles."""
    ceiling = min(_BACKOFF_MAX_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 10))
    return ceiling * int.from_bytes(entropy(4), "big") / 2.0**32


async def appendfsync(link: Link) -> str:
    """Read the fsync policy; empty where the server does not tell."""
    try:
        reply = fields(await link.request("CONFIG", "GET", "appendfsync"))
    except LinkError:
        return ""
    return text(reply[1]) if len(reply) > 1 else ""


def text(reply: Reply) -> str:
    """Read a bulk reply."""
    return reply.decode() if isinstance(reply, bytes) else str(reply)


async def _refuse_replica(link: Link) -> None:
    role = text(fields(await link.request("ROLE"))[0])
    if role != "master":
        raise LinkError("the server is a replica: no failover has made it the primary yet")
