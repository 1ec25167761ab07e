"""What must hold at each step of a run, whatever goes wrong."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from gateway.shard.events import CRITICAL_ROOM
from router.model.ids import DeviceId, MessageId
from router.model.receipt import Event
from router.policy.delivery import IllegalTransitionError, State, advance, is_done
from sdk_client.wire import MessageFrame
from tests.support.mailbox_model import MailboxModel

LIVE_GRACE_MS: Final = 3_000
"""How late a message with a TTL of 0 may still be written."""


class Given(NamedTuple):
    """Who gets a message."""

    device: str
    process: str
    """The life of the app's process."""
    alone: bool
    """Whether no other process of the device ran beside it."""
    seq: int
    """The message's number in the mailbox, 0 for a TTL of 0."""
    nacks: int
    """How often this process asked for the message again."""


class Checks:
    """Watches the store's outbox, the sockets and the handlers.

    Args:
        mailboxes: the store's side.
        max_pending: the most that a mailbox may hold.
        now_ms: the wall clock.
        fail: told of each promise that is broken.
    """

    def __init__(
        self,
        mailboxes: MailboxModel,
        max_pending: int,
        now_ms: Callable[[], int],
        fail: Callable[[str], None],
    ) -> None:
        self._mailboxes = mailboxes
        self._max_pending = max_pending
        self._now_ms = now_ms
        self._fail = fail
        self._read = 0
        self._names: dict[str, str] = {}
        self.states: dict[MessageId, State] = {}
        """Of every message that the outbox tells of."""
        self.events: set[Event] = set()
        """The kinds of events that happened to any message."""
        self.sent: dict[MessageId, Mapping[str, str]] = {}
        """What the app server put in: by id, as far as it learned the id."""
        self._handed: Counter[tuple[str, str]] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._done_by: set[tuple[str, str]] = set()
        self._entered: set[tuple[str, str]] = set()
        self._newest: dict[str, int] = {}
        self._keys: dict[str, str] = {}
        self._accepted_ms: dict[str, int] = {}
        """When a message was taken on; a scheduled one, when it was released."""

    def shorten(self, text: str) -> str:
        """Write short names for message ids."""
        for message, name in self._names.items():
            text = text.replace(message, name)
        return text

    # The store.

    def on_store(self) -> None:
        """Look at what a step of the store left: legal edges, one end, no mailbox too full."""
        outbox = self._mailboxes.outbox
        while self._read < len(outbox):
            receipt = outbox[self._read]
            self._read += 1
            self.events.add(receipt.event)
            if receipt.event in {Event.UPSTREAM, Event.UNREGISTERED}:
                continue
            if receipt.event is Event.ACCEPTED:
                self._accepted_ms[receipt.message] = receipt.time_ms
            self._on_event(receipt.message, receipt.device, receipt.event)
            if self._mailboxes.pending_count(receipt.device) > self._max_pending:
                self._fail(f"the mailbox of {receipt.device} holds more than it may")

    def _on_event(self, message: MessageId, device: DeviceId, event: Event) -> None:
        self._names.setdefault(message, f"m{len(self._names) + 1}")
        before = self.states.get(message)
        try:
            self.states[message] = advance(before, event)
        except IllegalTransitionError as error:
            self._fail(f"{message}: {error}")
        if event is Event.DELIVERED and (device, message) not in self._done_by:
            self._fail(f"{message} counts as delivered, and no handler was done with it")

    def on_job(self, message: MessageId) -> None:
        """Take it that a bridge is given a message."""
        if is_done(self.states.get(message)):
            self._fail(f"{message} is given to a bridge after its end")

    # The app server.

    def on_accepted(self, message: MessageId, data: Mapping[str, str], key: str) -> None:
        """Take it that a send was answered with an id."""
        self.sent[message] = data
        if message not in self.states:
            self._fail(f"{message} was answered and is not in the store")
        if key and self._keys.setdefault(key, message) != message:
            self._fail(f"one idempotency key gave {self._keys[key]} and {message}")

    # The shard's socket.

    def on_written(
        self, session: str, message: str, expires_ms: int, sent_ms: int, *, full: bool
    ) -> None:
        """Take it that a shard writes a message to a socket, though its buffer was full or not."""
        if full:
            self._fail(f"{session} writes {message} into a full buffer")
        if self._mailboxes.is_for_bridges_alone(MessageId(message)):
            self._fail(f"{session} writes {message}, which a bridge alone may carry")
        until_ms = expires_ms - 1
        if expires_ms == sent_ms:  # now or never, from the moment that it was taken on
            until_ms = self._accepted_ms[message] + LIVE_GRACE_MS
        if self._now_ms() > until_ms:
            self._fail(f"{session} writes {message} past its time")

    def on_in_flight(self, session: str, in_flight: int, window: int) -> None:
        """Look at a session's window; critical messages have some room beyond it."""
        if in_flight > window + CRITICAL_ROOM:
            self._fail(f"{session} has {in_flight} messages in flight, its window is {window}")

    def on_buffered(self, session: str, buffered: int, limit: int) -> None:
        """Look at a socket's buffer."""
        if buffered > limit:
            self._fail(f"{session} has {buffered} bytes buffered, the limit is {limit}")

    # The handler.

    def on_handler(self, given: Given, frame: MessageFrame) -> None:
        """Take it that a handler gets a message."""
        device, message = given.device, MessageId(frame.id)
        if message not in self.states:
            self._fail(f"{device} handles {message}, which was never accepted")
        if message in self.sent and dict(frame.data) != dict(self.sent[message]):
            self._fail(f"{device} got {message} with other data")
        self._handed[given.process, message] += 1
        if self._handed[given.process, message] > 1 + given.nacks:
            self._fail(f"{given.process} was given {message} twice")
        if (device, message) in self._entered:
            return
        self._entered.add((device, message))
        # What a second process is ahead or behind with is no matter of order.
        newest = self._newest.get(device if given.alone else given.process, 0)
        if 0 < given.seq <= newest:
            self._fail(f"{given.process} got {message}, number {given.seq}, behind number {newest}")
        for whose in (device, given.process):
            self._newest[whose] = max(given.seq, self._newest.get(whose, 0))

    def on_done(self, device: str, state: str, message: str) -> None:
        """Take it that a handler is done with a message, and its id is kept.

        Args:
            device: whose handler.
            state: the saved state that keeps the id.
            message: its id.
        """
        self._done[state, message] += 1
        self._done_by.add((device, message))
        if self._done[state, message] > 1:
            self._fail(f"{device} was done with {message} twice")

    def on_unhandled(self, device: str, unhandled: int, limit: int) -> None:
        """Look at what waits for a handler."""
        if unhandled > limit:
            self._fail(f"{device} keeps {unhandled} messages for its handler, the limit is {limit}")

    # The end.

    def unfinished(self) -> list[str]:
        """Messages that were accepted and did not come to an end, by their short names."""
        return [
            f"{self._names[message]} ({state.value if state else 'nothing'})"
            for message, state in self.states.items()
            if not is_done(state) and not self._mailboxes.ended_without_a_mailbox(message)
        ]
