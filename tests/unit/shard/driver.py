"""Leads a session by hand: a device's frames, answers of the store and hints in, actions out."""

import json
from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from gateway.shard.dialects import discover
from gateway.shard.events import Action, Attach, Close, Fetch, Send, SessionLimits, State, Tally
from gateway.shard.session import Session
from router.model.hint import Deliver
from router.model.ids import DeviceId, MessageId, ShardId, new_message_id, partition_of
from router.model.lane import Lane
from router.model.mailbox import Attached, AttachResult, Pending, Window
from sdk_client import wire

START_MS: Final = 1_700_000_000_000
MINUTE_MS: Final = 60_000
EPOCH: Final = 7
SHARD: Final = ShardId("shard-0-x")
DEVICE: Final = DeviceId("d" * 16)
CREDENTIAL: Final = f"{DEVICE}.{'s' * 32}"
NONCE: Final = "n" * 16

T = TypeVar("T")


def message(number: int, device: DeviceId = DEVICE) -> MessageId:
    """The id of the message that the tests call by a number."""
    return new_message_id(partition_of(device), START_MS, number.to_bytes(10, "big"))


NUMBERS: Final = {message(number): number for number in range(2_000)}


def frame(number: int) -> bytes:
    """The stored frame of a message."""
    return wire.encode({"op": "message", "id": message(number)})


def pending(seq: int, expires_ms: int = START_MS + MINUTE_MS * 60, number: int = 0) -> Pending:
    """A message in the mailbox; its number is its seq, unless told otherwise."""
    number = number or seq
    return Pending(seq, message(number), expires_ms, frame(number))


def window(*seqs: int, head: int | None = None, more: bool = False, dropped: int = 0) -> Window:
    """What a read of the mailbox brings."""
    last = seqs[-1] if seqs else 0
    return Window(
        tuple(pending(seq) for seq in seqs), last if head is None else head, more, dropped
    )


def frames(actions: Iterable[Action]) -> list[dict[str, object]]:
    """The frames among actions, as maps."""
    return [wire.decode(action.payload) for action in actions if isinstance(action, Send)]


def sent(actions: Iterable[Action]) -> list[int]:
    """The messages among actions, by number."""
    return [
        NUMBERS[MessageId(str(frame["id"]))]
        for frame in frames(actions)
        if frame["op"] == "message"
    ]


def of(kind: type[T], actions: Iterable[Action]) -> list[T]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def only(kind: type[T], actions: Sequence[Action]) -> T:
    """The one action that there is."""
    (action,) = actions
    assert isinstance(action, kind), action
    return action


class Lead:
    """A session and the time."""

    def __init__(self, **limits: int) -> None:
        self.now_ms = START_MS
        self.tally = Tally()
        self.limits = SessionLimits(shard=SHARD, tally=self.tally, **limits)
        dialect = discover()[wire.SUBPROTOCOL_JSON]
        self.session = Session(dialect, self.limits, self.now_ms)

    def is_over(self) -> bool:
        return self.session.state is State.CLOSED

    # The device.

    def gets(self, **frame: object) -> Sequence[Action]:
        return self.session.on_message(json.dumps(frame), self.now_ms)

    def connect(self, **extra: object) -> Attach:
        return only(Attach, self.gets(op="connect", credential=CREDENTIAL, **extra))

    def ack(self, *numbers: int) -> Sequence[Action]:
        return self.gets(op="ack", ids=[message(number) for number in numbers])

    def nack(self, number: int, **extra: object) -> Sequence[Action]:
        return self.gets(op="nack", id=message(number), **extra)

    # The store.

    def attached(
        self,
        brought: Window | None = None,
        *,
        pending: int = 0,
        epoch: int = EPOCH,
        drops_known: int = 0,
    ) -> Sequence[Action]:
        attached = Attached(
            AttachResult.ATTACHED,
            epoch=epoch,
            pending=pending,
            token_nonce=NONCE,
            window=brought or window(),
            drops_known=drops_known,
        )
        return self.session.on_attached(attached, self.now_ms)

    def live(self, brought: Window | None = None) -> "Lead":
        """Bring the session to LIVE; what it sends on the way is forgotten."""
        self.connect()
        self.attached(brought)
        assert self.session.state is State.LIVE
        return self

    def fetched(self, brought: Window | None) -> Sequence[Action]:
        return self.session.on_fetched(brought, self.now_ms)

    def away(self) -> Sequence[Action]:
        return self.session.on_unavailable(self.now_ms)

    # The inbox.

    def hint(
        self,
        seq: int,
        *,
        number: int = 0,
        expires_ms: int | None = None,
        epoch: int = EPOCH,
        lane: Lane = Lane.NORMAL,
    ) -> Sequence[Action]:
        number = number or seq
        expires_ms = START_MS + MINUTE_MS * 60 if expires_ms is None else expires_ms
        deliver = Deliver(DEVICE, epoch, seq, message(number), expires_ms, frame(number), lane)
        return self.session.on_hint(deliver, self.now_ms)

    # Time and the socket.

    def later(self, duration_ms: int) -> Sequence[Action]:
        """Let time pass as the timer wheel does: at each deadline the session is asked."""
        end_ms = self.now_ms + duration_ms
        actions: list[Action] = []
        while not self.is_over() and self.session.deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, self.session.deadline_ms)
            actions += self.session.on_timer(self.now_ms)
            assert self.is_over() or self.session.deadline_ms > self.now_ms
        self.now_ms = end_ms
        return actions

    def writable(self, writable: bool) -> Sequence[Action]:
        return self.session.on_writable(writable, self.now_ms)


def closed(actions: Sequence[Action]) -> int:
    """The code of the close that is the last action."""
    last = actions[-1]
    assert isinstance(last, Close)
    return int(last.code)


def fetch(actions: Sequence[Action]) -> Fetch:
    """The read of the mailbox that is the last action, and the only one."""
    (found,) = of(Fetch, actions)
    assert actions[-1] is found
    return found
