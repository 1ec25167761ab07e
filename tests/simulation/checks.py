"""What must hold at each step of a run, whatever goes wrong."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.shard.events import CRITICAL_ROOM
from router.model.ids import DeviceId, MessageId, is_cast, is_topic_message
from router.model.receipt import Event, Receipt
from router.policy.delivery import IllegalTransitionError, State, advance, is_done
from router.store.outbox import _read_entry
from sdk_client.wire import MessageFrame
from tests.simulation.topic_checks import AudienceChecks, TopicChecks
from tests.simulation.view import StoreView, StreamPlace

LIVE_GRACE_MS: Final = 3_000
"""How late a message with a TTL of 0 may still be written."""
CLOCKS_MS: Final = 300
"""So far the clocks of machines may differ where nothing is wrong with them."""
_WHOLE: Final = DeviceId("")
"""In the place of a device: a message to many as a whole."""
Place = tuple[MessageId, DeviceId]
"""A message on its way to a device."""


class Given(NamedTuple):
    """Who gets a message."""

    device: str
    process: str
    """The life of the app's process."""
    alone: bool
    """Whether no other process of the device ran beside it."""
    place: StreamPlace
    """Where the message stands among those that arrive in order."""
    nacks: int
    """How often this process asked for the message again."""


class _Past(NamedTuple):
    """What the checks knew when the replica fell behind."""

    states: dict[Place, State]
    of_topics: set[tuple[MessageId, DeviceId, Event]]
    history: int


class Checks:
    """Watches the store's outbox, the sockets and the handlers.

    Args:
        view: what stands in the store.
        max_pending: the most that a mailbox may hold.
        replicas: that have a change before its answer.
        now_ms: the true time.
        fail: told of each promise that is broken.
    """

    def __init__(
        self,
        view: StoreView,
        max_pending: int,
        replicas: int,
        now_ms: Callable[[], int],
        fail: Callable[[str], None],
    ) -> None:
        self._view = view
        self._max_pending = max_pending
        self._replicated = replicas > 0
        self._lost: set[MessageId] = set()
        """Messages that were answered, and lost with the primary."""
        self._now_ms = now_ms
        self._fail = fail
        self._fresh: list[Receipt] = []
        self._names: dict[str, str] = {}
        self.states: dict[Place, State] = {}
        """Of every message that the outbox tells of, for each device."""
        self.events: set[Event] = set()
        """The kinds of events that happened to any message."""
        self.sent: dict[MessageId, Mapping[str, str]] = {}
        """What the app server put in: by id, as far as it learned the id."""
        self.keyed: set[str] = set()
        """Numbers of messages that were sent with an idempotency key."""
        self._numbers: dict[tuple[str, str], MessageId] = {}
        self._went_back = False
        self.for_bridges: set[str] = set()
        """Numbers of messages that a bridge alone may carry."""
        self._of_topics: set[tuple[MessageId, DeviceId, Event]] = set()
        self._unordered: set[str] = set()
        """Devices with a session that began before a failover: numbers are given out anew."""
        self._known: set[MessageId] = set()
        """Every message that was ever in the store."""
        self._history: list[Receipt] = []
        self._told: Counter[Receipt] = Counter()
        self._handed: Counter[tuple[str, str]] = Counter()
        self._done: Counter[tuple[str, str]] = Counter()
        self._done_by: set[tuple[str, str]] = set()
        self._entered: set[tuple[str, str]] = set()
        self._newest: dict[tuple[str, str], int] = {}
        self._keys: dict[str, MessageId] = {}
        self._accepted_ms: dict[str, int] = {}
        """When a message was taken on; a scheduled one, when it was released."""
        self._past: _Past | None = None
        self.topics, self.audiences = TopicChecks(fail), AudienceChecks()
        self._casts: dict[MessageId, str] = {}
        """The target of each message to a user or a group."""

    def shorten(self, text: str) -> str:
        """Write short names for message ids."""
        for message, name in self._names.items():
            text = text.replace(message, name)
        return text

    # The store.

    def on_event(self, fields: list[bytes]) -> None:
        """Take what was appended to an outbox."""
        self._fresh += [receipt for _, receipt in _read_entry([b"0-0", list(fields)])]

    def on_store(self) -> None:
        """Look at what a step of the store left: legal edges, one end, no mailbox too full."""
        fresh, self._fresh = self._fresh, []
        for receipt in fresh:
            self.events.add(receipt.event)
            self._history.append(receipt)
            if receipt.event in {Event.UPSTREAM, Event.UNREGISTERED}:
                continue
            message, device = receipt.message, receipt.device
            self._known.add(message)
            self._names.setdefault(message, f"m{len(self._names) + 1}")
            if receipt.event is Event.ACCEPTED:
                self._accepted_ms[message] = self._now_ms()
            if is_cast(message) and receipt.target:
                self._casts[message] = receipt.target
            if device and is_topic_message(message):
                self._on_topic_event(message, device, receipt.event)
            else:
                self._on_event(message, device, receipt.event)
            if device and self._view.pending_count(device) > self._max_pending:
                self._fail(f"the mailbox of {device} holds more than it may")

    def _on_event(self, message: MessageId, device: DeviceId, event: Event) -> None:
        before = self.states.get((message, device))
        try:
            self.states[message, device] = advance(before, event)
        except IllegalTransitionError as error:
            self._fail(f"{message}: {error}")
        if event is Event.DELIVERED and (device, message) not in self._done_by:
            self._fail(f"{message} counts as delivered, and no handler was done with it")

    def _on_topic_event(self, message: MessageId, device: DeviceId, event: Event) -> None:
        """Take an event of one device; what shards count lazily has no order, and comes once."""
        if (message, device, event) in self._of_topics:
            self._fail(f"{message} is told twice as {event.value} by {device}")
        self._of_topics.add((message, device, event))

    def on_job(self, message: MessageId, device: DeviceId) -> None:
        """Take it that a bridge is given a message."""
        if is_done(self.states.get((message, device))):
            self._fail(f"{message} is given to a bridge after its end")

    @property
    def told_so_far(self) -> int:
        """How many events the store has told."""
        return len(self._history)

    def devices_since(self, told: int) -> set[DeviceId]:
        """Give the devices of the events after so many."""
        return {receipt.device for receipt in self._history[told:]}

    # Failover.

    def mark(self) -> None:
        """Take it that the replica has what was done up to here, and no more."""
        self._past = _Past(dict(self.states), set(self._of_topics), len(self._history))
        self.topics.mark()

    def go_back(self) -> None:
        """Take it that what was done since is lost."""
        assert self._past is not None
        self.states, self._of_topics = dict(self._past.states), set(self._past.of_topics)
        del self._history[self._past.history :]
        self._unordered = set(self.audiences.everybody())
        self._went_back = True  # idempotency keys went back, too
        self.topics.go_back()
        there = {message for message, _ in self.states}
        lost = self.sent.keys() - there
        if self._replicated and (broken := lost - self._lost):
            self._fail(f"{sorted(broken)} were answered, and are lost with the primary")
        self._lost |= lost
        self._past = None

    # Receipts.

    def on_told(self, receipts: Sequence[Receipt]) -> None:
        """Take it that a worker tells of events."""
        self._told.update(receipts)

    def untold(self) -> list[str]:
        """Give the events of which nobody was told."""
        return [
            f"{receipt.event.value} of {self._names.get(receipt.message, receipt.message)}"
            for receipt in self._history
            if receipt not in self._told
        ]

    # The app server.

    def on_accepted(self, message: MessageId, data: Mapping[str, str], key: str) -> None:
        """Take it that a send was answered with an id."""
        self.sent[message] = data
        if message not in self._known:
            self._fail(f"{message} was answered and is not in the store")
        if key and self._keys.setdefault(key, message) != message:
            self._fail(f"one idempotency key gave {self._keys[key]} and {message}")

    # The shard's socket.

    def on_written(self, session: str, frame: MessageFrame, now_ms: int, *, full: bool) -> None:
        """Take it that a shard writes a message to a socket.

        Args:
            session: whose socket.
            frame: the message.
            now_ms: the shard's wall clock.
            full: whether the session knew that the buffer was full.
        """
        message = frame.id
        if full:
            self._fail(f"{session} writes {message} into a full buffer")
        if frame.data.get("n") in self.for_bridges:
            self._fail(f"{session} writes {message}, which a bridge alone may carry")
        until_ms = frame.expires_at - 1
        if frame.expires_at == frame.sent_at:  # now or never, from the moment of its acceptance
            if abs(now_ms - self._now_ms()) > CLOCKS_MS:
                return  # nobody can tell by a clock that is wrong
            grace_ms = LIVE_GRACE_MS + 2 * CLOCKS_MS
            until_ms, now_ms = self._accepted_ms[message] + grace_ms, self._now_ms()
        if now_ms > until_ms:
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

    def on_session(self, device: str) -> None:
        """Take it that a device has a new session."""
        self.topics.on_session(device)
        if device in self._unordered:
            self._unordered.discard(device)
            for whose, stream in list(self._newest):
                if whose.startswith(device[:4]):
                    del self._newest[whose, stream]

    def on_handler(self, given: Given, frame: MessageFrame) -> bool:
        """Take it that a handler gets a message; tell whether one was done with it before."""
        device, message = given.device, MessageId(frame.id)
        if message not in self._known:
            self._fail(f"{device} handles {message}, which was never accepted")
        if message in self.sent and dict(frame.data) != dict(self.sent[message]):
            self._fail(f"{device} got {message} with other data")
        number = frame.data.get("n", "")
        first = self._numbers.setdefault((device, number), message)
        if number in self.keyed and first != message and not self._went_back:
            self._fail(f"one idempotency key gave {first} and {message}")
        self._handed[given.process, message] += 1
        if self._handed[given.process, message] > 1 + given.nacks:
            self._fail(f"{given.process} was given {message} twice")
        if (device, message) in self._entered:
            return (device, message) in self._done_by
        self._entered.add((device, message))
        self.topics.on_handled(device, given.process, message)
        if device not in self._unordered and not self.topics.is_decided_anew(device, message):
            self._check_order(given, message)
        return False

    def _check_order(self, given: Given, message: MessageId) -> None:
        # What a second process is ahead or behind with is no matter of order.
        device, place = given.device, given.place
        newest = self._newest.get((device if given.alone else given.process, place.stream), 0)
        if 0 < place.seq <= newest:
            self._fail(f"{given.process} got {message}, number {place.seq}, behind number {newest}")
        for whose in (device, given.process):
            before = self._newest.get((whose, place.stream), 0)
            self._newest[whose, place.stream] = max(place.seq, before)

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
        found = [
            f"{self._names[message]} ({state.value if state else 'nothing'})"
            for (message, device), state in self.states.items()
            if self._waits(message, device, state)
        ]
        found += [
            f"{self._names[message]} has not reached {device}"
            for message, device in self.topics.missing()
        ]
        found += [
            f"{self._names[message]} has no copy for {device}"
            for message, target in self._casts.items()
            if self.states.get((message, _WHOLE)) is Event.ACCEPTED
            and not self._view.is_taken_back(message)
            for device in self.audiences.members(target)
            if (message, device) not in self.states
        ]
        return found

    def _waits(self, message: MessageId, device: DeviceId, state: State) -> bool:
        """Tell whether a message has not come to its end for a device."""
        if not device:
            return state is Event.SCHEDULED
        if is_topic_message(message) or is_done(state):
            return False
        # A bridge may end what no mailbox holds.
        by_bridge = state in {Event.BRIDGED, Event.FAILED}
        return not by_bridge or self._view.place(device, message).seq > 0
