"""How far a session is in its topics: one rule a test."""

from gateway.shard.dialects import discover
from gateway.shard.events import Relay
from gateway.shard.session.cursors import NEVER_MS, Cursors
from gateway.shard.session.published import Counts, Run, Topic
from router.model.ids import DeviceId, MessageId, TopicName
from router.model.message import ReceiptMode
from router.model.receipt import Event
from sdk_client import wire
from tests.unit.shard.topic_world import item

NOW, DUE, ROOM = 10, 1_010, 8


def topic(head: int = 0) -> Topic:
    return Topic(TopicName("news"), Counts(), head)


def joined(cursor: int = 0) -> tuple[Cursors, Topic]:
    cursors, news = Cursors(), topic(cursor)
    cursors.join(news, cursor)
    return cursors, news


def offer(cursors: Cursors, news: Topic, seq: int, previous: int = -1, room: int = ROOM) -> bool:
    news.head = max(news.head, seq)
    return cursors.offer(news, item(seq, previous), NOW, DUE, room)


def test_the_next_message_is_sent_and_moves_the_cursor_when_it_is_acked() -> None:
    cursors, news = joined(5)
    assert offer(cursors, news, 6)
    assert cursors.cursor(news) == 5
    assert cursors.acked(MessageId("x")) is None
    flight = cursors.acked(MessageId("m6"))
    assert flight is not None
    assert flight.item.seq == 6
    assert cursors.acked(MessageId("m6")) is None
    assert cursors.take_dirty() == [("news", 6)]
    assert not cursors.is_dirty
    assert cursors.in_flight == 0


def test_a_run_that_is_all_in_flight_is_acked_at_once_or_message_by_message() -> None:
    for at_once in (True, False):
        cursors, news = joined()
        news.head = 2
        run = Run([item(1), item(2, 1)])
        run.look(NOW)
        assert cursors.offer_run(news, run, DUE, ROOM)
        assert (cursors.in_flight, cursors.cursor(news), cursors.due_ms) == (2, 0, DUE)
        assert cursors.acked_together(["m1"]) is None
        assert cursors.acked_together(["m2", "m1"]) is None
        if at_once:
            assert cursors.acked_together(["m1", "m2"]) is not None
        else:
            assert cursors.acked(MessageId("m2")) is not None
            assert cursors.cursor(news) == 0
            assert cursors.acked_together(["m1"]) is None
            assert cursors.acked(MessageId("m1")) is not None
        assert not cursors.has_flight(MessageId("m2"))
        assert (cursors.in_flight, cursors.take_dirty()) == (0, [("news", 2)])


def test_a_session_that_repeats_a_run_leaves_that_of_the_others_alone() -> None:
    (one, news), other = joined(), Cursors()
    other.join(news, 0)
    run = Run([item(1)])
    run.look(NOW)
    news.head = 1
    assert one.offer_run(news, run, DUE, ROOM)
    assert other.offer_run(news, run, DUE, ROOM)
    assert [sent.message for sent in one.due(DUE, 1_000, ROOM)] == ["m1"]
    assert one.due_ms > DUE
    assert other.due_ms == DUE
    assert other.acked_together(["m1"]) is not None


def test_an_ack_out_of_order_leaves_the_cursor_before_the_first_unacked() -> None:
    cursors, news = joined()
    for seq in (3, 6, 9):
        assert offer(cursors, news, seq, seq - 3)
    cursors.acked(MessageId("m6"))
    assert cursors.cursor(news) == 2
    cursors.acked(MessageId("m3"))
    assert cursors.cursor(news) == 8
    cursors.acked(MessageId("m9"))
    assert cursors.cursor(news) == 9


def test_a_gap_or_a_full_window_makes_the_topic_one_to_be_read() -> None:
    cursors, news = joined()
    assert not offer(cursors, news, 2, previous=1)
    assert cursors.next_read() == (news, 0)
    assert not offer(cursors, news, 3)
    sent = cursors.take(news, [item(1), item(2), item(3)], 3, NOW, DUE, 2)
    assert [one.seq for one in sent] == [1, 2]
    assert cursors.next_read() == (news, 2)
    assert [one.seq for one in cursors.take(news, [item(3)], 3, NOW, DUE, 1)] == [3]
    assert cursors.next_read() is None
    assert not offer(cursors, news, 4, room=0)
    assert cursors.next_read() == (news, 3)


def test_what_is_known_is_not_sent_again() -> None:
    cursors, news = joined(5)
    assert not offer(cursors, news, 5)
    assert offer(cursors, news, 6)
    assert not offer(cursors, news, 6)
    assert not cursors.take(news, [item(5), item(6)], 6, NOW, DUE, ROOM)


def test_a_message_that_expired_or_is_gone_is_passed_over() -> None:
    cursors, news = joined()
    news.head = 2
    gone = item(2)
    gone.gone = True
    assert not cursors.offer(news, item(1, expires_ms=NOW), NOW, DUE, ROOM)
    assert not cursors.offer(news, gone, NOW, DUE, ROOM)
    assert cursors.take_dirty() == [("news", 2)]


def test_what_is_not_acked_is_due_again_ever_later() -> None:
    cursors, news = joined()
    assert cursors.due_ms == NEVER_MS
    offer(cursors, news, 1)
    assert cursors.due_ms == DUE
    assert not cursors.due(DUE - 1, 1_000, ROOM)
    now_ms = DUE
    for wait_ms in (2_000, 4_000, 8_000, 8_000):
        assert [one.seq for one in cursors.due(now_ms, 1_000, ROOM)] == [1]
        assert cursors.due_ms == now_ms + wait_ms
        now_ms = cursors.due_ms


def test_what_expired_unacked_makes_room() -> None:
    cursors, news = joined()
    news.head = 1
    assert cursors.offer(news, item(1, expires_ms=NOW + 1), NOW, DUE, ROOM)
    assert not cursors.due(DUE, 1_000, ROOM)
    assert (cursors.in_flight, cursors.cursor(news), cursors.due_ms) == (0, 1, NEVER_MS)


def test_a_nacked_message_takes_no_room_and_holds_the_cursor() -> None:
    cursors, news = joined()
    offer(cursors, news, 1)
    offer(cursors, news, 2)
    assert cursors.nacked(MessageId("m1"), 500)
    assert cursors.nacked(MessageId("m1"), 600)
    assert not cursors.nacked(MessageId("m9"), 500)
    cursors.acked(MessageId("m2"))
    assert (cursors.in_flight, cursors.cursor(news)) == (0, 0)
    assert [one.seq for one in cursors.due(600, 1_000, ROOM)] == [1]
    assert cursors.in_flight == 1


def test_nacked_messages_that_are_due_together_come_as_there_is_room() -> None:
    cursors, news = joined()
    for seq in range(1, 6):
        assert offer(cursors, news, seq)
        assert cursors.nacked(MessageId(f"m{seq}"), 600)
    assert [one.seq for one in cursors.due(600, 1_000, 2)] == [1, 2]
    assert (cursors.in_flight, cursors.is_short, cursors.due_ms) == (2, True, 2_600)
    cursors.acked(MessageId("m1"))
    assert [one.seq for one in cursors.due(601, 1_000, 1)] == [3]
    cursors.acked(MessageId("m2"))
    cursors.acked(MessageId("m3"))
    assert [one.seq for one in cursors.due(602, 1_000, 2)] == [4, 5]
    assert not cursors.is_short


def test_a_ttl_of_zero_is_sent_once_and_moves_nothing() -> None:
    cursors, news = joined(5)
    live = item(0)
    assert cursors.offer_live(news, live, DUE, ROOM)
    assert not cursors.offer_live(news, live, DUE, ROOM)
    assert not cursors.offer_live(topic(), live, DUE, ROOM)
    assert cursors.cursor(news) == 5
    assert not cursors.due(DUE, 1_000, ROOM)
    assert cursors.in_flight == 0
    assert not cursors.is_dirty


def test_an_end_and_a_new_beginning_of_a_subscription() -> None:
    cursors, news = joined()
    offer(cursors, news, 1)
    offer(cursors, news, 5, previous=4)
    cursors.leave(news)
    cursors.leave(news)
    assert (len(cursors), cursors.in_flight, cursors.is_dirty) == (0, 0, False)
    assert cursors.next_read() is None
    assert not offer(cursors, news, 6)
    assert not cursors.take(news, [item(6)], 6, NOW, DUE, ROOM)
    cursors.join(news, 6)
    assert offer(cursors, news, 7)
    cursors.join(news, 6)
    assert cursors.in_flight == 1
    cursors.join(news, 9)  # it ended and began anew, and the session heard of the latter alone
    assert (cursors.in_flight, cursors.cursor(news)) == (0, 9)
    assert not cursors.look(topic(3))


def test_what_was_not_stored_is_given_again() -> None:
    cursors, news = joined()
    offer(cursors, news, 1)
    cursors.acked(MessageId("m1"))
    assert cursors.take_dirty() == [("news", 1)]
    assert cursors.take_dirty() == []
    cursors.mark_dirty()
    assert cursors.take_dirty() == [("news", 1)]


def test_topics_that_are_behind_take_turns() -> None:
    cursors = Cursors()
    one, other = topic(9), topic(9)
    cursors.join(one, 0)
    cursors.join(other, 0)
    assert list(cursors) == [one, other]
    assert cursors.next_read() == (one, 0)
    cursors.take(one, [item(1)], 1, NOW, DUE, ROOM)
    assert cursors.next_read() == (other, 0)
    other.head = 0  # the store lost what was known
    assert cursors.next_read() == (one, 1)


def test_events_are_counted_as_the_sender_asked() -> None:
    counts, device = Counts(), DeviceId("d" * 16)
    aggregate, single, none = item(1), item(2), item(3)
    single.receipts, none.receipts = ReceiptMode.DEVICE, ReceiptMode.NONE
    for one in (aggregate, single, none):
        counts.add(one, Event.SENT, device, NOW)
        counts.add(one, Event.SENT, device, NOW)
    assert counts.items == [aggregate, single]
    assert aggregate.counts == {Event.SENT: 2}
    assert [told.device for told in single.devices] == [device, device]


def test_a_frame_is_built_once_for_each_dialect() -> None:
    message = item(1)
    message.frame = wire.encode({"op": "message", "id": "m1"})
    dialects = discover()
    for dialect in dialects.values():
        assert message.relay(dialect) is message.relay(dialect)
    assert message.relay(dialects[wire.SUBPROTOCOL_JSON]) == Relay(
        b'\x81\x1c{"op":"message","id":"m1"}'.replace(b"\x1c", bytes([26]))
    )
