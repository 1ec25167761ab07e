"""A session against a model gateway over a network that loses: once, in order, never lost."""

from collections import Counter, deque
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from typing_extensions import override

from sdk_client import wire
from sdk_client.events import Action, Connect, ConnectionState, Deliver, Disconnect, Transmit
from sdk_client.options import Identity, Options
from sdk_client.session import Session
from tests.unit.sdk.driver import longest

WINDOW = 4


class Gateway:
    """A mailbox and the frames on their way, as the protocol describes them."""

    def __init__(self) -> None:
        self.pending: dict[str, None] = {}
        self.down: deque[dict[str, object]] = deque()
        self.up: deque[dict[str, object]] = deque()
        self.in_flight: set[str] = set()
        self.open = False
        self.acked: list[str] = []

    def cut(self) -> None:
        self.open = False
        self.down.clear()
        self.up.clear()
        self.in_flight.clear()

    def push(self) -> None:
        """Send what is pending, in order, as far as the window goes."""
        for message_id in self.pending:
            if len(self.in_flight) >= WINDOW:
                return
            if message_id not in self.in_flight:
                self.in_flight.add(message_id)
                self.down.append({"op": "message", "id": message_id})

    def repeat(self) -> None:
        """Send again what was not acked in time."""
        for message_id in self.pending:
            if message_id in self.in_flight:
                self.down.append({"op": "message", "id": message_id})

    def take(self) -> None:
        """Take one frame of the device."""
        frame = self.up.popleft()
        ids = frame.get("ids")
        if frame["op"] == "connect":
            self.open = True
            self.down.append({"op": "welcome", "heartbeat": 60.0})
        elif isinstance(ids, list):
            for message_id in ids:
                self.acked.append(message_id)
                self.pending.pop(message_id, None)
                self.in_flight.discard(message_id)
        elif frame["op"] == "nack":
            self.in_flight.discard(str(frame["id"]))
        if self.open:
            self.push()


class Delivery(RuleBasedStateMachine):
    """What can happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gateway = Gateway()
        self.now = 0.0
        self.published = 0
        self.on_disk: list[str] = []
        self.handled: Counter[str] = Counter()
        self.first_seen: list[str] = []
        self.nacked: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Start the device's process, with what is on disk."""
        self.queue: deque[str] = deque()
        self.wants_socket = False
        options = Options(max_unhandled=3, seen_limit=1000)
        self.session = Session(Identity("c"), longest, seen=self.on_disk, options=options)
        self.perform(self.session.start(self.now))

    def perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Transmit):
                self.gateway.up.append(wire.decode(action.payload))
            elif isinstance(action, Deliver):
                self.queue.append(action.message.id)
            elif isinstance(action, Connect):
                self.wants_socket = True
            elif isinstance(action, Disconnect):
                # What was written before arrives, or does not.
                while self.gateway.up:
                    self.gateway.take()
                self.gateway.cut()

    def connect(self) -> None:
        self.wants_socket = False
        self.gateway.cut()
        self.perform(self.session.on_open(self.now))

    def get_one(self) -> None:
        frame = self.gateway.down.popleft()
        self.perform(self.session.on_message(wire.encode(frame), self.now))

    def handle_one(self) -> None:
        message_id = self.queue.popleft()
        assert self.session.holds(message_id)
        self.handled[message_id] += 1
        if message_id not in self.first_seen:
            self.first_seen.append(message_id)
        self.on_disk.append(message_id)
        self.perform(self.session.on_handled(message_id, self.now))

    def wait(self) -> None:
        deadline = self.session.deadline
        if deadline != float("inf"):
            self.now = max(self.now, deadline)
        self.perform(self.session.on_timer(self.now))

    @initialize(online=st.booleans(), count=st.integers(1, 9), read=st.integers(0, 5))
    def begin_with_messages(self, online: bool, count: int, read: int) -> None:
        self.publish(count)
        if online:
            self.connect()
            self.frames_go_up(1)
            self.frames_go_down(1 + read)

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.gateway.pending[f"m{self.published:04}"] = None
            self.published += 1
        if self.gateway.open:
            self.gateway.push()

    @precondition(lambda self: self.wants_socket)
    @rule()
    def the_socket_opens(self) -> None:
        self.connect()

    @precondition(lambda self: self.wants_socket)
    @rule()
    def the_socket_does_not_open(self) -> None:
        self.wants_socket = False
        self.perform(self.session.on_lost(None, "refused", self.now))

    @precondition(lambda self: self.gateway.up)
    @rule(count=st.integers(1, 5))
    def frames_go_up(self, count: int) -> None:
        for _ in range(min(count, len(self.gateway.up))):
            self.gateway.take()

    @precondition(lambda self: self.gateway.down)
    @rule(count=st.integers(1, 5))
    def frames_go_down(self, count: int) -> None:
        for _ in range(min(count, len(self.gateway.down))):
            if self.gateway.down:
                self.get_one()

    @precondition(lambda self: self.queue)
    @rule()
    def the_handler_is_done(self) -> None:
        self.handle_one()

    @precondition(lambda self: self.queue)
    @rule(retry_after_s=st.none() | st.floats(0, 5))
    def the_handler_refuses(self, retry_after_s: float | None) -> None:
        message_id = self.queue.popleft()
        self.nacked.add(message_id)
        self.perform(self.session.on_nacked(message_id, self.now, retry_after_s=retry_after_s))

    @rule()
    def the_connection_is_cut(self) -> None:
        self.gateway.cut()
        self.perform(self.session.on_lost(1006, "", self.now))

    @precondition(lambda self: self.gateway.open)
    @rule()
    def the_gateway_repeats(self) -> None:
        self.gateway.repeat()

    @precondition(lambda self: self.gateway.open)
    @rule(after=st.floats(0, 3))
    def the_gateway_sends_away(self, after: float) -> None:
        self.gateway.down.append({"op": "goaway", "reconnect_after": after})

    @rule(seconds=st.floats(0.01, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.session.on_timer(self.now))

    @rule()
    def what_is_due_happens(self) -> None:
        self.wait()

    @rule()
    def the_process_is_killed(self) -> None:
        self.gateway.cut()
        self.begin()

    @invariant()
    def the_handler_sees_each_message_once(self) -> None:
        assert all(count == 1 for count in self.handled.values())

    @invariant()
    def acks_follow_the_handler(self) -> None:
        assert set(self.gateway.acked) <= self.handled.keys()

    @invariant()
    def messages_come_in_order(self) -> None:
        seen = [message for message in self.first_seen if message not in self.nacked]
        assert seen == sorted(seen)

    @invariant()
    def everything_is_bounded(self) -> None:
        assert self.session.unhandled <= self.session.options.max_unhandled
        assert len(self.queue) <= self.session.options.max_unhandled

    @override
    def teardown(self) -> None:
        """Without further faults, everything arrives and is acked."""
        self.time_passes(5.0)  # this gateway knows no `retry_after`: what was refused is due now
        for _ in range(200 + 20 * self.published):
            if not self.gateway.pending:
                break
            if self.wants_socket:
                self.connect()
            elif self.gateway.up:
                self.gateway.take()
            elif self.gateway.down:
                self.get_one()
            elif self.queue:
                self.handle_one()
            elif self.session.state is ConnectionState.CONNECTED:
                self.wait()
                self.gateway.push()
                self.gateway.repeat()
            else:
                self.wait()
        assert not self.gateway.pending
        assert len(self.handled) == self.published
        self.the_handler_sees_each_message_once()
        self.messages_come_in_order()


TestDelivery = Delivery.TestCase
