"""The app server with the API behind it, and the worker: the real stages over the model store."""

import asyncio
from collections.abc import Coroutine
from typing import Final, cast

import msgspec

from router.binding import Bindings
from router.bridge_terms import BridgeTerms
from router.bridges import discover
from router.contacts import Contacts
from router.model.errors import ErrorCode, PushError
from router.model.ids import DeviceId, MessageId, Partition, partition_of
from router.model.message import BridgeMode, BridgePolicy, Message, Priority
from router.redelivery import Redelivery
from router.registration import DeviceSpec, Registered, Registration
from router.routing import Routing
from router.send import Sender
from router.store.bridge_jobs import BridgeJobs
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.store.timers import BRIDGE, Timers
from tests.simulation.bridge_side import Everybody
from tests.simulation.context import PROJECT, Context
from tests.simulation.store import (
    InboxPort,
    LeasePort,
    MailboxPort,
    StorePort,
    StoreServer,
    TimerPort,
)

LONG_MS: Final = 3_600_000
_POLL_S: Final = 0.25
_BRIDGE_AFTER_MS: Final = 1_500
_POLICIES: Final = (
    *(BridgePolicy(), BridgePolicy(), BridgePolicy(after_s=0), BridgePolicy(after_s=3)),
    *(BridgePolicy(BridgeMode.ONLY), BridgePolicy(BridgeMode.NEVER)),
)


class NoContacts:
    """No device of the simulation says where a bridge reaches it."""

    async def claim(self, *_: object) -> list[DeviceId]:
        return []

    async def settle(self, *_: object) -> None:
        pass


class AppServer:
    """Sends to devices, rotates their tokens, takes messages back."""

    def __init__(self, context: Context, server: StoreServer, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._tasks = tasks
        mailboxes, routing = _stages(context, server, "api")
        entropy, now_ms = context.entropy, context.now_ms
        terms = BridgeTerms(discover(), Everybody(), _BRIDGE_AFTER_MS)
        self._sender = Sender(mailboxes, routing, context.metrics, now_ms, entropy, terms=terms)
        # No device of the simulation has a user: no list is asked for.
        bindings = Bindings(cast("Members", mailboxes), now_ms, entropy)
        contacts = cast("Contacts", NoContacts())
        self._registration = Registration(
            mailboxes, routing, now_ms, entropy, "local", bindings, contacts
        )
        self._tokens: dict[DeviceId, str] = {}
        self._sent = 0
        self.busy = 0
        """Calls under way."""
        tasks.create_task(self._sender.run())

    async def register(self) -> Registered:
        registered = await self._registration.register(PROJECT, DeviceSpec(platform="python"))
        self._tokens[registered.device_id] = registered.token
        return registered

    def send(self, device: DeviceId, *, lasting: bool = False) -> None:
        """Send one message of some kind, soon; a lasting one neither expires nor collapses."""
        self._sent += 1
        message = self._message(device)
        if lasting:
            message = msgspec.structs.replace(
                message, ttl_ms=LONG_MS, collapse_key="", send_at_ms=None, bridge=BridgePolicy()
            )
        self._begin(self._send(message, self._sent))

    def rotate(self, device: DeviceId) -> None:
        """Give a device a new token, soon."""
        self._begin(self._rotate(device))

    def _message(self, device: DeviceId) -> Message:
        rng, now_ms = self._context.rng, self._context.now_ms()
        ttl_ms = rng.choice([0, 700, 3_000, 10_000] + [LONG_MS] * 8)
        return Message(
            token=self._tokens[device],
            data={"n": str(self._sent), "filling": "x" * rng.choice([0, 0, 100])},
            ttl_ms=ttl_ms,
            collapse_key=rng.choice(["", "", "", "", "a", "b"]),
            priority=rng.choice(list(Priority)),
            send_at_ms=now_ms + rng.choice([500, 6_000]) if rng.random() < 0.1 else None,
            bridge=rng.choice(_POLICIES),
        )

    async def _send(self, message: Message, number: int) -> None:
        """Send; a failed one is repeated under its idempotency key, or given up without one."""
        context = self._context
        key = f"key-{number}" if context.happens(0.4) else ""
        while True:
            try:
                message_id = await self._sender.send(PROJECT, message, idempotency_key=key)
            except PushError as error:
                context.note("app server", f"message {number}: {error.code.name}")
                if error.code is ErrorCode.UNAVAILABLE and key:
                    await asyncio.sleep(context.rng.uniform(0.1, 1.0))
                    continue
                if error.code not in {ErrorCode.UNAVAILABLE, ErrorCode.UNREGISTERED}:
                    context.fail(f"message {number} was refused: {error.code.name}")
                return
            break
        context.note("app server", f"message {number} is {message_id}, ttl {message.ttl_ms}")
        context.checks.on_accepted(message_id, message.data or {}, key)
        if context.happens(0.05):
            await self._take_back(message_id)

    async def _take_back(self, message: MessageId) -> None:
        await asyncio.sleep(self._context.rng.uniform(0, 2))
        try:
            await self._sender.cancel(PROJECT, message)
        except PushError as error:
            self._context.note("app server", f"cancel {message}: {error.code.name}")

    async def _rotate(self, device: DeviceId) -> None:
        try:
            self._tokens[device] = await self._registration.rotate_token(PROJECT, device)
        except PushError as error:
            # It may have been rotated all the same: ask again until it is known.
            self._context.note("app server", f"rotate {device}: {error.code.name}")
            await asyncio.sleep(0.5)
            await self._rotate(device)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.create_task(self._counted(work))

    async def _counted(self, work: Coroutine[None, None, None]) -> None:
        self.busy += 1
        await work
        self.busy -= 1


class Worker:
    """Carries out timers; two of them may run at a time, for every step may be repeated."""

    def __init__(
        self, context: Context, server: StoreServer, devices: list[DeviceId], name: str
    ) -> None:
        self._context = context
        self._server = server
        self._name = name
        self._partitions: list[Partition] = sorted({partition_of(device) for device in devices})
        port = StorePort(context, server, name)
        mailboxes, routing = _over(context, port)
        self._redelivery = Redelivery(
            cast("Timers", TimerPort(port)),
            mailboxes,
            cast("Leases", LeasePort(port)),
            routing,
            context.metrics,
            context.now_ms,
            {BRIDGE: self._queue},
        )
        self._mailboxes = mailboxes
        self.paused_until = 0.0

    async def _queue(self, subject: str, now_ms: int) -> None:
        await cast("BridgeJobs", self._mailboxes).ready(subject, now_ms)

    async def run(self) -> None:
        context = self._context
        while True:
            await asyncio.sleep(context.rng.uniform(0.4, 1.0) * _POLL_S)
            if context.now() < self.paused_until:
                continue
            for partition in self._partitions:
                # A poll that finds nothing changes nothing: it is left out.
                if not self._server.due(partition, context.now_ms()):
                    continue
                try:
                    await self._redelivery.run_once(partition, self._name)
                except PushError:
                    await asyncio.sleep(context.rng.uniform(0, 0.5))


def _stages(context: Context, server: StoreServer, owner: str) -> tuple[Mailboxes, Routing]:
    return _over(context, StorePort(context, server, owner))


def _over(context: Context, port: StorePort) -> tuple[Mailboxes, Routing]:
    inboxes = cast("Inboxes", InboxPort(port))
    return cast("Mailboxes", MailboxPort(port)), Routing(inboxes, context.metrics)
