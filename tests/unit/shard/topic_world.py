"""A topic log, a shard that hears of it, and one device: with a naive model beside them.

The model stores a copy of each message for the subscriber, as if it had a mailbox: what stands
there and is neither acked, expired nor collapsed must arrive; nothing else may. Whom a message is
for is decided at its turn, which the model does not know: what was for the device all the time
since it was published must arrive, and what never was must not.
"""

from collections.abc import Callable
from typing import NamedTuple

from gateway.shard.session.cursors import Cursors
from gateway.shard.session.published import Counts, Item, Run, Topic
from gateway.shard.tail import Tail
from router.model.ids import MessageId, ProjectId, TopicName
from router.model.message import ReceiptMode
from router.model.selection import Filter, Profile, Selection
from router.policy.admission import Admission

PAGE = 3
TIMEOUT_MS = 1_000
PROJECT = ProjectId("demo")


Wanted = Callable[[set[str], str], bool]


class Choice(NamedTuple):
    """Whom a message is for, and the same said naively: of the topics and the platform."""

    admission: Admission | None
    wanted: Wanted


CHOICES = [
    Choice(None, lambda _topics, _platform: True),
    Choice(Admission(Selection("'a' in topics")), lambda topics, _: "a" in topics),
    Choice(
        Admission(Selection("'b' in topics || !'a' in topics")),
        lambda topics, _: "b" in topics or "a" not in topics,
    ),
    Choice(
        Admission(Selection(filter=Filter(platform=("ios",)))),
        lambda _, platform: platform == "ios",
    ),
    Choice(
        Admission(Selection("'a' in topics", Filter(platform=("web",)))),
        lambda topics, platform: "a" in topics and platform == "web",
    ),
]
EVERYBODY = CHOICES[0]


def item(
    seq: int, previous: int = -1, expires_ms: int = 1 << 60, key: str = "", topic: str = ""
) -> Item:
    """The message with this seq; the one before it has the seq before, unless told otherwise."""
    return Item(
        PROJECT,
        seq,
        seq - 1 if previous < 0 else previous,
        MessageId(f"{topic}m{seq}"),
        expires_ms,
        ReceiptMode.AGGREGATE,
        key,
        b"frame",
    )


class Log:
    """One topic in the store, and what the shard knows of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.topic = Topic(TopicName(name), Counts())
        self.tail = Tail(0)
        self.entries: list[Item] = []
        self.head = 0

    def append(
        self, step: int, expires_ms: int, key: str, admission: Admission | None = None
    ) -> Item:
        """Publish; seqs have gaps, as they follow the clock."""
        previous, self.head = self.head, self.head + step
        if key:
            self.entries = [entry for entry in self.entries if entry.collapse_key != key]
        stored = item(self.head, previous, expires_ms, key, self.name)
        stored.selection = admission
        self.entries.append(stored)
        return stored

    def hear(self, published: Item) -> Item | None:
        """Take the hint in the shard; each message is an object of its own there."""
        if published.seq <= self.topic.head:
            return None
        self.topic.head = published.seq
        heard = self._copy(published, published.previous)
        self.tail.publish(heard)
        return heard

    def look(self) -> None:
        """Ask for the head, as the shard does now and then."""
        if self.head > self.topic.head:
            self.topic.head = self.head
            self.tail.jump(self.head)

    def read(self, after: int) -> tuple[list[Item], int]:
        """Read from the tail or else a page of the store."""
        tail = self.tail
        if tail.covers(after) and (after < tail.top or tail.top >= self.topic.head):
            return tail.read(after, PAGE)
        found = [self._copy(entry, 0) for entry in self.entries if entry.seq > after]
        page, full = found[:PAGE], len(found) >= PAGE
        upto = page[-1].seq if full else max(self.head, self.topic.head, after)
        self.topic.head = max(self.topic.head, upto)
        return tail.merge(after, page, upto), upto

    def _copy(self, of: Item, previous: int) -> Item:
        copy = item(of.seq, previous, of.expires_ms, of.collapse_key, self.name)
        copy.selection = of.selection
        return copy


class Copies:
    """The naive model: every copy of one subscriber and topic."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.waiting: dict[int, Item] = {}
        self.wanted: dict[int, Wanted] = {}
        self.always: set[int] = set()
        """What was for the device all the time since it was published."""
        self.ever: set[int] = set()

    def put(self, published: Item, wanted: Wanted, topics: set[str], platform: str) -> None:
        key = published.collapse_key
        if key:
            same = [seq for seq, one in self.waiting.items() if one.collapse_key == key]
            for seq in same:
                del self.waiting[seq]
        self.waiting[published.seq] = published
        self.wanted[published.seq] = wanted
        self.always.add(published.seq)
        self.changed(topics, platform)

    def changed(self, topics: set[str], platform: str) -> None:
        """Take it that the device is another one now."""
        for seq, wanted in self.wanted.items():
            if wanted(topics, platform):
                self.ever.add(seq)
            else:
                self.always.discard(seq)

    def alive(self, now_ms: int) -> list[int]:
        """What must arrive."""
        return sorted(
            seq
            for seq, one in self.waiting.items()
            if one.expires_ms > now_ms and seq in self.always
        )


class Device:
    """One session after another, over some logs."""

    def __init__(self, logs: list[Log], window: int) -> None:
        self.logs = {log.name: log for log in logs}
        siblings = {log.topic.name: log.topic for log in logs}
        for log in logs:
            log.topic.siblings = siblings
        self.platform = "web"
        self.window = window
        self.now_ms = 1
        self.cursors = Cursors()
        self.stored: dict[str, int] = {}
        self.copies: dict[str, Copies] = {}
        self.unacked: dict[str, tuple[str, Item]] = {}
        """What the device has and has not acked, of this session."""
        self.acked_here: set[tuple[str, int]] = set()
        self.last_sent: dict[str, int] = {}

    # Subscriptions.

    def subscribe(self, name: str) -> None:
        if name not in self.stored:
            self.stored[name] = self.logs[name].head
            self.copies[name] = Copies(self.logs[name].head)
        self.tell()

    def unsubscribe(self, name: str) -> None:
        self.stored.pop(name, None)
        self.copies.pop(name, None)
        self.tell()

    def resubscribe(self, name: str) -> None:
        """End a subscription and begin it anew; the session hears of the latter alone."""
        if name in self.stored:
            del self.stored[name]
            self.subscribe(name)

    def become(self, platform: str) -> None:
        """Change the profile; the session hears of it with its subscriptions."""
        self.platform = platform
        self.tell()

    def tell(self) -> None:
        """Give the session all subscriptions as they are stored, and the profile."""
        for copies in self.copies.values():
            copies.changed(set(self.stored), self.platform)
        self.cursors.profile = Profile(self.platform)
        for name, log in self.logs.items():
            if name in self.stored:
                self.cursors.join(log.topic, self.stored[name])
            else:
                self.cursors.leave(log.topic)
        self.check()

    # Messages.

    def publish(
        self,
        name: str,
        step: int,
        ttl_ms: int,
        key: str,
        *,
        heard: bool,
        choice: Choice = EVERYBODY,
    ) -> None:
        log = self.logs[name]
        published = self.append(log, step, ttl_ms, key, choice)
        if heard and (at_hand := log.hear(published)) is not None:
            self.offer(log, [at_hand])
        self.check()

    def burst(self, name: str, keys: list[str], ttls_ms: list[int], choice: Choice) -> None:
        """Publish messages that are heard of together, and go out as a run."""
        log = self.logs[name]
        stored = [
            self.append(log, 1, ttl_ms, key, choice)
            for key, ttl_ms in zip(keys, ttls_ms, strict=True)
        ]
        at_hand = [one for one in map(log.hear, stored) if one is not None]
        if at_hand:
            self.offer(log, at_hand)
        self.check()

    def append(self, log: Log, step: int, ttl_ms: int, key: str, choice: Choice) -> Item:
        published = log.append(step, self.now_ms + ttl_ms, key, choice.admission)
        if (copies := self.copies.get(log.name)) is not None:
            copies.put(published, choice.wanted, set(self.stored), self.platform)
        return published

    def offer(self, log: Log, items: list[Item]) -> None:
        """Offer a run to the session, or else its messages one by one."""
        run, due_ms = Run(items), self.now_ms + TIMEOUT_MS
        run.look(self.now_ms)
        if run.whole and self.cursors.offer_run(log.topic, run, due_ms, self.room()):
            for one in items:
                self.sent(log.name, one)
            return
        for one in items:
            if self.cursors.offer(log.topic, one, self.now_ms, due_ms, self.room()):
                self.sent(log.name, one)

    def room(self) -> int:
        return self.window - self.cursors.in_flight

    def pump(self) -> bool:
        """Read what the session is behind with; False where there is nothing, or no room."""
        if self.cursors.is_short and self.room() > 0:
            self.repeat()
        if self.room() <= 0 or (wanted := self.cursors.next_read()) is None:
            return False
        topic, after = wanted
        items, upto = self.logs[topic.name].read(after)
        due_ms = self.now_ms + TIMEOUT_MS
        for one in self.cursors.take(topic, items, upto, self.now_ms, due_ms, self.room()):
            self.sent(topic.name, one)
        self.check()
        return True

    def later(self, duration_ms: int) -> None:
        self.now_ms += duration_ms
        self.repeat()
        self.check()

    def repeat(self) -> None:
        """Send what is due once more."""
        for one in self.cursors.due(self.now_ms, TIMEOUT_MS, self.room()):
            name, _ = self.unacked[one.message]
            self.allowed(name, one)

    def sent(self, name: str, one: Item) -> None:
        assert one.seq > self.last_sent.get(name, 0), "in order, and once unless it is due"
        self.last_sent[name] = one.seq
        self.unacked[one.message] = (name, one)
        self.allowed(name, one)

    def allowed(self, name: str, one: Item) -> None:
        assert name in self.copies, "nothing after an unsubscribe"
        assert one.seq > self.copies[name].since, "nothing of before the subscription"
        assert one.seq in self.copies[name].ever, "it was never for this device"
        assert one.expires_ms > self.now_ms
        assert (name, one.seq) not in self.acked_here, "acked in this session"

    def ack(self, number: int) -> None:
        if not self.unacked:
            return
        name, one = self.unacked.pop(list(self.unacked)[number % len(self.unacked)])
        self.cursors.acked(one.message)
        self.done(name, one)
        self.check()

    def ack_all(self) -> None:
        """Ack all that the device has in one frame, as it does after a run."""
        ids = [MessageId(message) for message in self.unacked]
        if self.cursors.acked_together(ids) is None:
            for message in ids:
                self.cursors.acked(message)
        else:
            assert self.cursors.is_quiet(self.now_ms)
        assert self.cursors.in_flight == 0
        for name, one in self.unacked.values():
            self.done(name, one)
        self.unacked.clear()
        self.check()

    def done(self, name: str, one: Item) -> None:
        if (copies := self.copies.get(name)) is not None and one.seq > copies.since:
            copies.waiting.pop(one.seq, None)
            self.acked_here.add((name, one.seq))

    def nack(self, number: int) -> None:
        if self.unacked:
            _, one = self.unacked[list(self.unacked)[number % len(self.unacked)]]
            self.cursors.nacked(one.message, self.now_ms + TIMEOUT_MS // 2)

    def save(self) -> None:
        for name, seq in self.cursors.take_dirty():
            self.stored[name] = max(self.stored[name], seq)

    def reconnect(self) -> None:
        """Begin another session; what the last one did not save is lost."""
        self.cursors = Cursors()
        self.unacked.clear()
        self.acked_here.clear()
        self.last_sent.clear()
        self.tell()

    def check(self) -> None:
        """The window holds, and no cursor has passed what the device still needs."""
        assert self.cursors.in_flight <= self.window
        for name, copies in self.copies.items():
            alive = copies.alive(self.now_ms)
            topic = self.logs[name].topic
            assert not alive or self.cursors.cursor(topic) < alive[0]
            assert self.cursors.cursor(topic) >= copies.since

    def settle(self) -> None:
        """Let everything go well until nothing moves any more: all that waits has arrived."""
        for log in self.logs.values():
            log.look()
            self.cursors.look(log.topic)
        while self.unacked or self.pump():
            self.ack(0)
        for name, copies in self.copies.items():
            assert not copies.alive(self.now_ms), name
            assert self.cursors.cursor(self.logs[name].topic) == self.logs[name].head
