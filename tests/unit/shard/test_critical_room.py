"""A critical message to a device that has a full window of unacked ones, and what order allows."""

from gateway.shard.events import CRITICAL_ROOM
from router.model.lane import Lane
from tests.unit.shard.driver import Lead, fetch, sent, window
from tests.unit.shard.test_session_topics import TopicLead, published, seqs

WINDOW = 4


def test_a_critical_message_goes_out_beyond_a_window_full_of_bulk() -> None:
    lead = Lead(window=WINDOW).live()
    for seq in range(1, WINDOW + 1):
        assert sent(lead.hint(seq)) == [seq]
    for seq in range(WINDOW + 1, WINDOW + CRITICAL_ROOM + 1):
        assert sent(lead.hint(seq, lane=Lane.CRITICAL)) == [seq]
    last = WINDOW + CRITICAL_ROOM + 1
    assert lead.hint(last, lane=Lane.CRITICAL) == [], "critical ones have a bound as well"


def test_messages_to_topics_do_not_shut_out_a_critical_one() -> None:
    news = TopicLead(window=WINDOW)
    for seq in range(1, WINDOW + 2):
        assert news.publish(seq) == ([seq] if seq <= WINDOW else [])
    assert sent(news.lead.hint(1, lane=Lane.CRITICAL)) == [1]
    assert sent(news.lead.hint(2)) == []


def test_what_is_before_it_in_the_mailbox_goes_out_first() -> None:
    lead = Lead(window=WINDOW).live()
    for seq in range(1, WINDOW + 1):
        lead.hint(seq)
    assert lead.hint(WINDOW + 1) == []
    read = fetch(lead.hint(WINDOW + 2, lane=Lane.CRITICAL))
    assert (read.after_seq, read.limit) == (WINDOW, CRITICAL_ROOM)
    brought = lead.fetched(window(WINDOW + 1, WINDOW + 2, head=WINDOW + 3, more=True))
    assert sent(brought) == [WINDOW + 1, WINDOW + 2]
    assert not [one for one in brought if type(one).__name__ == "Fetch"], "room is as it was"


def test_a_critical_message_to_a_topic_goes_out_beyond_the_window() -> None:
    bulk = TopicLead(window=WINDOW)
    for seq in range(1, WINDOW + 1):
        assert bulk.publish(seq) == [seq]
    item = published(WINDOW + 1)
    item.lane = Lane.CRITICAL
    assert seqs(bulk.hear(item)) == [WINDOW + 1]


def test_a_critical_message_does_not_overtake_its_own_topic() -> None:
    bulk = TopicLead(window=WINDOW)
    for seq in range(1, WINDOW + 2):
        bulk.publish(seq)
    item = published(WINDOW + 2)
    item.lane = Lane.CRITICAL
    assert not seqs(bulk.hear(item))


def test_a_critical_message_with_a_ttl_of_zero_has_the_room_too() -> None:
    lead = Lead(window=1).live()
    lead.hint(1)
    assert sent(lead.hint(0, number=2)) == []
    assert sent(lead.hint(0, number=3, lane=Lane.CRITICAL)) == [3]
