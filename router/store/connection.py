"""The store of one process: its connection, kept alive, and the pipeline over it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final, Self

import msgspec
import structlog

from router.model.errors import ErrorCode, PushError, StoreUnavailableError
from router.store.batch import Batch
from router.store.library import Library
from router.store.link import Address, Link, LinkError, Reply, fields, open_link, parse_url
from router.telemetry.metrics import Metrics

_CONNECT_TIMEOUT_S: Final = 5.0
_BACKOFF_BASE_S: Final = 0.05
_BACKOFF_MAX_S: Final = 2.0
_OLDEST_VALKEY: Final = (8, 0)
_OLDEST_REDIS: Final = (7, 2)


class StoreOptions(msgspec.Struct, frozen=True):
    """How to reach the store, and the limits that its functions keep."""

    url: str
    fsync: bool = False
    """Answer only what is on disk."""
    deadline_s: float = 2.0
    """Seconds until an unanswered command fails."""
    max_queue: int = 10_000
    """Commands that may wait; one more fails at once."""
    retention_ms: int = 86_400_000
    """How long a status is kept after the end of its message."""
    max_pending: int = 1000
    """Messages a mailbox holds."""
    ack_timeout_ms: int = 15_000
    """How long an ack may take before the message goes out again."""


class StoreInfo(msgspec.Struct, frozen=True):
    """What the server says of itself."""

    server: str
    """`valkey` or `redis`."""
    version: str
    aof: bool
    appendfsync: str
    """`always`, `everysec`, `no`, or empty where the server does not tell."""
    maxmemory_policy: str


class Store:
    """The connection of one process to its store: `async with Store(…) as store`.

    Entering does not wait for the server; commands wait in the queue until it is there.

    Args:
        options: where, and how patient.
        metrics: of this process.
        now_ms: the wall clock, epoch milliseconds.
        entropy: gives so many random bytes, for the jitter.
    """

    def __init__(
        self,
        options: StoreOptions,
        metrics: Metrics,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self.options = options
        self.metrics = metrics
        self.now_ms = now_ms
        self.entropy = entropy
        self.library = Library()
        self.connected = False
        self.last_error = ""
        """Why the last try to connect failed."""
        self.address: Address = parse_url(options.url)
        self._batch: Batch | None = None
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("store")

    @property
    def batch(self) -> Batch:
        """The pipeline; there is one while the store is open."""
        if self._batch is None:
            raise RuntimeError("The store is used before it was opened")
        return self._batch

    async def __aenter__(self) -> Self:
        """Start to connect."""
        self._batch = Batch(self.metrics, self.options.deadline_s, self.options.max_queue)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._task = group.create_task(self._stay_connected(self._batch), name="store")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Drop the connection; whatever still waits fails."""
        if self._task is not None:
            self._task.cancel()
        await self._stack.aclose()
        self.batch.close()

    async def ping(self) -> None:
        """Go to the server and back.

        Raises:
            StoreUnavailableError: it did not answer in time.
        """
        await self.batch.call("PING")

    async def check(self) -> StoreInfo:
        """Ask the server what it is.

        Raises:
            PushError: it is too old, or cannot keep what the options ask for.
            StoreUnavailableError: it did not answer; the text says why.
        """
        try:
            info, appendfsync = await self._ask()
        except (LinkError, TimeoutError) as error:
            message = f"The store at {describe(self.address)} is away: {str(error) or 'no answer'}"
            raise StoreUnavailableError(message) from error
        found = StoreInfo(
            server="valkey" if "valkey_version" in info else "redis",
            version=info.get("valkey_version", info.get("redis_version", "0")),
            aof=info.get("aof_enabled") == "1",
            appendfsync=appendfsync,
            maxmemory_policy=info.get("maxmemory_policy", ""),
        )
        _refuse_unfit(found, fsync=self.options.fsync)
        return found

    async def _ask(self) -> tuple[dict[str, str], str]:
        """Read INFO and the fsync policy, on a connection of its own: an old server has no other.

        Raises:
            LinkError: the server does not let us in.
        """
        link = await open_link(self.address, self.options.deadline_s)
        try:
            async with asyncio.timeout(self.options.deadline_s):
                info = _read_info(await link.request("INFO"))
                return info, await _appendfsync(link)
        finally:
            link.abort()

    async def _stay_connected(self, batch: Batch) -> None:
        failures = 0
        while True:
            link: Link | None = None
            try:
                link = await self._connect(batch)
                self.connected = True
                await asyncio.shield(link.lost)
                self.last_error = "the connection was lost"
            except LinkError as error:
                self.last_error = str(error)
            finally:
                self.connected = False
                batch.detach()
                if link is not None:
                    link.abort()
            failures = 0 if batch.healthy else failures + 1
            batch.healthy = False
            self.metrics.store_errors.inc()
            self._log.warning("store.disconnected", reason=self.last_error)
            await asyncio.sleep(self.backoff_s(failures))

    async def _connect(self, batch: Batch) -> Link:
        """Open a connection, load the functions, hand it to the pipeline."""
        link = await open_link(self.address, _CONNECT_TIMEOUT_S)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self.library.ensure(link)
                wait_fsync = self.options.fsync and await _appendfsync(link) != "always"
            batch.attach(link, wait_fsync=wait_fsync)
        except TimeoutError as error:
            link.abort()
            raise LinkError("the server does not answer") from error
        except BaseException:
            link.abort()
            raise
        return link

    def backoff_s(self, failures: int) -> float:
        """Full jitter: anything from zero to a ceiling that doubles."""
        ceiling = min(_BACKOFF_MAX_S, _BACKOFF_BASE_S * 2.0 ** min(failures, 10))
        return ceiling * int.from_bytes(self.entropy(4), "big") / 2.0**32


def describe(address: Address) -> str:
    """Name the server for a person, without its password."""
    return address.path or f"{address.host}:{address.port}"


async def _appendfsync(link: Link) -> str:
    """Read the fsync policy; empty where the server does not tell."""
    try:
        reply = fields(await link.request("CONFIG", "GET", "appendfsync"))
    except LinkError:
        return ""
    return _text(reply[1]) if len(reply) > 1 else ""


def _text(reply: Reply) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)


def _read_info(reply: Reply) -> dict[str, str]:
    lines = (line.partition(":") for line in _text(reply).splitlines())
    return {name: value.strip() for name, _, value in lines}


def _number(version: str) -> tuple[int, int]:
    major, minor, *_ = [*version.split("."), "0", "0"]
    return int(major), int(minor)


def _refuse_unfit(info: StoreInfo, *, fsync: bool) -> None:
    oldest = _OLDEST_VALKEY if info.server == "valkey" else _OLDEST_REDIS
    if _number(info.version) < oldest:
        message = (
            f"The store is {info.server} {info.version}; Pushwire needs Valkey 8.0 or Redis 7.2 or "
            "newer. Leave out the store URL to use the embedded one."
        )
        raise PushError(ErrorCode.UNAVAILABLE, message)
    if fsync and not info.aof:
        raise PushError(
            ErrorCode.UNAVAILABLE,
            'durability = "fsync" needs the append-only file: set `appendonly yes` on the store.',
        )
