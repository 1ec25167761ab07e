"""A shard's process: the real registry, sessions, acks and drain, over simulated sockets."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec
from typing_extensions import override

from gateway.process import Entropy
from gateway.shard.acks import ShardLedger
from gateway.shard.dialect import Dialect
from gateway.shard.drain import drain
from gateway.shard.events import Action, Close, Send, SessionLimits, Tally
from gateway.shard.handshake import Refusal
from gateway.shard.inbox import read_inbox
from gateway.shard.registry import Registry
from router.acks import Acks
from router.model.errors import CloseCode, PushError
from router.model.ids import ShardId
from router.routing import Routing
from router.store.inbox import Inboxes
from router.store.mailbox import Mailboxes
from tests.simulation.context import Context
from tests.simulation.network import HIGH_WATER, Closing, Item, Socket
from tests.simulation.store import InboxPort, LeasePort, MailboxPort, StorePort, StoreServer

LEASE_S: Final = 3.0
SLOW_CONSUMER_S: Final = 5.0
CLOSE_S: Final = 2.0
MAX_OVERRUN: Final = 4_096
DRAIN_S: Final = 2.0
_LARGEST_FRAME: Final = 512


class _Frame(msgspec.Struct, frozen=True):
    """What the checks read of a frame on its way to a device."""

    op: str
    id: str = ""
    sent_at: int = 0
    expires_at: int = 0


class SeededEntropy(Entropy):
    """The randomness of a process, from the seed."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @override
    def bytes(self, count: int) -> bytes:
        return self._context.entropy(count)

    @override
    def uniform(self, low: float, high: float) -> float:
        return self._context.rng.uniform(low, high)


class Peer:
    """The shard's end of a socket: does what `gateway.shard.connection` does, on whole messages."""

    def __init__(
        self, shard: "ShardProcess", socket: Socket, dialect: Dialect, number: int
    ) -> None:
        context = shard.context
        self.session = context.parts.shard_session(dialect, shard.limits, context.now_ms())
        self.open = True
        self.socket = socket
        self._shard = shard
        self._context = context
        self._number = number
        self._timer: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._overrun = 0
        socket.up.end = self
        socket.down.on_drained = self._drained
        self._arm()

    @override
    def __hash__(self) -> int:
        """The registry keeps peers in a set: their order there must not depend on addresses."""
        return self._number

    # What the registry asks.

    def carry_out(self, actions: Sequence[Action]) -> None:
        over, full = "", self._slow is not None
        parts: list[bytes | str] = []
        for action in actions:
            if type(action) is Send:
                parts.append(action.payload)
                continue
            self._write(parts, full=full)
            parts = []
            if type(action) is Close:
                over = over or self._close(action.code, action.reason)
            else:
                self._shard.registry.perform(self, action)
        self._write(parts, full=full)
        if over:
            self._end(over)
        elif self.open:
            self._watch()
            self._arm()

    def abort(self) -> None:
        self.socket.cut()

    # What the socket brings.

    def on_item(self, item: Item) -> None:
        if not self._shard.alive or not self.open:
            return
        if isinstance(item, Closing):
            self.open = False
            self._end("client_close")
            return
        self.carry_out(self.session.on_message(item, self._context.now_ms()))

    def on_gone(self) -> None:
        if self._shard.alive and self.open:
            self.open = False
            self._end("lost")

    # Inside.

    def _write(self, parts: Sequence[bytes | str], *, full: bool) -> None:
        """Write; `full` tells whether the session knew of a full buffer when it decided so."""
        if not self.open or not parts:
            return
        for payload in parts:
            self._inspect(payload, full=full)
        down = self.socket.down
        down.send(*parts)
        if self._slow is not None:
            self._overrun += sum(map(len, parts))
            if self._overrun > MAX_OVERRUN:
                self._drop_slow()
        elif down.buffered > HIGH_WATER:
            self._overrun = 0
            self._slow = self._context.loop.call_later(SLOW_CONSUMER_S, self._drop_slow)
            self.carry_out(self.session.on_writable(False, self._context.now_ms()))

    def _drained(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
            if self._shard.alive and self.open:
                self.carry_out(self.session.on_writable(True, self._context.now_ms()))

    def _drop_slow(self) -> None:
        if self._shard.alive and (over := self._close(CloseCode.SLOW_CONSUMER, "too slow")):
            self._end(over)

    def _close(self, code: CloseCode, reason: str) -> str:
        if not self.open:
            return ""
        self.open = False
        self._context.note(self.socket.name, f"closed with {code.value} {reason}")
        self.socket.down.send(Closing(code.value, reason))
        self._context.loop.call_later(CLOSE_S, self.socket.cut)
        return code.name.lower()

    def _end(self, reason: str) -> None:
        for timer in (self._timer, self._slow):
            if timer is not None:
                timer.cancel()
        for action in self.session.on_closed(self._context.now_ms()):
            self._shard.registry.perform(self, action)
        self._shard.registry.closed(self, reason)

    def _arm(self) -> None:
        at = self._context.at_ms(self.session.deadline_ms)
        if self._timer is not None:
            if not self._timer.cancelled() and self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._context.loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._shard.alive and self.open:
            self.carry_out(self.session.on_timer(self._context.now_ms()))

    # Checks.

    def _inspect(self, payload: bytes | str, *, full: bool) -> None:
        decode = msgspec.msgpack.decode if isinstance(payload, bytes) else msgspec.json.decode
        frame = cast("Callable[..., _Frame]", decode)(payload, type=_Frame)
        self._context.note(self.socket.name, f"← {frame.op} {frame.id}".rstrip())
        if frame.op == "message":
            checks, name = self._context.checks, self.socket.name
            checks.on_written(name, frame.id, frame.expires_at, frame.sent_at, full=full)

    def _watch(self) -> None:
        checks, window = self._context.checks, self._shard.limits.window
        checks.on_in_flight(self.socket.name, self.session.in_flight, window)
        limit = HIGH_WATER + (window + 1) * _LARGEST_FRAME + MAX_OVERRUN
        checks.on_buffered(self.socket.name, self.socket.down.buffered, limit)


class ShardProcess:
    """One life of a shard."""

    def __init__(
        self, context: Context, server: StoreServer, tasks: asyncio.TaskGroup, number: int
    ) -> None:
        self.context = context
        self.id = ShardId(f"shard-{number}")
        self.alive = True
        self.accepting = False
        scale, now_ms = context.scale, context.now_ms
        self.limits = SessionLimits(
            shard=self.id,
            tally=Tally(),
            window=scale.window,
            ack_timeout_ms=scale.ack_timeout_ms,
            heartbeat_ms=30_000,
            connect_timeout_ms=5_000,
            sent_after_ms=500,
            retry_ms=500,
            settle_ms=2_000,
            max_settled=64,
        )
        self._port = StorePort(context, server, self.id)
        mailboxes = cast("Mailboxes", MailboxPort(self._port))
        self._inboxes = cast("Inboxes", InboxPort(self._port))
        self._leases = LeasePort(self._port)
        self._ledger = ShardLedger(
            Acks(mailboxes, context.metrics, now_ms, limit=scale.max_acks), mailboxes, now_ms
        )
        routing = Routing(self._inboxes, context.metrics)
        self.registry = Registry(
            self.id, mailboxes, self._ledger, routing, context.metrics, now_ms, tasks
        )
        self._peers: list[Peer] = []
        self._life = tasks.create_task(self._live())

    def admit(self) -> Refusal | None:
        return self.registry.admit()

    def accept(self, socket: Socket, dialect: Dialect) -> None:
        """Take it that a handshake is done."""
        peer = Peer(self, socket, dialect, len(self._peers))
        self._peers.append(peer)
        self.registry.opened(peer)

    def stall(self, stall_s: float) -> None:
        """Have the store stand still for this shard alone."""
        self.context.note(self.id, f"cannot reach the store for {stall_s} s")
        self._port.stalled_until = self.context.now() + stall_s

    def kill(self) -> None:
        """Die without a word; the kernel closes the sockets, or the whole machine is gone."""
        self.alive = self.accepting = self._port.alive = False
        self._life.cancel()
        told = self.context.happens(0.7)
        self.context.note(self.id, f"dies, its sockets {'close' if told else 'fall silent'}")
        for peer in self._peers:
            peer.socket.cut(device_learns=told, shard_learns=False)

    async def drain(self) -> None:
        """Stop as on SIGTERM."""
        self.context.note(self.id, "drains")
        await drain(self, self.registry, self._ledger, SeededEntropy(self.context), DRAIN_S)
        try:
            async with asyncio.timeout(1.0):
                await self._leases.shard_drop(self.id)
                await self._inboxes.close(self.id)
        except (PushError, TimeoutError):
            self.context.note(self.id, "leaves its lease")
        self.kill()

    def stop_accepting(self) -> None:
        self.accepting = False

    async def close(self) -> None:
        for peer in self._peers:
            peer.abort()

    async def _live(self) -> None:
        while not self.accepting:
            try:
                await self._inboxes.open(self.id)
                await self._renew()
                self.accepting = True
            except PushError:
                await asyncio.sleep(0.2)
        metrics, now_ms = self.context.metrics, self.context.now_ms
        async with asyncio.TaskGroup() as mine:
            mine.create_task(read_inbox(self._inboxes, self.registry, metrics, now_ms))
            mine.create_task(self._hold_lease())

    async def _renew(self) -> None:
        await self._leases.shard_renew(self.id, b"", int(LEASE_S * 1000))

    async def _hold_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                await self._renew()
            except PushError:
                self.context.note(self.id, "cannot renew its lease")
