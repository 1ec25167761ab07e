"""Who is connected here: devices and their connections, and what sessions ask of the store.

Before: `gateway.shard.inbox`, which brings hints. After: `gateway.shard.connection`, which carries
out what sessions decide. Attaches and fetches run as tasks; there is a most of each, beyond which a
device is told to come back.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from gateway.shard.events import (
    Acked,
    Action,
    Attach,
    ChangeTopics,
    CursorsMoved,
    Detach,
    Engaged,
    Fetch,
    Nacked,
    ReadSubscriptions,
    ReadTopic,
    SaveCursors,
    Sent,
    State,
    TopicEngaged,
    Upstream,
)
from gateway.shard.handshake import Refusal
from gateway.shard.session import Session
from gateway.shard.topics import TopicIndex
from router.model.errors import PushError
from router.model.hint import Advance, AnyHint, Displace, Hint, Publish, Retract, Route, Wake
from router.model.ids import DeviceId, ShardId
from router.model.mailbox import Attached, AttachResult
from router.routing import Routing
from router.store.mailbox import Mailboxes
from router.telemetry.metrics import Metrics

MAX_ATTACHES: Final = 2_000
"""Attaches under way; one more device is told to try again later (1013)."""
MAX_FETCHES: Final = 1_000
"""Reads of mailboxes under way; one more session tries again a moment later."""
MAX_EARLY_HINTS: Final = 64
"""Hints that are kept for a device whose attach is under way."""
_BUSY_RETRY_S: Final = 2
_AWAY: Final = "The store is away; send it again."

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.registry")


class Peer(Protocol):
    """A connection as the registry sees it."""

    @property
    def session(self) -> Session:
        """Its session."""
        ...

    @property
    def open(self) -> bool:
        """Whether its session is alive."""
        ...

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what the session asks for."""
        ...

    def abort(self) -> None:
        """Drop the socket."""
        ...


Told = Acked | Nacked | Sent | Engaged


class Ledger(Protocol):
    """Where goes what sessions tell of their messages (`gateway.shard.acks`)."""

    def take(self, device: DeviceId, epoch: int, told: Told) -> None:
        """Store it, soon."""
        ...

    def detach(self, device: DeviceId, epoch: int) -> None:
        """Give up a route, soon."""
        ...

    async def settle(self, device: DeviceId, epoch: int) -> None:
        """Wait until what a session told so far is stored."""
        ...

    async def upstream(self, device: DeviceId, epoch: int, ref: str, data: bytes) -> bool:
        """Store a message to the app server; False where the session is no longer the device's."""
        ...


class _Early(msgspec.Struct):
    """Hints that came while an attach was under way, and how many attaches of the device are."""

    attaches: int = 0
    hints: list[Hint] = []


class Registry:
    """The sessions of one shard; implements `gateway.shard.connection.Services`.

    Args:
        shard: the id under which devices are attached.
        mailboxes: what sessions read.
        ledger: what sessions tell.
        routing: how other shards learn of displaced sessions.
        metrics: of this process.
        now_ms: the clock, epoch milliseconds.
        tasks: owns the calls of the store.
    """

    def __init__(
        self,
        shard: ShardId,
        mailboxes: Mailboxes,
        ledger: Ledger,
        routing: Routing,
        metrics: Metrics,
        now_ms: Callable[[], int],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.shard = shard
        self.draining = False
        self.topics: TopicIndex | None = None
        """Set once, before anybody connects."""
        self._mailboxes = mailboxes
        self._ledger = ledger
        self._routing = routing
        self._metrics = metrics
        self._now_ms = now_ms
        self._tasks = tasks
        self._open: set[Peer] = set()
        self._devices: dict[DeviceId, Peer] = {}
        self._early: dict[DeviceId, _Early] = {}
        self._attaches = 0
        self._fetches = 0

    def __len__(self) -> int:
        """Give how many sessions hold a socket, attached or not."""
        return len(self._open)

    def peers(self) -> list[Peer]:
        """Give all sessions' connections as they stand now."""
        return list(self._open)

    # What connections ask.

    def admit(self) -> Refusal | None:
        """Refuse a handshake while the shard drains or the store is behind with attaches."""
        if self.draining:
            return Refusal("draining", _BUSY_RETRY_S)
        if self._attaches >= MAX_ATTACHES:
            return Refusal("busy", _BUSY_RETRY_S)
        return None

    def opened(self, connection: Peer) -> None:
        """Take it that a handshake is done."""
        self._open.add(connection)
        self._metrics.connections.inc()

    def closed(self, connection: Peer, reason: str) -> None:
        """Take it that a session is over. One that was not `opened` holds no socket (the probe)."""
        device = connection.session.device
        if device is not None and self._devices.get(device) is connection:
            del self._devices[device]
        if self.topics is not None:
            self.topics.left(connection)
        if connection in self._open:
            self._open.discard(connection)
            self._metrics.connections.dec()
            self._metrics.disconnects.labels(reason).inc()

    def perform(self, connection: Peer, action: Action) -> None:
        """Carry out what is not the connection's: talk to the store."""
        session = connection.session
        device = session.device
        if device is None:
            return
        match action:
            case Acked() | Nacked() | Sent() | Engaged():
                self._ledger.take(device, session.epoch, action)
            case Fetch():
                self._fetch(connection, device, action)
            case Attach():
                self._attach(connection, action)
            case Upstream():
                self._start(
                    connection,
                    lambda: self._store_upstream(connection, device, action),
                    "upstream",
                )
            case Detach():
                self._ledger.detach(device, session.epoch)
            case (
                ReadTopic()
                | CursorsMoved()
                | SaveCursors()
                | ChangeTopics()
                | ReadSubscriptions()
                | TopicEngaged()
            ):
                if self.topics is not None:
                    self.topics.perform(connection, device, action)
            case _:
                raise TypeError(f"{type(action).__name__} is the connection's")

    # What the inbox brings.

    def dispatch(self, hints: Iterable[AnyHint]) -> None:
        """Give hints to the sessions that they are for; those of others are lost."""
        now_ms = self._now_ms()
        devices = self._devices
        for hint in hints:
            if isinstance(hint, Publish | Advance | Retract):
                if self.topics is not None:
                    self.topics.dispatch(hint)
                continue
            early = self._early.get(hint.device) if self._early else None
            if early is not None and len(early.hints) < MAX_EARLY_HINTS:
                early.hints.append(hint)
            if (peer := devices.get(hint.device)) is None:
                continue
            try:
                if actions := peer.session.on_hint(hint, now_ms):
                    peer.carry_out(actions)
            except Exception:  # noqa: BLE001 - one broken session must not stop the others' hints
                _log.exception("hint.failed", device=hint.device)
                peer.abort()

    # Calls of the store.

    def _start(
        self, connection: Peer, call: Callable[[], Coroutine[None, None, None]], name: str
    ) -> None:
        self._tasks.create_task(self._spare_others(connection, call), name=name)

    async def _spare_others(
        self, connection: Peer, call: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        try:
            await call()
        except Exception:  # noqa: BLE001 - one broken mailbox must not stop the shard
            _log.exception("session.failed", device=connection.session.device)
            connection.abort()

    def _attach(self, connection: Peer, action: Attach) -> None:
        if self._attaches >= MAX_ATTACHES:
            self._metrics.connects.labels("busy").inc()
            asyncio.get_running_loop().call_soon(self._unavailable, connection)
            return
        self._attaches += 1
        self._early.setdefault(action.device, _Early()).attaches += 1
        self._start(connection, lambda: self._run_attach(connection, action), "attach")

    async def _run_attach(self, connection: Peer, action: Attach) -> None:
        device = action.device
        attached: Attached | None = None
        try:
            attached = await self._mailboxes.attach(
                device,
                action.credential_hash,
                self.shard,
                self._now_ms(),
                action.limit,
                action.app_version,
            )
        except PushError:
            self._metrics.connects.labels("store_away").inc()
        finally:
            self._attaches -= 1
            early = self._early[device]
            early.attaches -= 1
            if not early.attaches:
                del self._early[device]
        if attached is None:
            self._unavailable(connection)
            return
        self._metrics.connects.labels(attached.result.value).inc()
        if attached.result is AttachResult.OVERTAKEN:
            self._unavailable(connection)
            return
        if attached.displaced is not None:
            self._displace(device, attached.displaced, for_good=connection.open)
        if not connection.open:
            if attached.result is AttachResult.ATTACHED:
                self._ledger.detach(device, attached.epoch)
            return
        connection.carry_out(connection.session.on_attached(attached, self._now_ms()))
        if connection.session.state is not State.CLOSED:
            self._devices[device] = connection
            if self.topics is not None:
                self.topics.joined(connection, attached.standing)
            self.dispatch([hint for hint in early.hints if hint.epoch == attached.epoch])

    def _displace(self, device: DeviceId, route: Route, *, for_good: bool) -> None:
        """End the session that an attach took the route from.

        Where that attach came late, of a connection that is gone, the session is the device's only
        one: it finds out that it is stale, and the device connects again.
        """
        hint = Displace(device, route.epoch) if for_good else Wake(device, route.epoch)
        if route.shard == self.shard:
            self.dispatch([hint])
        else:
            self._routing.hint(route, hint)

    def _fetch(self, connection: Peer, device: DeviceId, action: Fetch) -> None:
        if self._fetches >= MAX_FETCHES:
            asyncio.get_running_loop().call_soon(self._unavailable, connection)
            return
        self._fetches += 1
        self._start(connection, lambda: self._run_fetch(connection, device, action), "fetch")

    async def _run_fetch(self, connection: Peer, device: DeviceId, action: Fetch) -> None:
        session = connection.session
        try:
            await self._ledger.settle(device, session.epoch)
            window = await self._mailboxes.fetch(
                device, session.epoch, action.after_seq, self._now_ms(), action.limit
            )
        except PushError:
            self._unavailable(connection)
        else:
            if connection.open:
                connection.carry_out(session.on_fetched(window, self._now_ms()))
        finally:
            self._fetches -= 1

    async def _store_upstream(self, connection: Peer, device: DeviceId, action: Upstream) -> None:
        session = connection.session
        known, error = True, None
        try:
            known = await self._ledger.upstream(device, session.epoch, action.ref, action.data)
        except PushError:
            error = _AWAY
        if not known:
            error = "The session is over; connect again."
        if connection.open:
            connection.carry_out(session.on_done(action.ref, error, self._now_ms()))
        if connection.open and not known:
            # No hint tells of it. Left alone, the device would ask again for ever.
            connection.carry_out(session.on_stale())

    def _unavailable(self, connection: Peer) -> None:
        if connection.open:
            connection.carry_out(connection.session.on_unavailable(self._now_ms()))
