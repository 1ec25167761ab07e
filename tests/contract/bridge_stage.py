"""The engine of bridges over a real store and strict providers, wired as a worker wires it."""

import asyncio
import base64
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from gateway.api.endpoints import dead_letters_of, endpoints_of
from gateway.process import Entropy, RoleContext
from gateway.settings import Settings
from gateway.worker.bridges import Bridges, bridges_of
from router.bridges import discover
from router.bridging.dead import AllDeadLetters
from router.bridging.directory import context_of
from router.bridging.letters import endpoint_of
from router.model.bridge_state import Suspension
from router.model.device import Contact, Device
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    all_partitions,
    new_device_id,
    new_message_id,
    partition_of,
)
from router.model.lane import LANE_OF
from router.model.mailbox import Envelope
from router.model.message import Message, Notification, Priority
from router.model.status import MessageStatus
from router.model.webhook import DeadLetter
from router.policy.frame import message_frame
from router.policy.sealing import NONCE_BYTES, Keyring
from router.policy.webpush_keys import new_private_key, public_key
from router.store import keys
from router.store.bridge_credentials import BridgeCredentials
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.timers import BRIDGE, Timers
from tests.contract.callback_stage import WarpedClock
from tests.support.bridges import apns_credentials, ec_key, fcm_credentials, rsa_key
from tests.support.certificate import make_certificate
from tests.support.providers.apns import ApnsProvider
from tests.support.providers.faults import Faults
from tests.support.providers.fcm import FcmProvider
from tests.support.providers.webpush import Browser, WebpushService
from tests.support.valkey import opened_store
from tests.support.waiting import eventually

WORKER = "bridges-worker"
KEY = b"k" * 32
VAPID = new_private_key(b"v" * 32)
NONCE = "n" * 16
TOKEN = "unused"  # noqa: S105 - of nobody
KINDS = discover()


class Providers:
    """All three, by one clock."""

    def __init__(self, folder: Path, clock: WarpedClock) -> None:
        certificate = make_certificate(folder)

        def now_s() -> float:
            return clock.now_ms() / 1000

        self.ca = certificate[0].read_text()
        self.apns = ApnsProvider(certificate, ec_key().public_key(), now_s=now_s)
        self.fcm = FcmProvider(rsa_key().public_key(), now_s=now_s)
        self.web = WebpushService(certificate, now_s=now_s)
        self.context = ssl.create_default_context(cadata=self.ca)

    def setup(self, bridge: str) -> dict[str, Any]:
        """What a project would set up."""
        if bridge == "apns":
            return apns_credentials(endpoint=self.apns.server.url, ca=self.ca)
        if bridge == "fcm":
            return fcm_credentials(f"{self.fcm.url}/token", endpoint=self.fcm.url)
        own = {"private_key": VAPID, "subject": "mailto:ops@example.com"}
        return {**own, "endpoint": self.web.url, "ca": self.ca}

    def address(self, bridge: str, number: int) -> dict[str, Any]:
        """One more address of a kind."""
        if bridge == "apns":
            return {"type": "apns", "token": f"{number:064x}"}
        if bridge == "fcm":
            return {"type": "fcm", "token": f"fcm-token-of-device-{number:08d}"}
        return {"type": "webpush", "subscription": self.browser().to_json()}

    def faults(self, bridge: str) -> Faults:
        """What the next requests to a provider meet."""
        return {"apns": self.apns.faults, "fcm": self.fcm.faults, "webpush": self.web.faults}[
            bridge
        ]

    def browser(self) -> Browser:
        return self.web.subscribe(public_key(VAPID))


class BridgeStage:
    """A project with bridges and devices, and the engine."""

    def __init__(self, store: Store, providers: Providers, settings: Settings) -> None:
        self.store, self.providers, self.settings = store, providers, settings
        self.clock: WarpedClock
        self.project = ProjectId(f"p-{new_device_id(os.urandom(10))}")
        self.mailboxes, self.messages = Mailboxes(store), Messages(store)
        self.kept, self.timers, self.leases = BridgeCredentials(store), Timers(store), Leases(store)
        self.letters = DeadLetters(store, Bounds(1000, 86_400_000))
        self.registry = CollectorRegistry()
        self.engine: Bridges
        self.exits: contextlib.AsyncExitStack
        self.is_running = False
        self._numbers = iter(range(1, 1_000_000))
        self._keys = Keyring([KEY])

    async def setup(self, bridge: str, **changes: Any) -> None:
        """Set a bridge of the project up."""
        made = KINDS[bridge].credentials({**self.providers.setup(bridge), **changes})
        plain = msgspec.json.encode(msgspec.to_builtins(made))
        sealed = self._keys.seal(plain, context_of(self.project, bridge), os.urandom(NONCE_BYTES))
        assert await self.kept.put(self.project, bridge, sealed, self.clock.now_ms())
        await self.look_anew()

    async def look_anew(self) -> None:
        """Let the engine learn of changes now, not within a second."""
        if self.is_running:
            await self.engine._directory.refresh()

    async def device(
        self, bridge: str, address: dict[str, Any] | None = None, age_ms: int = 1000
    ) -> DeviceId:
        """Register a device that is not connected."""
        device = new_device_id(os.urandom(10))
        await self.register(device, bridge, address, age_ms)
        return device

    async def register(
        self,
        device: DeviceId,
        bridge: str,
        address: dict[str, Any] | None = None,
        age_ms: int = 0,
    ) -> None:
        given = address or self.providers.address(bridge, next(self._numbers))
        stored = msgspec.json.encode(msgspec.to_builtins(KINDS[bridge].address(given))).decode()
        since_ms = self.clock.now_ms() - age_ms
        contact = Contact(bridge, stored, since_ms, since_ms + 10**10)
        of = Device(device, self.project, "ios")
        assert await self.mailboxes.register(of, NONCE, "h", since_ms, contact)

    async def send(
        self,
        device: DeviceId,
        *,
        ttl_ms: int = 3_600_000,
        priority: Priority = Priority.NORMAL,
        only: bool = False,
        **fields: Any,
    ) -> MessageId:
        """Accept a message, as the API does."""
        partition, now_ms = partition_of(device), self.clock.now_ms()
        identifier = new_message_id(partition, now_ms, os.urandom(10))
        fields.setdefault("notification", Notification("Title", "Body"))
        message = Message(token=TOKEN, priority=priority, **fields)
        policy = f"{LANE_OF[priority].value}|" + ("o" if only else "0")
        sent = await self.mailboxes.enqueue(
            Envelope(
                project=self.project,
                partition=partition,
                device=device,
                nonce=NONCE,
                frame=message_frame(message, identifier, now_ms, now_ms + ttl_ms),
                now_ms=now_ms,
                expires_ms=now_ms + ttl_ms,
                message=identifier,
                bridge=policy,
            )
        )
        assert sent.seq >= 0
        return identifier

    async def push(self, bridge: str, **fields: Any) -> MessageId:
        """Send to a device of its own, and let the engine have it."""
        message = await self.send(await self.device(bridge), **fields)
        await self.due(message)
        return message

    async def due(self, *messages: MessageId) -> None:
        """Have the jobs of messages queued, as their timers would."""
        for message in messages:
            await self.engine.dispatch.ready(message, self.clock.now_ms())

    async def pass_time(self, seconds: float) -> None:
        """Let so much time go by, and carry out the bridges' timers that are due then."""
        self.clock.ahead_ms += int(seconds * 1000)
        for partition in all_partitions():
            due = await self.timers.due(partition, WORKER, self.clock.now_ms(), 128)
            for kind, subject in due:
                if kind == BRIDGE:
                    await self.engine.dispatch.ready(subject, self.clock.now_ms())

    async def status(self, message: MessageId) -> MessageStatus:
        found = await self.messages.status(message)
        assert found is not None
        return found

    async def events(self, message: MessageId) -> list[str]:
        timeline = (await self.status(message)).timeline
        return [
            f"{entry.event.value}: {entry.detail}" if entry.detail else entry.event.value
            for entry in timeline
        ]

    async def until(self, message: MessageId, event: str) -> list[str]:
        """Wait for an event, and give all."""

        async def seen() -> list[str]:
            found = await self.events(message)
            return found if any(each.startswith(event) for each in found) else []

        found: list[str] = await eventually(seen)
        return found

    async def until_settled(self) -> None:
        """Wait until nothing is under way, and nothing that waits may go."""
        dispatch = self.engine.dispatch

        def settled() -> bool:
            return not dispatch._held and not dispatch._queues.plan(1, dispatch._room)

        await eventually(settled)

    async def tries(self, message: MessageId) -> list[str]:
        """Give the reasons in the history of a message."""
        raw = await self.store.batch.call("HGET", keys.message(message), "bh")
        return [one["reason"] for one in msgspec.json.decode(raw)] if isinstance(raw, bytes) else []

    async def attempts(self, message: MessageId) -> int:
        raw = await self.store.batch.call("HGET", keys.message(message), "ba")
        return int(raw) if isinstance(raw, bytes) else 0

    async def status_device(self, message: MessageId) -> DeviceId:
        return (await self.status(message)).device

    async def has_bridge(self, device: DeviceId) -> bool:
        return bool(await self.mailboxes.bridge_of(device))

    async def dead(self, bridge: str) -> Sequence[DeadLetter]:
        endpoint = endpoint_of(self.project, bridge)
        ids = [identifier for _, identifier in await self.letters.ids(endpoint)]
        return await self.letters.get(endpoint, ids)

    def dead_letters(self) -> AllDeadLetters:
        """What a project does with them, as the API wires it."""
        endpoints = endpoints_of(self.settings, self.store, self.clock, Entropy())
        return dead_letters_of(self.settings, self.store, self.clock, endpoints)

    async def suspended(self, bridge: str) -> dict[str, Suspension]:
        found = await self.kept.get(self.project, bridge)
        assert found is not None
        return found.state.suspended

    async def restart(self) -> None:
        """Stop the engine and start another one."""
        await self.exits.aclose()
        await self.exits.enter_async_context(running(self))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def bridge_stage(
    url: str, folder: Path, bridges: Sequence[str] = ("apns", "fcm", "webpush"), **settings: Any
) -> AsyncIterator[BridgeStage]:
    """Run the engine without a worker around it: tests say when timers are due."""
    chosen = msgspec.structs.replace(
        Settings(
            store_url=url,
            callback_allow_private=True,
            secret_key=base64.b64encode(KEY).decode(),
            bridge_timeout_s=5.0,
        ),
        **settings,
    )
    clock = WarpedClock()
    providers = Providers(folder, clock)
    async with (
        opened_store(url, deadline_s=20.0) as store,
        providers.apns.server,
        providers.fcm,
        providers.web,
    ):
        stage = BridgeStage(store, providers, chosen)
        stage.clock = clock
        for bridge in bridges:
            await stage.setup(bridge)
        async with contextlib.AsyncExitStack() as exits:
            stage.exits = exits
            await exits.enter_async_context(running(stage))
            yield stage


@contextlib.asynccontextmanager
async def running(stage: BridgeStage) -> AsyncIterator[None]:
    """Run an engine that owns every partition."""
    stage.registry = CollectorRegistry()
    context = RoleContext(WORKER, stage.clock, Entropy(), stage.registry, lambda _: None)
    owned = frozenset(all_partitions())
    for partition in all_partitions():
        assert await stage.leases.partition_acquire(partition, WORKER, 600_000)
    stage.engine = bridges_of(stage.settings, context, stage.store, WORKER, lambda: owned)
    async with asyncio.TaskGroup() as tasks:
        engine = tasks.create_task(stage.engine.run(context.stopping))
        stage.is_running = True
        await stage.look_anew()
        try:
            yield
        finally:
            context.stopping.set()
            await asyncio.wait({engine}, timeout=20)
            for partition in all_partitions():
                await stage.leases.partition_release(partition, WORKER)
