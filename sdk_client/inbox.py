"""Which messages the handler gets, and which ones are acked: the SDK's promise of once. Pure."""

from collections.abc import Iterable
from typing import Final

from sdk_client.seen import Seen
from sdk_client.wire import MessageFrame, Op

MAX_ACK_IDS: Final = 256
"""Message ids in one ack frame: far below the gateway's limit of a frame's size."""


class Inbox:
    """What becomes of each message of one device.

    Args:
        seen_limit: how many handled ids are remembered.
        max_unhandled: how many messages may wait for the handler.
        seen: ids that the handler was done with before, the oldest first.
    """

    __slots__ = ("_acks", "_held", "_limit", "_overflowed", "_room", "_seen", "_unhandled")

    def __init__(self, seen_limit: int, max_unhandled: int, seen: Iterable[str]) -> None:
        self._limit = seen_limit
        self._room = max_unhandled
        self._seen = Seen(seen_limit, seen)
        self._unhandled: dict[str, None] = {}
        self._held: dict[str, tuple[float, str]] = {}
        """Nacked messages: not before this time, and why."""
        self._acks: dict[str, None] = {}
        self._overflowed = False
        """A message found no room: those after it must not overtake it."""

    def __len__(self) -> int:
        return len(self._unhandled)

    def __contains__(self, message_id: str) -> bool:
        return message_id in self._unhandled

    @property
    def owes_acks(self) -> bool:
        """Whether `acks` has something to give."""
        return bool(self._acks)

    @property
    def has_room_again(self) -> bool:
        """Whether messages found no room, and would find some now."""
        return self._overflowed and len(self._unhandled) <= self._room // 2

    def take(self, frame: MessageFrame, now: float) -> MessageFrame | dict[str, object] | None:
        """Take a message: give it back for the handler, or the nack to answer, or None."""
        message_id = frame.id
        if message_id in self._unhandled:
            return None
        if message_id in self._seen:
            self._acks[message_id] = None
            return None
        until, reason = self._held.get(message_id, (now, ""))
        if until > now:
            # The nack was lost with its connection: say it again.
            return nack_frame(message_id, reason, until - now)
        if self._overflowed or len(self._unhandled) >= self._room:
            self._overflowed = True
            return None
        self._held.pop(message_id, None)
        self._unhandled[message_id] = None
        return frame

    def handled(self, message_id: str) -> bool:
        """Note that the handler is done with a message; False if it did not have it."""
        if message_id not in self._unhandled:
            return False
        del self._unhandled[message_id]
        self._seen.add(message_id)
        self._acks[message_id] = None
        # An ack that waits longer than its id is remembered for would protect nothing.
        if len(self._acks) > self._limit:
            del self._acks[next(iter(self._acks))]
        return True

    def pushed(self, message_id: str) -> None:
        """Note that a message came another way, unless the handler has it.

        Its ack waits for the copy that comes over a connection: an ack also says that everything
        before that was heard, the notice of lost messages for one.
        """
        if message_id not in self._unhandled:
            self._held.pop(message_id, None)
            self._seen.add(message_id)

    def nacked(self, message_id: str, reason: str, until: float | None) -> bool:
        """Note that the handler wants a message again; False if it did not have it."""
        if message_id not in self._unhandled:
            return False
        del self._unhandled[message_id]
        if until is not None:
            self._held[message_id] = (until, reason)
            if len(self._held) > self._limit:
                del self._held[next(iter(self._held))]
        return True

    def acks(self) -> list[dict[str, object]]:
        """Give the ack frames that are due, once."""
        ids = list(self._acks)
        self._acks.clear()
        return [
            {"op": Op.ACK.value, "ids": ids[at : at + MAX_ACK_IDS]}
            for at in range(0, len(ids), MAX_ACK_IDS)
        ]

    def on_lost(self) -> None:
        """Take it that the connection is gone: the next one brings everything again, in order."""
        self._overflowed = False


def nack_frame(message_id: str, reason: str, retry_after_s: float | None) -> dict[str, object]:
    """Write the frame that asks for a message again."""
    frame: dict[str, object] = {"op": Op.NACK.value, "id": message_id}
    if reason:
        frame["reason"] = reason
    if retry_after_s is not None:
        frame["retry_after"] = retry_after_s
    return frame


def event_frame(message_id: str, event: str, at_ms: int, action: str) -> dict[str, object]:
    """Write the frame that tells what a person did with a message."""
    frame: dict[str, object] = {
        "op": Op.EVENT.value,
        "id": message_id,
        "event": event,
        "at": at_ms,
    }
    if action:
        frame["action"] = action
    return frame
