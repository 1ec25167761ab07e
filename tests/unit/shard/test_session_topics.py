"""A session and its topics: what goes out, what the device says, what is to be stored."""

import pytest

from gateway.shard.events import (
    CRITICAL_ROOM,
    Acked,
    Action,
    ChangeTopics,
    CursorsMoved,
    Detach,
    ReadSubscriptions,
    ReadTopic,
    Relay,
    SaveCursors,
    TopicEngaged,
)
from gateway.shard.session.cursors import MAX_HELD
from gateway.shard.session.published import Counts, Item, Run, Topic
from router.model.hint import Resubscribe
from router.model.ids import MessageId, Partition, ProjectId, TopicName, new_topic_message_id
from router.model.lane import Lane
from router.model.message import ReceiptMode
from router.model.receipt import Event
from router.model.selection import Selection
from router.policy.admission import Admission
from sdk_client import wire
from tests.conformance.wire import read_frames
from tests.unit.shard.driver import DEVICE, EPOCH, START_MS, Lead, frames, of, only, sent, window

HOUR_MS = 3_600_000


def identifier(seq: int) -> MessageId:
    return new_topic_message_id(Partition("07"), START_MS, seq.to_bytes(10, "big"))


def published(seq: int, expires_ms: int = START_MS + HOUR_MS) -> Item:
    message = identifier(seq)
    body = wire.encode({"op": "message", "id": message, "topic": "news"})
    return Item(ProjectId("p"), seq, seq - 1, message, expires_ms, ReceiptMode.AGGREGATE, "", body)


class TopicLead:
    """A session that subscribes to one topic."""

    def __init__(self, cursor: int = 0, **limits: int) -> None:
        self.lead = Lead(**limits).live()
        self.counts = Counts()
        self.topic = Topic(TopicName("news"), self.counts, cursor)
        assert not self.lead.session.on_topics([(self.topic, cursor)], self.lead.now_ms)

    def publish(self, seq: int) -> list[int]:
        """Publish, and give what goes out by seq."""
        return seqs(self.hear(published(seq)))

    def hear(self, *items: Item) -> list[Action]:
        """Take a run."""
        self.topic.head = max(self.topic.head, items[-1].seq)
        run, now_ms = Run(items), self.lead.now_ms
        run.look(now_ms)
        return list(self.lead.session.on_published(self.topic, run, now_ms))

    def ack(self, *numbers: int) -> list[Action]:
        ids = [identifier(number) for number in numbers]
        return list(self.lead.gets(op="ack", ids=ids))

    def read(self, *numbers: int, upto: int) -> list[Action]:
        items = [published(number) for number in numbers]
        now_ms = self.lead.now_ms
        return list(self.lead.session.on_topic_read(self.topic, items, upto, now_ms))


IDS = {identifier(seq): seq for seq in range(100)}


def seqs(actions: object) -> list[int]:
    """The messages to topics among actions, by seq."""
    assert isinstance(actions, list | tuple)
    found = []
    for action in of(Relay, actions):
        written, rest = read_frames(action.data)
        assert not rest
        found += [IDS[MessageId(str(wire.decode(one.payload.decode())["id"]))] for one in written]
    return found


def test_a_message_goes_out_as_it_is_published_and_its_ack_is_told_once() -> None:
    news = TopicLead()
    assert news.publish(1) == [1]
    assert news.ack(1) == [CursorsMoved()]
    assert news.publish(2) == [2]
    assert news.ack(2) == []
    assert news.lead.session.take_cursors() == [("news", 2)]
    assert news.publish(3) == [3]
    assert news.ack(3) == [CursorsMoved()]
    assert news.counts.items[0].counts == {Event.SENT: 1, Event.DELIVERED: 1}
    assert news.lead.tally.deliveries == 3


def test_mailbox_and_topics_share_the_window() -> None:
    news = TopicLead(window=2)
    assert news.publish(1) == [1]
    assert sent(news.lead.hint(1)) == [1]
    assert news.publish(2) == []
    fetched = news.lead.hint(2)
    assert not sent(fetched)
    actions = news.ack(1)
    assert ReadTopic(TopicName("news"), 1) in actions
    assert seqs(news.read(2, upto=2)) == [2]


def test_acks_of_both_kinds_come_in_one_frame() -> None:
    news = TopicLead()
    news.publish(1)
    news.lead.hint(1)
    mailbox = news.lead.gets(op="ack", ids=[identifier(1), "x"])
    assert of(CursorsMoved, mailbox)
    assert not of(Acked, mailbox)


def test_a_full_socket_leaves_messages_in_the_log() -> None:
    news = TopicLead()
    news.lead.writable(False)
    assert news.publish(1) == []
    assert only(ReadTopic, news.lead.writable(True)) == ReadTopic(TopicName("news"), 0)
    assert seqs(news.read(1, upto=1)) == [1]


def test_more_that_is_known_of_the_log_is_read_once() -> None:
    news = TopicLead(5)
    session, now_ms = news.lead.session, news.lead.now_ms
    assert not session.on_tail(news.topic, now_ms)
    news.topic.head = 9
    assert only(ReadTopic, session.on_tail(news.topic, now_ms)).after == 5
    assert not session.on_tail(news.topic, now_ms)
    assert seqs(news.read(7, 9, upto=9)) == [7, 9]
    assert not news.read(7, 9, upto=9)  # nothing was asked for


def test_a_store_that_is_away_is_asked_again_later() -> None:
    news = TopicLead()
    news.topic.head = 1
    session = news.lead.session
    assert session.on_tail(news.topic, news.lead.now_ms)
    assert not session.on_topic_away(news.lead.now_ms)
    (again,) = of(ReadTopic, news.lead.later(1_000))
    assert again.after == 0


def test_what_is_not_acked_comes_again_and_not_after_it_expired() -> None:
    news = TopicLead(ack_timeout_ms=1_000)
    news.publish(1)
    assert seqs(news.lead.later(1_000)) == [1]
    assert seqs(news.lead.later(1_999)) == []
    assert seqs(news.lead.later(1)) == [1]
    assert news.lead.tally.redeliveries == 2
    news.ack(1)
    assert seqs(news.lead.later(60_000)) == []


def test_a_nack_brings_a_message_back_and_an_unknown_one_is_ignored() -> None:
    news = TopicLead()
    news.publish(1)
    assert not news.lead.gets(op="nack", id=identifier(1), retry_after=2)
    assert not news.lead.gets(op="nack", id=identifier(7))
    assert seqs(news.lead.later(1_999)) == []
    assert seqs(news.lead.later(1)) == [1]


def test_a_ttl_of_zero_goes_out_at_once_or_never() -> None:
    news = TopicLead()
    now_ms = news.lead.now_ms
    live = published(0, expires_ms=now_ms)
    assert seqs(news.hear(live)) == [0]
    assert not news.hear(live)
    late = published(0, expires_ms=now_ms - 10_000)
    late.message = identifier(50)
    assert not news.hear(late)


def test_a_run_goes_out_in_one_piece_and_is_counted_and_acked_like_its_messages() -> None:
    news = TopicLead()
    items = [published(seq) for seq in (1, 2, 3)]
    actions = news.hear(*items)
    assert len(actions) == 1
    assert seqs(actions) == [1, 2, 3]
    news.ack(2, 1)
    assert [item.counts for item in items] == [
        {Event.SENT: 1, Event.DELIVERED: 1},
        {Event.SENT: 1, Event.DELIVERED: 1},
        {Event.SENT: 1},
    ]
    assert news.lead.tally.deliveries == 3
    assert news.lead.session.take_cursors() == [("news", 2)]


def test_what_of_a_run_is_not_acked_comes_again() -> None:
    news = TopicLead(ack_timeout_ms=1_000)
    news.hear(published(1), published(2), published(3))
    news.ack(2)
    assert seqs(news.lead.later(1_000)) == [1, 3]


def test_a_run_that_is_larger_than_the_window_fills_it_and_the_rest_is_read() -> None:
    news = TopicLead(window=2)
    actions = news.hear(published(1), published(2), published(3))
    assert seqs(actions) == [1, 2]
    assert not of(ReadTopic, actions), "there is no room for it"
    assert of(ReadTopic, news.ack(1)) == [ReadTopic(TopicName("news"), 2)]
    assert seqs(news.read(3, upto=3)) == [3]


def test_a_run_behind_a_gap_is_read_from_the_log() -> None:
    news = TopicLead()
    actions = news.hear(published(3), published(4))
    assert not seqs(actions)
    assert only(ReadTopic, actions).after == 0
    assert seqs(news.read(1, 2, 3, 4, upto=4)) == [1, 2, 3, 4]


def test_a_session_that_has_read_a_part_of_a_run_gets_the_others() -> None:
    news = TopicLead(cursor=1)
    assert seqs(news.hear(published(1), published(2), published(3))) == [2, 3]


@pytest.mark.parametrize("why", ["gone", "expired", "for others"])
def test_what_of_a_run_is_for_nobody_is_left_out(why: str) -> None:
    news = TopicLead()
    items = [published(seq) for seq in (1, 2, 3)]
    if why == "gone":
        items[1].gone = True
    elif why == "expired":
        items[1].expires_ms = news.lead.now_ms
    else:
        items[1].selection = Admission(Selection("'other' in topics"))
    assert seqs(news.hear(*items)) == [1, 3]
    news.ack(1, 3)
    assert news.lead.session.take_cursors() == [("news", 3)]


def test_a_full_socket_leaves_a_run_in_the_log() -> None:
    news = TopicLead()
    news.lead.writable(False)
    assert not news.hear(published(1), published(2))
    assert only(ReadTopic, news.lead.writable(True)).after == 0


def test_a_run_of_critical_messages_has_more_room() -> None:
    news = TopicLead(window=1)
    news.publish(1)
    items = [published(seq) for seq in range(2, CRITICAL_ROOM + 3)]
    for item in items:
        item.lane = Lane.CRITICAL
    assert seqs(news.hear(*items)) == [item.seq for item in items[:CRITICAL_ROOM]]


@pytest.mark.parametrize("op", ["subscribe", "unsubscribe"])
def test_a_change_is_asked_for_once_and_answered(op: str) -> None:
    lead = Lead(max_upstream=1).live()
    change = only(ChangeTopics, lead.gets(op=op, topics=["a", "/topics/b", "a"], ref="r"))
    assert change == ChangeTopics("r", (TopicName("a"), TopicName("b")), op == "subscribe")
    assert not lead.gets(op=op, topics=["a"], ref="r")
    (full,) = frames(lead.gets(op=op, topics=["a"], ref="s"))
    assert full["code"] == "RESOURCE_EXHAUSTED"
    (answer,) = frames(lead.session.on_done("r", None, lead.now_ms))
    assert answer == {"op": "ok", "ref": "r"}
    (bad,) = frames(lead.gets(op=op, topics=["no name"], ref="t"))
    assert (bad["code"], bad["ref"]) == ("INVALID_ARGUMENT", "t")
    (error,) = frames(lead.session.on_done("r", "Too many.", lead.now_ms, "TOO_MANY_TOPICS"))
    assert error["code"] == "TOO_MANY_TOPICS"


def test_an_ended_subscription_is_silent_and_the_last_one_leaves_nothing() -> None:
    news = TopicLead()
    session = news.lead.session
    news.publish(1)
    assert not session.on_topics([], news.lead.now_ms)
    assert session.topics == ()
    assert news.publish(2) == []
    assert news.ack(1) == []
    assert not news.read(2, upto=2)
    assert session.take_cursors() == []
    assert not session.keep_cursors()
    assert not session.on_topics([], news.lead.now_ms)


def test_a_change_by_the_app_server_is_read() -> None:
    lead = Lead().live()
    hint = Resubscribe(DEVICE, EPOCH)
    assert lead.session.on_hint(hint, lead.now_ms) == (ReadSubscriptions(),)


def test_engagement_with_a_message_to_a_topic_is_counted() -> None:
    lead = Lead().live()
    told = only(TopicEngaged, lead.gets(op="event", id=identifier(1), event="opened"))
    assert told == TopicEngaged(identifier(1), Event.OPENED, lead.now_ms)


def test_what_was_not_stored_is_told_again() -> None:
    news = TopicLead()
    news.publish(1)
    news.ack(1)
    session = news.lead.session
    assert session.take_cursors() == [("news", 1)]
    assert session.keep_cursors() == (CursorsMoved(),)
    assert session.take_cursors() == [("news", 1)]


def test_the_end_of_a_session_saves_its_cursors() -> None:
    news = TopicLead()
    news.publish(1)
    news.publish(2)
    news.ack(1)
    last = news.lead.session.on_closed(news.lead.now_ms)
    assert last == (SaveCursors(((TopicName("news"), 1),)), Detach())
    assert news.lead.session.topics == (news.topic,)
    assert not news.publish(3)


def test_a_read_that_finds_no_room_goes_on_after_an_ack() -> None:
    news = TopicLead(window=1)
    news.topic.head = 2
    news.lead.session.on_tail(news.topic, news.lead.now_ms)
    assert seqs(news.read(1, 2, upto=2)) == [1]
    assert of(ReadTopic, news.ack(1)) == [ReadTopic(TopicName("news"), 1)]


def test_the_mailbox_goes_on_after_an_ack_of_a_topic() -> None:
    news = TopicLead(window=1)
    news.publish(1)
    assert not sent(news.lead.hint(1))
    (fetch,) = [action for action in news.ack(1) if type(action).__name__ == "Fetch"]
    assert fetch is not None
    assert sent(news.lead.fetched(window(1))) == [1]


def test_a_device_that_nacks_everything_is_sent_no_more_than_it_may_hold() -> None:
    some = TopicLead(window=2)
    sent_ids = 0
    for seq in range(1, 2 * MAX_HELD):
        if not of(Relay, some.hear(published(seq))):
            break
        sent_ids += 1
        some.lead.gets(op="nack", id=identifier(seq), retry_after=3600)
    assert sent_ids == MAX_HELD + 2


def test_nacked_messages_come_back_within_the_window_as_the_device_acks() -> None:
    news = TopicLead(window=2, ack_timeout_ms=60_000)
    for seq in range(1, 6):
        assert news.publish(seq) == [seq]
        assert not of(Relay, news.lead.gets(op="nack", id=identifier(seq), retry_after=2))
    assert seqs(news.lead.later(2_000)) == [1, 2]
    assert seqs(news.ack(1)) == [3]
    assert seqs(news.ack(2, 3)) == [4, 5]


def test_a_message_is_due_again_on_time_though_the_clock_was_set_back() -> None:
    some = TopicLead(ack_timeout_ms=1_000)
    some.publish(1)
    some.lead.session.on_clock(-HOUR_MS)
    assert seqs(some.lead.session.on_timer(some.lead.now_ms - HOUR_MS + 1_000)) == [1]
