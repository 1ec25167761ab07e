"""The probe: a hidden device of this shard that is sent a message every two seconds.

It goes the whole way of a message: enqueue, route, inbox, registry, session, ack, mailbox empty
again. Nothing of it is assumed: only a message that came through counts, and for a while only. It
takes the critical lane: behind a fan-out to everybody it would come late, and a shard that is busy
would be taken for one that is broken, and its devices sent to the others.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from gateway.process import Clock, Entropy
from gateway.shard.dialect import AckFrame, Connect, Dialect
from gateway.shard.events import Action, Close, Send, SessionLimits
from gateway.shard.registry import Registry
from gateway.shard.session import Session
from router.model.device import Device
from router.model.errors import PushError
from router.model.hint import Deliver
from router.model.ids import (
    ENTROPY_BYTES,
    SECRET_BYTES,
    MessageId,
    ProjectId,
    new_credential,
    new_device_id,
    new_message_id,
    new_token,
    partition_of,
    secret_hash,
)
from router.model.lane import Lane
from router.model.mailbox import Envelope
from router.model.message import Priority
from router.routing import Routing
from router.store.mailbox import Mailboxes
from router.telemetry.metrics import Metrics
from sdk_client.wire import encode

PROJECT: Final = ProjectId("_probe")
"""No project of a user can have this name."""
INTERVAL_S: Final = 2.0
TIMEOUT_S: Final = 4.0
TTL_MS: Final = 10_000
KEPT_MS: Final = 600_000
"""A shard that is killed leaves its probe's device behind for so long."""
_POLL_S: Final = 0.02

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.probe")
_frames: Final = msgspec.msgpack.Encoder()


class _Head(msgspec.Struct, frozen=True, gc=False):
    op: str
    id: str = ""


class ProbePeer:
    """A device without a socket: acks whatever it is sent.

    Args:
        registry: where it is connected.
        dialect: msgpack, as most devices.
        limits: what all sessions share.
        clock: wall time.
    """

    def __init__(
        self, registry: Registry, dialect: Dialect, limits: SessionLimits, clock: Clock
    ) -> None:
        self.session = Session(dialect, limits, clock.now_ms())
        self.open = True
        self.welcomed = asyncio.Event()
        self._last = ""
        self._arrived = asyncio.Event()
        self._registry = registry
        self._clock = clock

    def connect(self, credential: str) -> None:
        """Send the connect frame."""
        self._say(_frames.encode(Connect(credential, sdk="probe")))

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Act as connection and device in one."""
        for action in actions:
            if isinstance(action, Send):
                self._hear(action.payload)
            elif isinstance(action, Close):
                self.close(action.code.name.lower())
            else:
                self._registry.perform(self, action)

    def tick(self) -> None:
        """Be alive, and let the session look at its clock."""
        now_ms = self._clock.now_ms()
        self.session.on_alive(now_ms)
        if self.session.deadline_ms <= now_ms:
            self.carry_out(self.session.on_timer(now_ms))

    def abort(self) -> None:
        """End the session."""
        self.close("lost")

    def close(self, reason: str) -> None:
        """End the session, once."""
        if self.open:
            self.open = False
            self.carry_out(self.session.on_closed(self._clock.now_ms()))
            self._registry.closed(self, reason)

    async def heard(self, message: str) -> None:
        """Wait for a message."""
        while self._last != message:
            self._arrived.clear()
            await self._arrived.wait()

    def _hear(self, payload: bytes | str) -> None:
        head = msgspec.msgpack.decode(payload, type=_Head) if isinstance(payload, bytes) else None
        if head is not None and head.op == "welcome":
            self.welcomed.set()
        elif head is not None and head.op == "message":
            self._last = head.id
            self._arrived.set()
            self._say(_frames.encode(AckFrame([head.id])))

    def _say(self, payload: bytes) -> None:
        self.carry_out(self.session.on_message(payload, self._clock.now_ms()))


class Probe:
    """Probes one shard for as long as it runs.

    Args:
        registry: the shard's sessions.
        mailboxes: the store's side.
        routing: how a send hints to this shard.
        metrics: where the outcome stands.
        clock: wall time.
        entropy: ids and secrets.
        session: what the probe's session is made of.
    """

    def __init__(
        self,
        registry: Registry,
        mailboxes: Mailboxes,
        routing: Routing,
        metrics: Metrics,
        clock: Clock,
        entropy: Entropy,
        session: tuple[Dialect, SessionLimits],
    ) -> None:
        self.probe_ms = 0
        """When a message last came through, epoch milliseconds."""
        self._registry = registry
        self._mailboxes = mailboxes
        self._routing = routing
        self._metrics = metrics
        self._clock = clock
        self._entropy = entropy
        self._dialect, self._limits = session
        self._device = new_device_id(entropy.bytes(ENTROPY_BYTES))
        self._nonce = new_token("probe", self._device, entropy.bytes(ENTROPY_BYTES)).nonce
        self._credential = str(new_credential(self._device, entropy.bytes(SECRET_BYTES)))
        self._registered = False
        self._peer: ProbePeer | None = None
        self._failed = False

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await self._round()
            await asyncio.sleep(INTERVAL_S)

    async def stop(self) -> None:
        """Take the device away again."""
        if self._peer is not None:
            self._peer.close("going_away")
        with contextlib.suppress(PushError):
            await self._mailboxes.unregister(self._device, PROJECT, self._clock.now_ms())

    async def _round(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._once()
        except (TimeoutError, PushError) as error:
            self._metrics.probe.set(0)
            if not self._failed:
                _log.warning("probe.failed", reason=str(error) or "time-out")
            self._failed = True
            self._start_over()
        else:
            self.probe_ms = self._clock.now_ms()
            self._metrics.probe.set(1)
            if self._failed:
                _log.info("probe.recovered")
            self._failed = False

    def _start_over(self) -> None:
        """Assume nothing: a crash of the store may have taken registration and route."""
        self._registered = False
        if self._peer is not None:
            self._peer.close("lost")

    async def _once(self) -> None:
        peer = await self._connected()
        peer.tick()
        now_ms = self._clock.now_ms()
        partition = partition_of(self._device)
        message = new_message_id(partition, now_ms, self._entropy.bytes(ENTROPY_BYTES))
        envelope = self._envelope(message, now_ms)
        enqueued = await self._mailboxes.enqueue(envelope, urgent=True)
        if (route := enqueued.route) is not None:
            hint = Deliver(
                self._device,
                route.epoch,
                enqueued.seq,
                message,
                envelope.expires_ms,
                envelope.frame,
                Lane.CRITICAL,
            )
            self._routing.hint(route, hint)
        await peer.heard(message)
        while await self._pending():  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(_POLL_S)
        await self._mailboxes.forget_status(message)

    def _envelope(self, message: MessageId, now_ms: int) -> Envelope:
        expires_ms = now_ms + TTL_MS
        frame = {
            "op": "message",
            "id": message,
            "sent_at": now_ms,
            "expires_at": expires_ms,
            "priority": Priority.CRITICAL.value,
        }
        return Envelope(
            project=PROJECT,
            partition=partition_of(self._device),
            device=self._device,
            nonce=self._nonce,
            message=message,
            frame=encode(frame),
            now_ms=now_ms,
            expires_ms=expires_ms,
        )

    async def _connected(self) -> ProbePeer:
        """Give the session, a new one where the last one ended."""
        if not self._registered:
            now_ms = self._clock.now_ms()
            device = Device(self._device, PROJECT, "probe", created_ms=now_ms, nonce=self._nonce)
            hashed = secret_hash(self._credential)
            await self._mailboxes.register(device, self._nonce, hashed, now_ms)
            self._registered = True
        await self._mailboxes.keep_for(self._device, KEPT_MS)
        if self._peer is None or not self._peer.open:
            self._peer = ProbePeer(self._registry, self._dialect, self._limits, self._clock)
            self._peer.connect(self._credential)
        await self._peer.welcomed.wait()
        return self._peer

    async def _pending(self) -> int:
        device = await self._mailboxes.device(self._device)
        return device.pending if device is not None else 0
