"""The store of one process: where it is, the pipeline over its connection, and what it can do."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

import msgspec

from router.model.errors import StoreUnavailableError
from router.store.address import Servers, describe, parse_url
from router.store.batch import Batch, Redirect
from router.store.cluster import Cluster, Parts
from router.store.finders import Fixed, finder_of
from router.store.library import shared
from router.store.link import Link, LinkError
from router.store.node import Durability, Finder, Node, backoff_s
from router.store.survey import StoreInfo, refuse_unfit, survey
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
        self.library = shared()
        self._place = parse_url(options.url)
        self._durability = Durability(options.fsync, options.replicas)
        self._node: Node | None = None
        self._cluster: Cluster | None = None
        self._pipeline: Batch | Cluster | None = None
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    @property
    def batch(self) -> "Batch | Cluster":
        """The pipeline; there is one while the store is open."""
        if self._pipeline is None:
            raise RuntimeError("The store is used before it was opened")
        return self._pipeline

    @property
    def connected(self) -> bool:
        """Whether there is a connection that carries commands; in a cluster, to every primary."""
        served = self._cluster or self._node
        return served is not None and served.connected

    async def __aenter__(self) -> Self:
        """Start to connect."""
        if isinstance(self._place, Servers):
            parts = Parts(lambda address, batch: self._make_node(Fixed(address), batch), self._make)
            self._cluster = Cluster(self._place, parts, self.metrics, self.entropy)
            self._pipeline, connect = self._cluster, self._cluster.stay_connected()
        else:
            batch = self._make()
            self._node = self._make_node(finder_of(self._place), batch)
            self._pipeline, connect = batch, self._node.stay_connected()
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._task = group.create_task(connect, name="store")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Drop the connection; whatever still waits fails."""
        if self._task is not None:
            self._task.cancel()
        await self._stack.aclose()
        self.batch.close()

    def _make(
        self, redirect: Redirect | None = None, show_queue: Callable[[int], None] | None = None
    ) -> Batch:
        options = self.options
        deadline_s, max_queue = options.deadline_s, options.max_queue
        return Batch(self.metrics, deadline_s, max_queue, redirect, show_queue)

    def _make_node(self, finder: Finder, batch: Batch) -> Node:
        return Node(
            finder,
            batch,
            self.library,
            self._durability,
            self.metrics,
            self.entropy,
            self.options.deadline_s,
        )

    async def ping(self) -> None:
        """Go to the server and back.

        Raises:
            StoreUnavailableError: it did not answer in time.
        """
        await self.batch.call("PING")

    async def open_reader(self, key: str) -> Link:
        """Open a connection of its own to read a key by commands that block; the caller closes it.

        Raises:
            LinkError: the store is away.
        """
        if self._cluster is not None:
            return await self._cluster.open_reader(key)
        if self._node is None:
            raise LinkError("the store is not open")
        return await self._node.open_reader()

    def suspect(self) -> None:
        """Say that a reader was refused: its key may be elsewhere by now."""
        if self._cluster is not None:
            self._cluster.suspect()

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
        """Ask the servers what they are: primaries first, then the replicas that are known.

        Raises:
            PushError: the URL does not fit what stands there.
            StoreUnavailableError: a primary did not answer; the text says why.
        """
        try:
            return await survey(self._place, self.options.deadline_s)
        except (LinkError, TimeoutError) as error:
            message = f"The store at {describe(self._place)} is away: {str(error) or 'no answer'}"
            raise StoreUnavailableError(message) from error
