"""The registry of a shard and what it needs, over a real store; the devices' sockets are pipes."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator

from typing_extensions import override

from gateway.shard import dialects
from gateway.shard.acks import ShardLedger
from gateway.shard.connection import Connection
from gateway.shard.environment import Environment
from gateway.shard.events import SessionLimits, Tally
from gateway.shard.handshake import make_terms
from gateway.shard.registry import Registry
from gateway.shard.timer_wheel import TimerWheel
from router.model.hint import Deliver, Wake
from router.model.ids import ENTROPY_BYTES, DeviceId, MessageId, ShardId, new_device_id
from router.registration import Registered
from router.store import keys
from router.store.connection import Store
from sdk_client import wire
from tests.conformance.wire import CLOSE, JSON, TEXT, frame, opening_request, read_frames
from tests.contract.router_stages import Stages, to
from tests.support.waiting import eventually
from tests.unit.shard.pipe import Pipe


class Socket(Pipe):
    """A device and its socket: JSON maps in and out."""

    def __init__(self, environment: Environment[Connection]) -> None:
        super().__init__()
        self.heard: list[dict[str, object]] = []
        self.code = 0
        """Of the close frame, once there is one."""
        self.connection = Connection(environment)
        self.connection.connection_made(self)
        self.connection.data_received(opening_request())
        assert self.taken().startswith(b"HTTP/1.1 101 ")

    @override
    def abort(self) -> None:
        super().abort()
        asyncio.get_running_loop().call_soon(self.lose)

    def lose(self) -> None:
        """The socket is gone."""
        if self.connection._transport is not None:
            self.connection.connection_lost(None)

    def says(self, **fields: object) -> None:
        self.connection.data_received(frame(TEXT, json.dumps(fields).encode()))

    def hears(self, op: str) -> list[dict[str, object]]:
        """The frames of this kind that came so far."""
        frames, rest = read_frames(self.taken())
        assert not rest
        for each in frames:
            if each.opcode == CLOSE:
                self.code = each.code or 0
            elif each.opcode == TEXT:
                self.heard.append(wire.decode(each.payload.decode()))
        return [each for each in self.heard if each["op"] == op]

    async def hear(self, op: str) -> dict[str, object]:
        """Wait for a frame of this kind, and give the last one."""
        return (await eventually(lambda: self.hears(op)))[-1]

    async def closed(self) -> int:
        """Wait for the close frame and give its code."""

        def code() -> int:
            self.hears("")
            return self.code

        return await eventually(code)

    def messages(self) -> list[str]:
        return [str(each["id"]) for each in self.hears("message")]


class Parts:
    """The parts of one shard."""

    def __init__(self, store: Store, tasks: asyncio.TaskGroup, shard: ShardId) -> None:
        self.stages = Stages(store)
        now_ms = self.stages.clock.now_ms
        mailboxes, metrics = self.stages.mailboxes, self.stages.metrics
        self.shard = shard
        self.refusals: list[str] = []
        self.ledger = ShardLedger(self.stages.acks, mailboxes, now_ms)
        self.registry = Registry(
            shard, mailboxes, self.ledger, self.stages.routing, metrics, now_ms, tasks
        )
        self.limits = SessionLimits(shard=shard, tally=Tally())
        self.environment = Environment[Connection](
            services=self.registry,
            admit=self.registry.admit,
            refused=self.refusals.append,
            wheel=TimerWheel(now_ms()),
            now_ms=now_ms,
            terms=make_terms([JSON], "*"),
            dialects=dialects.discover(),
            limits=self.limits,
            max_frame_bytes=16_384,
            handshake_ms=10_000,
            slow_consumer_ms=30_000,
            max_sockets=100,
            emptied=lambda: None,
        )

    def connect(self, device: Registered, socket: Socket | None = None) -> Socket:
        """Send the connect frame, over a new socket unless one is named."""
        socket = socket or Socket(self.environment)
        socket.says(op="connect", credential=device.credential)
        return socket

    async def device(self) -> tuple[Registered, Socket]:
        """Register a device and bring it to its welcome."""
        device = await self.stages.register()
        socket = self.connect(device)
        await socket.hear("welcome")
        return device, socket

    async def send(self, device: Registered) -> MessageId:
        """Accept a message; its hint goes to whatever inbox there is."""
        return await self.stages.sender.send(self.stages.project, to(device))

    async def epoch(self, device: DeviceId) -> int:
        """The epoch of the device's newest session."""
        found = await self.stages.store.batch.call("HGET", keys.mailbox(device), "ep")
        assert isinstance(found, bytes)
        return int(found)

    def wake(self, device: DeviceId) -> None:
        """Give the session of a device the hint that something waits."""
        self.registry.dispatch([Wake(device, self.registry._devices[device].session.epoch)])

    def deliver(self, device: DeviceId, seq: int, message: str, epoch: int = 0) -> None:
        """Give the hint of a message, to the session of the device unless an epoch is named."""
        if not epoch:
            epoch = self.registry._devices[device].session.epoch
        expires_ms = self.stages.clock.now_ms() + 60_000
        body = wire.encode({"op": "message", "id": message})
        hint = Deliver(device, epoch, seq, MessageId(message), expires_ms, body)
        self.registry.dispatch([hint])

    async def connected(self, device: Registered) -> bool:
        """Whether the store has a route to the device."""
        kept = await self.stages.mailboxes.device(device.device_id)
        return kept is not None and kept.connected

    async def pending(self, device: Registered) -> int:
        kept = await self.stages.mailboxes.device(device.device_id)
        return 0 if kept is None else kept.pending

    def tick(self, ahead_ms: int) -> None:
        """Let time pass, and the timer wheel turn."""
        self.stages.clock.ahead_ms += ahead_ms
        now_ms = self.stages.clock.now_ms()
        for connection in self.environment.wheel.advance(now_ms):
            connection.tick(now_ms)


@contextlib.asynccontextmanager
async def open_parts(store: Store) -> AsyncIterator[Parts]:
    """Make the parts of a shard that has an inbox."""
    async with asyncio.TaskGroup() as tasks:
        shard = ShardId(f"s-{new_device_id(os.urandom(ENTROPY_BYTES))}")
        parts = Parts(store, tasks, shard)
        await parts.stages.inboxes.open(shard)
        yield parts
        await parts.ledger.flush()
