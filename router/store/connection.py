"""The store of one process: where it is, the pipeline over its connection, and what it can do."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

import msgspec

from router.model.errors import StoreUnavailableError
from router.store.address import describe, parse_url
from router.store.batch import Batch
from router.store.finders import finder_of
from router.store.library import Library
from router.store.link import Link, LinkError
from router.store.node import Durability, Node, backoff_s
from router.store.survey import StoreInfo, look_at, refuse_unfit
from router.telemetry.metrics import Metrics


class StoreOptions(msgspec.Struct, frozen=True):
    """How to reach the store, and the limits that its functions keep."""

    url: str
    fsync: bool = False
    """Answer only what is on disk."""
    replicas: int = 0
    """Answer only what so many replicas have."""
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
        self._place = parse_url(options.url)
        self._durability = Durability(options.fsync, options.replicas)
        self._finder = finder_of(self._place)
        self._node: Node | None = None
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    @property
    def batch(self) -> Batch:
        """The pipeline; there is one while the store is open."""
        if self._node is None:
            raise RuntimeError("The store is used before it was opened")
        return self._node.batch

    @property
    def connected(self) -> bool:
        """Whether there is a connection that carries commands."""
        return self._node is not None and self._node.connected

    async def __aenter__(self) -> Self:
        """Start to connect."""
        options = self.options
        self._node = Node(
            self._finder,
            Batch(self.metrics, options.deadline_s, options.max_queue),
            self.library,
            self._durability,
            self.metrics,
            self.entropy,
            options.deadline_s,
        )
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._task = group.create_task(self._node.stay_connected(), name="store")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Drop the connection; whatever still waits fails."""
        if self._task is not None:
            self._task.cancel()
        await self._stack.aclose()
        self._finder.close()
        self.batch.close()

    async def ping(self) -> None:
        """Go to the server and back.

        Raises:
            StoreUnavailableError: it did not answer in time.
        """
        await self.batch.call("PING")

    async def open_reader(self) -> Link:
        """Open a connection of its own for what blocks; the caller closes it.

        Raises:
            LinkError: the store is away.
        """
        if self._node is None:
            raise LinkError("the store is not open")
        return await self._node.open_reader()

    def backoff_s(self, failures: int) -> float:
        """Give how long to wait after so many failures in a row."""
        return backoff_s(failures, self.entropy)

    async def check(self) -> list[StoreInfo]:
        """Ask the servers what they are, as `survey`, and refuse those that are of no use.

        Raises:
            PushError: one is too old, or cannot keep what the options ask for.
            StoreUnavailableError: the primary did not answer; the text says why.
        """
        found = await self.survey()
        for info in found:
            refuse_unfit(info, self._durability)
        return found

    async def survey(self) -> list[StoreInfo]:
        """Ask the servers what they are: the primary first, then replicas that Sentinel knows.

        Raises:
            StoreUnavailableError: the primary did not answer; the text says why.
        """
        patience_s = self.options.deadline_s
        try:
            found = [await look_at(await self._finder.find(), patience_s)]
            replicas = await self._finder.replicas()
        except (LinkError, TimeoutError) as error:
            message = f"The store at {describe(self._place)} is away: {str(error) or 'no answer'}"
            raise StoreUnavailableError(message) from error
        for replica in replicas:
            try:
                found.append(await look_at(replica, patience_s))
            except (LinkError, TimeoutError):
                continue  # it may be on its way down, or up; Sentinel does not count on it
        return found
