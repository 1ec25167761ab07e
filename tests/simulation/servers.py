"""The app server: it sends to devices, users, groups and topics, and changes what it may."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import msgspec

from router.cast import Casting
from router.model.audience import Audience, AudienceKind
from router.model.errors import ErrorCode, PushError
from router.model.ids import BROADCAST, DeviceId, GroupName, MessageId, TopicName
from router.model.message import BridgeMode, BridgePolicy, Message, Priority
from router.model.selection import Selection
from router.model.topic import SubscribeResult
from router.publish import Publication
from router.registration import DeviceSpec, Registered
from tests.simulation.api_side import ApiProcess, NoAnswerError, Stages
from tests.simulation.bridge_side import contact
from tests.simulation.context import PROJECT, Context
from tests.simulation.topic_checks import CONDITIONS, TOPICS

T = TypeVar("T")
LONG_MS: Final = 3_600_000
USERS: Final = ("anna", "bert")
GROUP: Final = GroupName("everybody")
_AUDIENCES: Final = (
    *(Audience(AudienceKind.USER, user) for user in USERS),
    Audience(AudienceKind.GROUP, GROUP),
)
_POLICIES: Final = (
    *(BridgePolicy(), BridgePolicy(), BridgePolicy(after_s=0), BridgePolicy(after_s=3)),
    *(BridgePolicy(BridgeMode.ONLY), BridgePolicy(BridgeMode.NEVER)),
)


class Apis(Protocol):
    """Where requests go."""

    def any_api(self) -> ApiProcess | None:
        """Give one that serves."""
        ...


class AppServer:
    """Sends, rotates tokens, takes messages back."""

    def __init__(self, context: Context, apis: Apis, tasks: asyncio.TaskGroup) -> None:
        self._context = context
        self._apis = apis
        self._tasks = tasks
        self._tokens: dict[DeviceId, str] = {}
        self._sent = 0
        self.busy = 0
        """Calls under way."""

    async def register(self, user: str) -> Registered:
        """Register a device of a user, before anything goes wrong."""
        spec = DeviceSpec(platform="python", user=user)
        found = await self._surely(lambda to: to.registration.register(PROJECT, spec))
        self._tokens[found.device_id] = found.token
        self._context.checks.topics.joined(found.device_id)
        self._context.checks.audiences.joined(f"/users/{user}", found.device_id)
        return found

    async def give_contact(self, device: DeviceId) -> None:
        """Say where a bridge reaches a device."""
        now_ms = self._context.now_ms()
        await self._surely(
            lambda to: to.mailboxes.update(device, PROJECT, {}, now_ms, contact(now_ms))
        )

    async def make_group(self) -> None:
        """Put all devices into a group."""
        tokens = list(self._tokens.values())
        await self._surely(lambda to: to.audiences.groups.create(PROJECT, GROUP, tokens))
        for device in self._tokens:
            self._context.checks.audiences.joined(f"/groups/{GROUP}", device)

    def send(self, device: DeviceId, *, lasting: bool = False) -> None:
        """Send one message of some kind, soon; a lasting one neither expires nor collapses."""
        self._sent += 1
        message = self._message(device)
        if lasting:
            message = _lasting(message)
        self._begin(self._send(message, self._sent))

    def send_to_many(self, *, lasting: bool = False) -> None:
        """Send one message to a user, a group, a topic, or whom a condition asks for."""
        self._sent += 1
        rng = self._context.rng
        message = self._message(None)
        if lasting:
            message = _lasting(message)
        kind = rng.choice(["audience", "topic", "topic", "condition"])
        change: dict[str, object] = {}
        if kind == "audience":
            change = {"audience": rng.choice(_AUDIENCES)}
        elif kind == "topic":
            change = {"topic": rng.choice(TOPICS), "bridge": BridgePolicy(BridgeMode.NEVER)}
        else:
            chosen = Selection(rng.choice(list(CONDITIONS)))
            change = {"selection": chosen, "bridge": BridgePolicy(BridgeMode.NEVER)}
        self._begin(self._send(msgspec.structs.replace(message, **change), self._sent))

    def rotate(self, device: DeviceId) -> None:
        """Give a device a new token, soon."""
        self._begin(self._rotate(device))

    def subscribe(self, device: DeviceId, topic: TopicName, *, subscribe: bool) -> None:
        """Change what a device subscribes to, soon."""
        self._begin(self._subscribe(device, topic, subscribe=subscribe))

    def _message(self, device: DeviceId | None) -> Message:
        rng = self._context.rng
        # The app server's own clock is right.
        now_ms = self._context.now_ms()
        ttl_ms = rng.choice([0, 700, 3_000, 10_000] + [LONG_MS] * 8)
        return Message(
            token="" if device is None else self._tokens[device],
            data={"n": str(self._sent), "filling": "x" * rng.choice([0, 0, 100])},
            ttl_ms=ttl_ms,
            collapse_key=rng.choice(["", "", "", "", "a", "b"]),
            priority=rng.choice(list(Priority)),
            send_at_ms=now_ms + rng.choice([500, 6_000]) if rng.random() < 0.1 else None,
            bridge=rng.choice(_POLICIES),
        )

    async def _send(self, message: Message, number: int) -> None:
        """Send; a failed one is repeated under its idempotency key, or given up without one."""
        context, topics = self._context, self._context.checks.topics
        key = f"key-{number}" if context.happens(0.4) else ""
        if message.bridge.mode is BridgeMode.ONLY:
            context.checks.for_bridges.add(str(number))
        if key:
            context.checks.keyed.add(str(number))
        begun = topics.begin()
        while True:
            try:
                message_id = await self._once(_call(message, key))
            except (PushError, NoAnswerError) as error:
                name = error.code.name if isinstance(error, PushError) else "no answer"
                context.note("app server", f"message {number}: {name}")
                if name in {"UNAVAILABLE", "no answer"} and key:
                    await asyncio.sleep(context.rng.uniform(0.1, 1.0))
                    continue
                if name not in {"UNAVAILABLE", "no answer", "UNREGISTERED"}:
                    context.fail(f"message {number} was refused: {name}")
                return
            break
        context.note("app server", f"message {number} is {message_id}, ttl {message.ttl_ms}")
        context.checks.on_accepted(message_id, message.data or {}, key)
        topics.accepted(message_id, message, begun)
        if context.happens(0.05):
            topics.taken_back(message_id)
            await self._take_back(message_id)

    async def _take_back(self, message: MessageId) -> None:
        await asyncio.sleep(self._context.rng.uniform(0, 2))
        try:
            await self._once(lambda to: to.sender.cancel(PROJECT, message))
        except (PushError, NoAnswerError) as error:
            self._context.note("app server", f"cancel {message}: {error!r}")

    async def _rotate(self, device: DeviceId) -> None:
        # Where nobody answers it may have been rotated all the same: ask until it is known.
        self._tokens[device] = await self._surely(
            lambda to: to.registration.rotate_token(PROJECT, device)
        )

    async def _subscribe(self, device: DeviceId, topic: TopicName, *, subscribe: bool) -> None:
        change = self._context.checks.topics.change(device, topic, subscribe=subscribe)
        token = self._tokens[device]
        try:
            (outcome,) = await self._once(
                lambda to: to.subscription.change_tokens(
                    PROJECT, topic, [token], subscribe=subscribe
                )
            )
        except (PushError, NoAnswerError):
            return  # it may yet be carried out: nothing is certain from here on
        if not isinstance(outcome, PushError):
            change.end(done=outcome is SubscribeResult.DONE)

    async def _once(self, call: Callable[[Stages], Awaitable[T]]) -> T:
        """Ask an API once.

        Raises:
            NoAnswerError: none serves, or it did not answer.
            PushError: what it answered.
        """
        api = self._apis.any_api()
        if api is None:
            await asyncio.sleep(0.1)
            raise NoAnswerError
        return await api.request(call)

    async def _surely(self, call: Callable[[Stages], Awaitable[T]]) -> T:
        """Ask until there is an answer."""
        while True:
            try:
                return await self._once(call)
            except NoAnswerError:
                continue
            except PushError as error:
                if error.code is not ErrorCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.5)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.create_task(self._counted(work))

    async def _counted(self, work: Coroutine[Any, Any, None]) -> None:
        self.busy += 1
        await work
        self.busy -= 1


def _lasting(message: Message) -> Message:
    return msgspec.structs.replace(
        message, ttl_ms=LONG_MS, collapse_key="", send_at_ms=None, bridge=BridgePolicy()
    )


def _call(message: Message, key: str) -> Callable[[Stages], Awaitable[MessageId]]:
    """Give the call that sends a message."""
    if (audience := message.audience) is not None:
        casting = Casting(audience, message, key)
        return lambda to: to.audiences.caster.cast(PROJECT, casting)
    if (topic := message.topic or (BROADCAST if message.selection else None)) is not None:
        publication = Publication(topic, message, key)
        return lambda to: to.publisher.publish(PROJECT, publication)
    return lambda to: to.sender.send(PROJECT, message, idempotency_key=key)
