"""A shard's process: the real one, whose door leads to simulated sockets."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from typing_extensions import override

from gateway.settings import Settings
from gateway.shard.app import Shard
from gateway.shard.connection import Connection
from gateway.shard.dialect import Dialect
from gateway.shard.events import Action, Close, Relay, Send, SessionLimits
from gateway.shard.frames import TEXT
from gateway.shard.handshake import Refusal
from gateway.shard.listener import Listener
from gateway.shard.probe import Probe
from gateway.shard.registry import Registry
from gateway.shard.timer_wheel import TimerWheel
from router.model.errors import CloseCode
from router.model.ids import ENTROPY_BYTES, ShardId, new_device_id
from sdk_client.wire import MessageFrame
from tests.simulation.context import Context
from tests.simulation.network import HIGH_WATER, Closing, Item, Socket
from tests.simulation.process import STORE_URL, Process

LEASE_S: Final = 3.0
SLOW_CONSUMER_S: Final = 5.0
CLOSE_S: Final = 2.0
MAX_OVERRUN: Final = 4_096
DRAIN_S: Final = 2.0
_LARGEST_FRAME: Final = 512
_SHORT: Final = 125
"""The longest payload whose length stands in the second byte of its frame."""


class _Frame(msgspec.Struct, frozen=True):
    """What the checks read of a frame on its way to a device."""

    op: str
    id: str = ""
    sent_at: int = 0
    expires_at: int = 0
    topic: str = ""
    data: dict[str, str] = {}


def payloads(data: bytes) -> Iterator[bytes | str]:
    """Give what is in frames of WebSocket that were built for many."""
    at = 0
    while at < len(data):
        opcode, length = data[at] & 0x0F, data[at + 1]
        at += 2
        if length > _SHORT:
            size = 2 if length == _SHORT + 1 else 8
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        payload = data[at : at + length]
        yield payload.decode() if opcode == TEXT else payload
        at += length


class Peer:
    """The shard's end of a socket: does what `gateway.shard.connection` does, on whole messages."""

    def __init__(
        self, door: "Door", process: Process, socket: Socket, dialect: Dialect, number: int
    ) -> None:
        context = process.context
        self.session = context.parts.shard_session(dialect, door.limits, process.now_ms())
        self.open = True
        self.socket = socket
        self._door = door
        self._process = process
        self._context = context
        self._number = number
        self._armed_ms = 0
        self._slow: asyncio.TimerHandle | None = None
        self._overrun = 0
        socket.up.end = self
        socket.down.on_drained = lambda: process.enter(self._drained)
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
            if type(action) is Relay:
                parts += payloads(action.data)
                continue
            self._write(parts, full=full)
            parts = []
            if type(action) is Close:
                over = over or self._close(action.code, action.reason)
            else:
                self._door.registry.perform(self, action)
        self._write(parts, full=full)
        if over:
            self._end(over)
        elif self.open:
            self._watch()
            self._arm()

    def abort(self) -> None:
        self.socket.cut(shard_learns=False)
        self._context.loop.call_soon(self._lost)

    # What the socket brings.

    def on_item(self, item: Item) -> None:
        self._process.enter(lambda: self._take(item))

    def on_gone(self) -> None:
        self._process.enter(self._lost)

    def _take(self, item: Item) -> None:
        if not self.open:
            return
        if isinstance(item, Closing):
            self.open = False
            self._end("client_close")
            return
        self.carry_out(self.session.on_message(item, self._process.now_ms()))

    def _lost(self) -> None:
        if self.open:
            self.open = False
            self._end("lost")

    def tick(self, now_ms: int) -> None:
        """Take it that the wheel has given this one."""
        self._armed_ms = 0
        if self.open:
            if 0 < self.session.deadline_ms <= now_ms:
                self.carry_out(self.session.on_timer(now_ms))
            self._arm()

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
            self.carry_out(self.session.on_writable(False, self._process.now_ms()))

    def _drained(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
            if self.open:
                self.carry_out(self.session.on_writable(True, self._process.now_ms()))

    def _drop_slow(self) -> None:
        if over := self._close(CloseCode.SLOW_CONSUMER, "too slow"):
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
        if self._slow is not None:
            self._slow.cancel()
        self._door.wheel.disarm(self, self._armed_ms)
        self._armed_ms = 0
        for action in self.session.on_closed(self._process.now_ms()):
            self._door.registry.perform(self, action)
        self._door.registry.closed(self, reason)

    def _arm(self) -> None:
        if self.open and self.session.deadline_ms:
            self._armed_ms = self._door.wheel.arm(self, self.session.deadline_ms, self._armed_ms)

    # Checks.

    def _inspect(self, payload: bytes | str, *, full: bool) -> None:
        decode = msgspec.msgpack.decode if isinstance(payload, bytes) else msgspec.json.decode
        frame = cast("Callable[..., _Frame]", decode)(payload, type=_Frame)
        self._context.note(self.socket.name, f"← {frame.op} {frame.id}".rstrip())
        if frame.op == "message":
            told = MessageFrame(
                frame.id, frame.sent_at, frame.expires_at, topic=frame.topic, data=frame.data
            )
            name, now_ms = self.socket.name, self._process.now_ms()
            self._context.checks.on_written(name, told, now_ms, full=full)

    def _watch(self) -> None:
        checks, window = self._context.checks, self._door.limits.window
        checks.on_in_flight(self.socket.name, self.session.in_flight, window)
        limit = HIGH_WATER + (window + 1) * _LARGEST_FRAME + MAX_OVERRUN
        checks.on_buffered(self.socket.name, self.socket.down.buffered, limit)


class Door(Listener):
    """The real listener, with its clock and its wheel, and without a port."""

    def __init__(
        self,
        process: Process,
        settings: Settings,
        registry: Registry,
        dialects: Mapping[str, Dialect],
        limits: SessionLimits,
    ) -> None:
        super().__init__(settings, registry, dialects, limits, process, process.context.metrics)
        self.limits = limits
        self.registry = registry
        self.accepting = False
        self._process = process
        self._peers = 0

    @property
    def wheel(self) -> TimerWheel[Peer]:
        return cast("TimerWheel[Peer]", self._wheel)

    @override
    async def _open(self, host: str, device_port: int, tls: object) -> int:
        self.accepting = True
        return 1

    @override
    def stop_accepting(self) -> None:
        self.accepting = False

    def admit(self) -> Refusal | None:
        return self._admit()

    def accept(self, socket: Socket, dialect: Dialect) -> None:
        """Take it that a handshake is done."""
        self._peers += 1
        self.registry.opened(
            cast("Connection", Peer(self, self._process, socket, dialect, self._peers))
        )


class _NoProbe:
    """Stands where the probe does: what it looks at is looked at by the checks."""

    probe_ms = 0

    async def run(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class SimulatedShard(Shard):
    """One life of a shard under one id, as the process makes it."""

    def __init__(self, process: Process, settings: Settings, *given: Any) -> None:
        super().__init__(settings, *given)
        context = process.context
        limits = SessionLimits(
            shard=self._name,
            tally=self._tally,
            window=settings.window,
            ack_timeout_ms=context.scale.ack_timeout_ms,
            heartbeat_ms=30_000,
            connect_timeout_ms=5_000,
            sent_after_ms=500,
            retry_ms=500,
            settle_ms=2_000,
            max_settled=64,
        )
        dialects = context.dialects
        self.door = Door(process, settings, self._registry, dialects, limits)
        self._listener = self.door
        self._probe = cast("Probe", _NoProbe())
        self._ledger._acks._limit = context.scale.max_acks


class ShardProcess(Process):
    """A shard's process: one life of a shard after another, as `gateway.shard.app.run`."""

    def __init__(self, context: Context, number: int, skew_ms: int) -> None:
        super().__init__(context, f"shard-{number}", skew_ms)
        self._role = self.role()
        self._shard: SimulatedShard | None = None
        self.sockets: list[Socket] = []
        self.run(self._live())

    @property
    def accepting(self) -> bool:
        return self.alive and self._shard is not None and self._shard.door.accepting

    @property
    def draining(self) -> bool:
        return self._role.stopping.is_set()

    def admit(self) -> Refusal | None:
        assert self._shard is not None
        return self._shard.door.admit()

    def accept(self, socket: Socket, dialect: Dialect) -> None:
        """Have the process take it that a handshake is done."""
        self.sockets.append(socket)
        door = self._shard.door if self._shard is not None else None
        if door is not None:
            self.enter(lambda: door.accept(socket, dialect))

    def die(self) -> None:
        """Die without a word; the kernel closes the sockets, or the whole machine is gone."""
        told = self.context.happens(0.7)
        self.context.note(self.name, f"dies, its sockets {'close' if told else 'fall silent'}")
        self.kill()
        for socket in self.sockets:
            socket.cut(device_learns=told, shard_learns=False)

    def drain(self) -> None:
        """Stop as on SIGTERM."""
        self.context.note(self.name, "drains")
        self.enter(self._role.stopping.set)

    async def _live(self) -> None:
        context, role = self.context, self._role
        settings = Settings(
            store_url=STORE_URL,
            window=context.scale.window,
            lease_s=LEASE_S,
            drain_s=DRAIN_S,
            slow_consumer_s=SLOW_CONSUMER_S,
            ack_timeout_s=context.scale.ack_timeout_ms / 1000,
        )
        async with self.store() as store:
            while not role.stopping.is_set():
                name = ShardId(f"{self.name}-{new_device_id(self.entropy.bytes(ENTROPY_BYTES))}")
                async with asyncio.TaskGroup() as tasks:
                    self._shard = SimulatedShard(self, settings, role, store, name, tasks)
                    await self._shard.serve()
        context.note(self.name, "ends")
        self.kill()
        for socket in self.sockets:
            socket.cut(shard_learns=False)
