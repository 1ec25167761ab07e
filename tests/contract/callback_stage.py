"""The callbacks of a worker over a real store, and a project with devices."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry
from typing_extensions import override

from gateway.process import Clock as ProcessClock
from gateway.process import Entropy, RoleContext
from gateway.settings import Settings
from gateway.worker import app
from router.callbacks.endpoints import Endpoints
from router.model.mailbox import Ack
from router.model.webhook import Health, Webhook
from router.registration import Registered
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters
from router.store.exports import Exports
from router.store.outbox import Outbox
from router.store.webhooks import Webhooks
from tests.contract.router_stages import Stages, to
from tests.support.receiver import Receiver
from tests.support.valkey import opened_store
from tests.support.waiting import eventually


class WarpedClock(ProcessClock):
    """The machine's clock, and as far ahead of it as a test likes."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    @override
    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class CallbackStage(Stages):
    """Every stage, with webhooks."""

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__(store)
        self.settings = settings
        self.process_clock = WarpedClock()
        self.webhooks = Webhooks(store)
        self.exports = Exports(store)
        bounds = Bounds(settings.dead_letters, settings.dead_letter_retention_s * 1000)
        self.endpoints = Endpoints(
            self.webhooks,
            DeadLetters(store, bounds),
            Outbox(store),
            self.process_clock.now_ms,
            os.urandom,
            allow_private=True,
            backlog_bytes=settings.callback_backlog_bytes,
        )
        self._running: CollectorRegistry = self.registry

    async def webhook(self, receiver: Receiver, *events: Any) -> Webhook:
        """Set a receiver up."""
        made = await self.endpoints.create(self.project, receiver.url, events, "")
        receiver.secrets.append(made.secrets[0].value)
        return made

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Run a worker until the end of the block."""
        context = RoleContext(
            "worker-0", self.process_clock, Entropy(), CollectorRegistry(), lambda _: None
        )
        self._running = context.registry
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(app.run(self.settings, context))
            try:
                yield
            finally:
                context.stopping.set()
                await asyncio.wait({running}, timeout=20)

    def metric(self, name: str, **labels: str) -> float:
        """Read a metric of the worker."""
        return self._running.get_sample_value(name, labels) or 0.0

    async def until_failing(self, webhook: Webhook) -> Health:
        """Wait until an endpoint counts as failing, and give its health."""

        async def failing() -> bool:
            _, health = await self.endpoints.get(self.project, webhook.id)
            return health.failing_since_ms > 0

        found: bool = await eventually(failing)
        assert found
        return (await self.endpoints.get(self.project, webhook.id))[1]

    async def until_heard(self, device: Registered, check: Callable[[], bool]) -> None:
        """Send messages to a device until something is the case: workers learn of changes soon."""

        async def heard() -> bool:
            await self.sender.send(self.project, to(device))
            await asyncio.sleep(0.1)
            return check()

        found: bool = await eventually(heard)
        assert found

    async def delivered(self, device: Registered, count: int) -> list[str]:
        """Send messages to a device and ack them; give their ids."""
        shard = await self.shard()
        attached = await self.attach(device, shard)
        ids = [str(await self.sender.send(self.project, to(device))) for _ in range(count)]
        window = await self.mailboxes.fetch(
            device.device_id, attached.epoch, 0, self.clock.now_ms(), 128
        )
        assert window is not None
        now = self.clock.now_ms()
        acks = [Ack(pending.message, pending.seq, now) for pending in window.messages]
        await self.mailboxes.ack(device.device_id, attached.epoch, acks, now)
        return ids


@contextlib.asynccontextmanager
async def callback_stage(url: str, **settings: Any) -> AsyncIterator[CallbackStage]:
    """Open the stages on a store of their own."""
    chosen = msgspec.structs.replace(
        Settings(store_url=url, callback_allow_private=True, callback_timeout_s=2.0), **settings
    )
    async with opened_store(url, deadline_s=20.0) as store:
        yield CallbackStage(store, chosen)


async def until_receipts(receiver: Receiver, count: int, timeout_s: float = 15.0) -> None:
    """Wait for so many receipts."""
    await eventually(lambda: len(receiver.receipts) >= count, timeout_s)
