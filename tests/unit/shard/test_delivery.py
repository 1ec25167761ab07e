"""Which message a session sends when: order, gaps, the window, a full socket, expiry, TTL 0."""

import pytest

from gateway.shard.events import MAX_FETCH, Acked, Action, Fetch, Sent
from router.model.hint import Wake
from router.model.ids import DeviceId
from router.model.mailbox import Ack, Window
from tests.unit.shard.driver import (
    DEVICE,
    EPOCH,
    START_MS,
    Lead,
    fetch,
    frames,
    message,
    of,
    only,
    pending,
    sent,
    window,
)


@pytest.fixture
def live() -> Lead:
    return Lead().live()


# Order.


def test_the_very_next_message_goes_straight_out(live: Lead) -> None:
    for seq in (1, 2, 3):
        actions = live.hint(seq)
        assert sent(actions) == [seq]
        assert len(actions) == 1


def test_a_welcome_is_followed_by_what_waits_in_order() -> None:
    lead = Lead()
    lead.connect()
    actions = lead.attached(window(3, 4, 9, head=10))
    assert [frame["op"] for frame in frames(actions)] == ["welcome", *["message"] * 3]
    assert sent(actions) == [3, 4, 9]
    assert sent(lead.hint(11)) == [11]


def test_before_a_message_behind_a_gap_the_mailbox_is_read(live: Lead) -> None:
    live.hint(1)
    assert fetch(live.hint(4)) == Fetch(1, 63)
    assert not live.hint(5)
    assert not live.hint(2)
    assert sent(live.fetched(window(2, 3, 4, 5))) == [2, 3, 4, 5]
    assert sent(live.hint(6)) == [6]


def test_a_message_that_came_while_the_mailbox_was_read_is_read_next(live: Lead) -> None:
    live.hint(3)
    live.hint(7)
    actions = live.fetched(window(1, 2, 3, head=5))
    assert sent(actions) == [1, 2, 3]
    assert fetch(actions).after_seq == 5
    assert sent(live.fetched(window(6, 7))) == [6, 7]


def test_a_hint_that_comes_again_changes_nothing(live: Lead) -> None:
    live.hint(1)
    assert not live.hint(1)
    live.ack(1)
    assert not live.hint(1)


def test_a_hint_of_what_a_read_brought_changes_nothing(live: Lead) -> None:
    live.hint(2)
    live.fetched(window(1, 2, 3))
    assert not live.hint(3)


def test_numbers_that_are_gone_leave_no_gap() -> None:
    live = Lead().live(window(head=5))
    assert sent(live.hint(6)) == [6]


def test_messages_lost_to_the_cap_are_told_once() -> None:
    lead = Lead()
    lead.connect()
    actions = lead.attached(window(8, dropped=7), drops_known=3)
    assert frames(actions)[1] == {"op": "dropped", "count": 4}
    assert sent(actions) == [8]
    lead.hint(10)
    actions = lead.fetched(window(9, 10, dropped=8))
    assert frames(actions)[0] == {"op": "dropped", "count": 1}
    lead.hint(12)
    assert sent(lead.fetched(window(11, 12, dropped=8))) == [11, 12]


def test_the_first_ack_of_what_came_after_proves_that_the_drops_were_heard() -> None:
    live = Lead().live(window(1, 2, 3))
    live.nack(2)
    live.hint(5)
    live.fetched(window(4, 5, dropped=2))
    assert only(Acked, live.ack(1, 2)).drops_known == 0, "sent before the notice"
    assert only(Acked, live.ack(77)).drops_known == 0, "sent by an older session"
    assert only(Acked, live.ack(3, 5)).drops_known == 2
    assert only(Acked, live.ack(4)).drops_known == 0, "told already"


def test_drops_that_a_crash_of_the_store_took_are_told_again_as_they_come() -> None:
    live = Lead().live(window(1, dropped=5))
    live.hint(3)
    assert sent(live.fetched(window(2, 3, dropped=4))) == [2, 3]
    live.hint(5)
    actions = live.fetched(window(4, 5, dropped=6))
    assert frames(actions)[0] == {"op": "dropped", "count": 2}


def test_a_store_that_lost_its_last_second_is_believed(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    live.ack(1, 2, 3)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert not live.fetched(window(head=2))
    assert sent(live.hint(3, number=33)) == [33]


# The window.


def test_no_more_is_in_flight_than_the_window_holds() -> None:
    live = Lead(window=2).live()
    assert sent(live.hint(1)) == [1]
    assert sent(live.hint(2)) == [2]
    assert not live.hint(3)
    assert not live.hint(4)
    assert live.session.in_flight == 2
    acked, read = live.ack(1)
    assert isinstance(acked, Acked)
    assert read == Fetch(2, 1)
    assert sent(live.fetched(window(3, head=4, more=True))) == [3]
    assert live.session.in_flight == 2


def test_a_backlog_is_read_window_by_window() -> None:
    live = Lead(window=3).live(window(1, 2, 3, head=10, more=True))
    handled: list[int] = []
    waiting = [1, 2, 3]
    backlog = list(range(4, 11))
    while waiting:
        handled += waiting
        read = [action for number in waiting for action in of(Fetch, live.ack(number))]
        waiting = []
        while read:
            brought = [seq for seq in backlog if seq > read[-1].after_seq][: read[-1].limit]
            more = brought[-1:] != backlog[-1:]
            actions = live.fetched(window(*brought, head=10, more=more))
            waiting += sent(actions)
            read = of(Fetch, actions)
    assert handled == list(range(1, 11))


def test_a_big_window_is_filled_by_several_reads() -> None:
    lead = Lead(window=300)
    assert lead.connect().limit == MAX_FETCH
    seqs = list(range(1, 401))
    actions: list[Action] = [*lead.attached(window(*seqs[:128], head=400, more=True))]
    assert fetch(actions) == Fetch(128, 128)
    more = lead.fetched(window(*seqs[128:256], head=400, more=True))
    assert fetch(more) == Fetch(256, 44)
    last = lead.fetched(window(*seqs[256:300], head=400, more=True))
    assert sent([*actions, *more, *last]) == seqs[:300]
    assert not of(Fetch, last)


def test_a_read_that_brings_more_than_there_is_room_for_is_taken_up_again() -> None:
    live = Lead(window=2).live()
    live.hint(1)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert sent(live.fetched(window(1, 2, 3, 4))) == [2]
    assert fetch(live.ack(1)) == Fetch(2, 1)


# Acks.


def test_an_ack_tells_when_the_message_was_sent_unless_that_was_told(live: Lead) -> None:
    live.hint(1)
    live.hint(2)
    assert only(Acked, live.ack(1)).acks == (Ack(message(1), 1, START_MS),)
    live.later(1_000)
    assert only(Acked, live.ack(2)).acks == (Ack(message(2), 2, 0),)


def test_many_messages_are_acked_at_once_and_each_once(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    acked = only(Acked, live.ack(3, 1, 3, 1))
    assert [ack.seq for ack in acked.acks] == [3, 1]
    assert not live.ack(1, 3)
    assert live.session.in_flight == 1


def test_an_ack_of_an_older_sessions_message_is_passed_on_once(live: Lead) -> None:
    assert only(Acked, live.ack(9)).acks == (Ack(message(9), 0, 0),)
    assert not live.ack(9)


@pytest.mark.parametrize(
    "text",
    ["nonsense", "x" * 27, message(1)[:-1], message(1, DeviceId("e" * 16))],
)
def test_acks_of_unknown_ids_change_nothing(live: Lead, text: str) -> None:
    live.hint(1)
    assert not live.gets(op="ack", ids=[text])
    assert live.session.in_flight == 1
    assert only(Acked, live.ack(1)).acks[0].seq == 1


def test_an_ack_of_nothing_changes_nothing(live: Lead) -> None:
    assert not live.ack()


def test_what_was_acked_a_moment_ago_is_not_sent_when_it_is_read_again(live: Lead) -> None:
    live.hint(1)
    live.ack(1)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert not live.fetched(window(1))
    live.later(5_000)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert sent(live.fetched(window(1))) == [1]


def test_the_memory_of_acks_is_bounded() -> None:
    live = Lead(max_settled=2).live()
    live.ack(1, 2, 3)
    assert not live.ack(2, 3)
    assert of(Acked, live.ack(1))


def test_the_memory_of_acks_lasts_as_long_as_they_come(live: Lead) -> None:
    live.ack(1)
    live.later(4_999)
    live.ack(2)
    live.later(4_999)
    assert not live.ack(1, 2)
    live.later(5_000)
    assert of(Acked, live.ack(1))


# A full socket.


def test_while_the_socket_is_full_nothing_is_sent_or_read(live: Lead) -> None:
    live.hint(1)
    assert not live.writable(False)
    assert not live.hint(2)
    assert not live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms)
    assert not of(Fetch, live.ack(1))
    assert not of(Fetch, live.later(20_000))
    assert fetch(live.writable(True)) == Fetch(0, MAX_FETCH)
    assert sent(live.fetched(window(2))) == [2]


def test_a_read_that_finds_the_socket_full_is_taken_up_where_it_stopped(live: Lead) -> None:
    live.hint(1)
    live.hint(4)
    live.writable(False)
    assert not live.fetched(window(2, 3, 4))
    assert fetch(live.writable(True)) == Fetch(1, 63)
    assert sent(live.fetched(window(2, 3, 4))) == [2, 3, 4]


def test_a_redelivery_that_finds_the_socket_full_is_taken_up_where_it_stopped(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    fetch(live.later(15_000))
    live.writable(False)
    assert not live.fetched(window(2, 3))
    assert fetch(live.writable(True)) == Fetch(1, MAX_FETCH)
    assert sent(live.fetched(window(2, 3))) == [2, 3]


def test_a_socket_that_empties_with_nothing_to_send_changes_nothing(live: Lead) -> None:
    live.writable(False)
    assert not live.writable(True)


def test_before_the_welcome_a_full_socket_is_noted() -> None:
    lead = Lead()
    lead.connect()
    assert not lead.writable(False)
    assert not sent(lead.attached(window(1, 2)))
    assert fetch(lead.writable(True)) == Fetch(0, 64)


# Expiry.


def test_no_message_is_sent_after_its_expiry(live: Lead) -> None:
    live.now_ms += 1_000
    assert not live.hint(1, expires_ms=live.now_ms)
    assert sent(live.hint(2, expires_ms=live.now_ms + 1)) == [2]
    fetch(live.hint(4))
    brought = (pending(3, live.now_ms), pending(4, live.now_ms + 1))
    assert sent(live.fetched(Window(brought, 4, more=False))) == [4]


# A TTL of 0.


def test_a_message_with_a_ttl_of_0_is_offered_once(live: Lead) -> None:
    assert sent(live.hint(0, number=1, expires_ms=live.now_ms)) == [1]
    assert not live.hint(0, number=1, expires_ms=live.now_ms)
    (marks,) = live.later(60_000)
    assert isinstance(marks, Sent)
    assert live.session.in_flight == 0


def test_a_message_with_a_ttl_of_0_that_was_nacked_is_not_offered_again(live: Lead) -> None:
    live.hint(0, number=1, expires_ms=live.now_ms)
    live.nack(1)
    assert not live.hint(0, number=1, expires_ms=live.now_ms)
    assert only(Acked, live.ack(1)).acks[0].message == message(1)


def test_a_message_with_a_ttl_of_0_is_acked_like_any(live: Lead) -> None:
    live.hint(0, number=1, expires_ms=live.now_ms)
    assert only(Acked, live.ack(1)).acks == (Ack(message(1), 0, live.now_ms),)
    assert not live.hint(0, number=1, expires_ms=live.now_ms)


def test_a_message_with_a_ttl_of_0_keeps_no_other_waiting(live: Lead) -> None:
    live.hint(3)
    assert sent(live.hint(0, number=9, expires_ms=live.now_ms)) == [9]
    assert sent(live.fetched(window(1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("case", ["late", "full socket", "full window"])
def test_a_message_with_a_ttl_of_0_that_cannot_go_now_never_goes(case: str) -> None:
    live = Lead(window=1).live()
    expires_ms = live.now_ms
    if case == "late":
        live.now_ms += 3_001
    elif case == "full socket":
        live.writable(False)
    else:
        live.hint(1)
    assert not live.hint(0, number=9, expires_ms=expires_ms)
    assert not live.writable(True)
    assert not sent(live.ack(1))


# A store that is away.


def test_a_read_that_failed_is_tried_again_a_moment_later(live: Lead) -> None:
    fetch(live.hint(2))
    assert not live.away()
    assert not live.hint(3)
    assert live.later(999) == []
    assert fetch(live.later(1)).after_seq == 0
    assert sent(live.fetched(window(1, 2, 3))) == [1, 2, 3]


@pytest.mark.parametrize("seqs", [(), (1, 2)])
def test_a_wake_whose_read_failed_is_not_forgotten(live: Lead, seqs: tuple[int, ...]) -> None:
    for seq in seqs:
        live.hint(seq)
    assert fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms)).after_seq == 0
    live.away()
    assert fetch(live.later(1_000)).after_seq == 0


def test_a_read_that_failed_keeps_its_time_whatever_happens_meanwhile(live: Lead) -> None:
    live.hint(1)
    live.later(500)
    fetch(live.hint(3))
    live.away()
    only(Sent, live.later(999))
    assert fetch(live.later(1)).after_seq == 1


def test_an_unavailable_store_without_a_read_changes_nothing(live: Lead) -> None:
    assert not live.away()
    assert live.later(1_000) == []
    assert sent(live.hint(1)) == [1]
