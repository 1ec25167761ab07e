"""What stands in the store, for the checks: read beside all processes."""

from collections.abc import Callable
from typing import NamedTuple

from router.model.ids import DeviceId, MessageId, is_topic_message, kept_as
from router.store import keys
from tests.support.small_valkey.server import SmallValkey
from tests.support.small_valkey.values import Hash, SortedSet

_HEAD = 7


class StreamPlace(NamedTuple):
    """A place in a mailbox, or in a log."""

    stream: str
    """The target of the log; empty for the mailbox."""
    seq: int
    """0 for a message that stands nowhere."""


class StoreView:
    """Looks into the store of the moment: after a failover it is another one."""

    def __init__(self) -> None:
        self._valkey: Callable[[], SmallValkey] | None = None

    def look_at(self, valkey: Callable[[], SmallValkey]) -> None:
        self._valkey = valkey

    @property
    def valkey(self) -> SmallValkey:
        assert self._valkey is not None
        return self._valkey()

    def field(self, key: str, name: str) -> str:
        """Give a field of a hash; empty where there is none."""
        found = self.valkey.keys.find(key.encode(), Hash)
        return "" if found is None else found.get(name.encode(), b"").decode()

    def epoch(self, device: DeviceId) -> int:
        return int(self.field(keys.mailbox(device), "ep") or 0)

    def drops(self, device: DeviceId) -> int:
        """Tell how many messages a mailbox has lost to the pending cap."""
        return int(self.field(keys.mailbox(device), "dr") or 0)

    def token_nonce(self, device: DeviceId) -> str:
        return self.field(keys.mailbox(device), "n")

    def pending_count(self, device: DeviceId) -> int:
        return len(self.valkey.keys.find(keys.index(device).encode(), SortedSet) or ())

    def place(self, device: DeviceId, message: MessageId) -> StreamPlace:
        """Give where a message stands among those that arrive in order."""
        kept = message if is_topic_message(message) else kept_as(message, device)
        head = self.field(keys.message(kept), "i").split("|", 6)
        if len(head) < _HEAD:
            return StreamPlace("", 0)
        stream = head[1] if is_topic_message(message) else ""
        return StreamPlace(stream, int(head[5]))

    def has(self, key: str) -> bool:
        return self.valkey.keys.peek(key.encode()) is not None

    def is_taken_back(self, message: MessageId) -> bool:
        """Tell whether a message to a user or a group was cancelled before it had all copies."""
        return bool(self.field(keys.message(message), "x"))
