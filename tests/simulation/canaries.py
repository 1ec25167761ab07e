"""Planted defects: each was made before, somewhere, and must not get past the checks."""

from collections.abc import Sequence
from typing import Final

import msgspec
from typing_extensions import override

from gateway.shard.events import Action
from gateway.shard.session import Session as ShardSession
from router.model.hint import Deliver, Hint
from router.model.ids import Partition
from router.model.mailbox import Pending
from router.receipts import WINDOW, Receipts
from router.store.library import Library
from sdk_client.events import Action as SdkAction
from sdk_client.inbox import Inbox
from sdk_client.session import Session as SdkSession
from sdk_client.wire import MessageFrame
from tests.simulation.context import Parts

_FOREVER_MS: Final = 2**50


# Of the shard's session.


class ForgetsGaps(ShardSession):
    """Sends the message of a hint though the one before it never came."""

    @override
    def _on_deliver(self, hint: Deliver, now_ms: int) -> Sequence[Action]:
        if hint.seq > self._cursor + 1:
            self._cursor = self._head = hint.seq - 1
        return super()._on_deliver(hint, now_ms)


class IgnoresItsWindow(ShardSession):
    """Sends as much as there is."""

    @override
    def _room(self) -> int:
        return 100


class IgnoresExpiry(ShardSession):
    """Believes that what was not expired when it was read or hinted still is not."""

    @override
    def _on_deliver(self, hint: Deliver, now_ms: int) -> Sequence[Action]:
        return super()._on_deliver(msgspec.structs.replace(hint, expires_ms=_FOREVER_MS), now_ms)

    @override
    def _offer(self, pending: Pending, now_ms: int, actions: list[Action]) -> bool:
        return super()._offer(
            msgspec.structs.replace(pending, expires_ms=_FOREVER_MS), now_ms, actions
        )


class HearsOldHints(ShardSession):
    """Takes hints of another epoch for its own."""

    @override
    def on_hint(self, hint: Hint, now_ms: int) -> Sequence[Action]:
        return super().on_hint(msgspec.structs.replace(hint, epoch=self.epoch), now_ms)


class WritesToTheSlow(ShardSession):
    """Goes on writing though the socket's buffer is full."""

    @override
    def on_writable(self, writable: bool, now_ms: int) -> Sequence[Action]:
        return super().on_writable(True, now_ms)


# Of the SDK's session.


class _Forgetful(Inbox):
    @override
    def handled(self, message_id: str) -> bool:
        known = super().handled(message_id)
        self._seen._ids.clear()
        return known


class DoesNotDedupe(SdkSession):
    """Gives the handler what it was done with."""

    @override
    def on_open(self, now: float) -> Sequence[SdkAction]:
        if type(self._inbox) is Inbox:
            self._inbox = _Forgetful(self.options.seen_limit, self.options.max_unhandled, ())
        return super().on_open(now)


class _Hasty(Inbox):
    @override
    def take(self, frame: MessageFrame, now: float) -> MessageFrame | dict[str, object] | None:
        taken = super().take(frame, now)
        if isinstance(taken, MessageFrame):
            self._acks[frame.id] = None
        return taken


class AcksTooEarly(SdkSession):
    """Acks what the handler was not done with."""

    @override
    def on_open(self, now: float) -> Sequence[SdkAction]:
        if type(self._inbox) is Inbox:
            self._inbox = _Hasty(
                self.options.seen_limit, self.options.max_unhandled, self._inbox._seen
            )
        return super().on_open(now)


class LosesAcks(SdkSession):
    """Does not ack a repeat of what the handler was done with."""

    @override
    def on_message(self, payload: bytes | str, now: float) -> Sequence[SdkAction]:
        owed = dict(self._inbox._acks)
        actions = super().on_message(payload, now)
        self._inbox._acks = owed
        return actions


# Of the worker.


class AdvancesFirst(Receipts):
    """Takes events for told before anybody was told."""

    @override
    async def run_once(self, partition: Partition) -> bool:
        read = await self._outbox.read(partition, self._group, WINDOW)
        if read:
            await self._outbox.advance(partition, self._group, read[-1][0])
            await self._sink.take([receipt for _, receipt in read])
        return len(read) >= WINDOW


# Of the store's functions.


class _Broken(Library):
    """The library with some words of a function replaced by others."""

    def __init__(self, function: str, edit: tuple[str, str]) -> None:
        super().__init__()
        start = 0
        if function != "prelude":
            start = self.code.index(f"function_name='{self.function(function)}'")
        end = self.code.find("redis.register_function", start + 1)
        text = self.code[start:end] if end > 0 else self.code[start:]
        words, others = edit
        assert words in text, words
        self.code = self.code.replace(text, text.replace(words, others))


_WHOLE_MEMBER: Final = "string.match(member, '^[^|]+')"
_TAKE_OUT: Final = "if seq ~= '0' then ended = take_out(c, message, seq) end"
_NEXT: Final = (
    " if ended and seq ~= '0' then"
    " local other = call('ZRANGE', c.index, seq + 1, seq + 1, 'BYSCORE')[1]"
    " if other then call('ZREM', c.index, other) end end"
)
_FUNCTIONS: Final[dict[str, tuple[str, tuple[str, str]]]] = {
    "acks one too many": ("ack", (_TAKE_OUT, _TAKE_OUT + _NEXT)),
    "takes acks of displaced sessions": ("ack", ("known[2] ~= epoch", "false")),
    "detaches the newest": ("detach", ("known[1] ~= epoch or not", "not")),
    "attaches the oldest": ("attach", ("late > 0 and late <= LATE_MS", "false")),
    "ends twice": (
        "expire",
        (
            "finish(c, member, seq, 'expired', '')",
            f"close(c, status_key(outbox, {_WHOLE_MEMBER}), {_WHOLE_MEMBER}, 'expired', '')",
        ),
    ),
    "never comes back": ("prelude", ("if redeliver_at then", "if false then")),
    "reads backwards": (
        "prelude",
        ("for at = 1, #seqs do\n      if frames", "for at = #seqs, 1, -1 do\n      if frames"),
    ),
    "tells of drops once": (
        "attach",
        ("tonumber(known[10]) or 0, profile", "tonumber(known[7]) or 0, profile"),
    ),
    "holds too much": ("prelude", ("then make_room(c) end", "then end")),
    "bridges what ended": (
        "prelude",
        ("if not is_waiting(c.timers, message, project, device, seq, last)", "if false"),
    ),
    "loses jobs of the dead": (
        "bridge_take",
        ("call('ZADD', timers, now + hold, 'bridge:' .. message)", ""),
    ),
    "writes what is for bridges": ("enqueue", ("is_only(bridge)", "false")),
    "gives work to anybody": ("timers_due", ("call('GET', keys[1]) ~= args[1]", "false")),
    "gives jobs to anybody": ("bridge_take", ("call('GET', lease) ~= worker", "false")),
    "forgets idempotency keys": (
        "enqueue",
        ("call('SET', idempotency, digest .. '|' .. message, 'PX', IDEMPOTENCY_MS)", ""),
    ),
    "subscribes too late": (
        "subscribe",
        ("'t:' .. args[at], args[at + 1])", "'t:' .. args[at], args[at + 1] + 9000)"),
    ),
    "does not unsubscribe": (
        "unsubscribe",
        ("gone = gone + call('HDEL', mailbox, 't:' .. args[at])", "gone = gone + 1"),
    ),
    "moves cursors of displaced sessions": ("save_cursors", ("known[1] == epoch and", "")),
}

_SHARD: Final = (ForgetsGaps, IgnoresItsWindow, IgnoresExpiry, HearsOldHints, WritesToTheSlow)
_SDK: Final = (DoesNotDedupe, AcksTooEarly, LosesAcks)

CANARIES: Final = [
    *(Parts(shard_session=broken, name=broken.__name__) for broken in _SHARD),
    *(Parts(sdk_session=broken, name=broken.__name__) for broken in _SDK),
    Parts(receipts=AdvancesFirst, name=AdvancesFirst.__name__),
    Parts(answers_early=True, name="answers before a replica has it"),
]
FUNCTIONS: Final = sorted(_FUNCTIONS)
FIRST_SEED: Final = {
    "ForgetsGaps": 22,
    "HearsOldHints": 98,
    "IgnoresExpiry": 16,
    "IgnoresItsWindow": 19,
    "answers before a replica has it": 2,
    "attaches the oldest": 44,
    "gives jobs to anybody": 3,
    "gives work to anybody": 2,
    "loses jobs of the dead": 6,
    "never comes back": 7,
}
"""Where the search begins, to save time; wherever it does, it finds them."""


def with_function(name: str) -> Parts:
    """Give the parts with one function broken."""
    function, edit = _FUNCTIONS[name]
    return Parts(functions=_Broken(function, edit), name=name)
