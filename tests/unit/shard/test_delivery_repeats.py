"""What a session sends again and when: ack time-outs, nacks, messages that are gone meanwhile."""

import pytest

from gateway.shard.events import MAX_FETCH, Acked, Fetch, Nacked, Sent
from router.model.hint import Wake
from router.model.ids import DeviceId
from router.model.mailbox import Ack, Window
from tests.unit.shard.driver import (
    DEVICE,
    EPOCH,
    START_MS,
    Lead,
    closed,
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


# Told as sent.


def test_what_stays_unacked_for_a_second_is_told_as_sent_once(live: Lead) -> None:
    live.hint(1)
    live.later(400)
    live.hint(2)
    live.ack(3)
    assert live.later(599) == []
    assert only(Sent, live.later(1)).acks == (Ack(message(1), 1, START_MS),)
    assert only(Sent, live.later(400)).acks == (Ack(message(2), 2, START_MS + 400),)
    assert not of(Sent, live.later(60_000))


def test_what_is_acked_within_a_second_is_not_told_as_sent(live: Lead) -> None:
    live.hint(1)
    live.ack(1)
    assert live.later(60_000) == []


# Ack time-outs.


def test_what_is_not_acked_in_time_is_sent_again(live: Lead) -> None:
    live.hint(1)
    live.hint(2)
    live.ack(1)
    assert fetch(live.later(15_000)) == Fetch(1, MAX_FETCH)
    assert sent(live.fetched(window(2))) == [2]
    assert live.session.in_flight == 1
    assert (live.tally.deliveries, live.tally.redeliveries) == (2, 1)


def test_the_pause_between_redeliveries_doubles_up_to_a_bound(live: Lead) -> None:
    live.hint(1)
    pauses_ms = []
    for _ in range(6):
        before_ms = live.now_ms
        while not of(Fetch, live.later(1_000)):
            # The device is alive, and does not ack.
            live.session.on_alive(live.now_ms)
        assert sent(live.fetched(window(1))) == [1]
        pauses_ms.append(live.now_ms - before_ms)
    assert pauses_ms == [15_000, 30_000, 60_000, 120_000, 120_000, 120_000]
    assert only(Acked, live.ack(1)).acks == (Ack(message(1), 1, 0),)


def test_a_message_that_is_read_before_its_time_is_not_sent_again(live: Lead) -> None:
    live.hint(1)
    live.later(14_999)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert not live.fetched(window(1))


def test_redeliveries_keep_their_order_and_come_before_what_is_new(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    live.ack(2)
    live.later(15_000)
    assert sent(live.fetched(window(1, 3, 4))) == [1, 3, 4]


def test_a_long_mailbox_is_searched_to_the_end_for_what_is_due(live: Lead) -> None:
    live.hint(1)
    for seq in range(2, 6):
        live.hint(seq)
        live.ack(seq)
    live.hint(6)
    live.later(15_000)
    actions = live.fetched(window(1, head=6, more=True))
    assert sent(actions) == [1]
    assert fetch(actions) == Fetch(1, MAX_FETCH)
    assert sent(live.fetched(window(6))) == [6]


def test_a_wake_reads_the_mailbox_from_its_beginning(live: Lead) -> None:
    for seq in (1, 2):
        live.hint(seq)
        live.ack(seq)
    live.later(10_000)
    assert fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms)) == Fetch(0, MAX_FETCH)
    assert not live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms)
    actions = live.fetched(window(1, head=2))
    assert sent(actions) == [1]
    assert fetch(actions) == Fetch(0, MAX_FETCH)
    assert not live.fetched(window(1, head=2))


def test_a_redelivery_whose_read_fails_is_tried_again(live: Lead) -> None:
    live.hint(1)
    live.later(15_000)
    live.away()
    assert fetch(live.later(1_000)).after_seq == 0
    assert sent(live.fetched(window(1))) == [1]


# Messages that are gone.


def test_what_is_due_and_not_in_the_mailbox_any_more_is_forgotten(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    fetch(live.later(15_000))
    assert sent(live.fetched(window(2, head=3))) == [2]
    assert live.session.in_flight == 1
    assert not of(Fetch, live.later(29_999))


def test_messages_that_are_gone_make_room_in_a_full_window() -> None:
    live = Lead(window=2).live(window(1, 2))
    live.hint(3)
    fetch(live.later(15_000))
    # 1 and 2 expired; the window has no room for 3 before they are known to be gone.
    read = fetch(live.fetched(window(3)))
    assert read == Fetch(2, 2)
    assert sent(live.fetched(window(3))) == [3]


def test_a_full_window_whose_messages_are_gone_is_not_read_over_and_over() -> None:
    live = Lead(window=2).live(window(1, 2))
    live.hint(3)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    # 1 and 2 were cancelled, but the device may still ack them for a while.
    assert not live.fetched(window(3))
    assert of(Fetch, live.ack(1)) == [Fetch(2, 1)]


def test_messages_that_the_store_lost_are_forgotten_too(live: Lead) -> None:
    for seq in (1, 2, 3):
        live.hint(seq)
    fetch(live.later(15_000))
    live.fetched(window(head=1))
    assert live.session.in_flight == 0
    assert sent(live.hint(2, number=22)) == [22]


def test_what_expired_in_flight_is_not_sent_again(live: Lead) -> None:
    live.hint(1, expires_ms=START_MS + 10_000)
    live.later(15_000)
    assert not live.fetched(Window((pending(1, START_MS + 10_000),), 1, more=False))


# Nacks.


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [({}, 5), ({"retry_after": 30}, 30), ({"retry_after": 0}, 1), ({"retry_after": -1e9}, 1)],
)
def test_a_nacked_message_comes_again_after_its_pause(
    live: Lead, asked: dict[str, object], wait_s: int
) -> None:
    live.hint(1)
    nacked = only(Nacked, live.nack(1, reason="busy" * 100, **asked)[1:])
    assert nacked == Nacked(message(1), 1, ("busy" * 100)[:200], START_MS + wait_s * 1000)
    assert live.session.in_flight == 0
    assert live.later(wait_s * 1000 - 1) == []
    assert fetch(live.later(1)).after_seq == 0
    assert sent(live.fetched(window(1))) == [1]
    assert live.session.in_flight == 1


def test_no_pause_is_longer_than_a_day(live: Lead) -> None:
    live.hint(1)
    (nacked,) = of(Nacked, live.nack(1, retry_after=1e30))
    assert nacked.not_before_ms == START_MS + 86_400_000


def test_a_nack_tells_that_the_message_was_sent(live: Lead) -> None:
    live.hint(1)
    sent_mark, _ = live.nack(1)
    assert sent_mark == Sent((Ack(message(1), 1, START_MS),))
    live.hint(2)
    live.later(1_000)
    only(Nacked, live.nack(2))


def test_a_nacked_message_is_not_sent_before_its_time_whatever_is_read(live: Lead) -> None:
    live.hint(1)
    live.nack(1, retry_after=20)
    live.later(10_000)
    fetch(live.session.on_hint(Wake(DEVICE, EPOCH), live.now_ms))
    assert sent(live.fetched(window(1, 2))) == [2]


def test_a_nack_makes_room_in_the_window() -> None:
    live = Lead(window=1).live()
    live.hint(1)
    live.hint(2)
    assert fetch(live.nack(1)) == Fetch(1, 1)
    assert sent(live.fetched(window(2))) == [2]


def test_a_nacked_message_that_finds_no_room_comes_later(live: Lead) -> None:
    live = Lead(window=1).live()
    live.hint(1)
    live.nack(1, retry_after=1)
    live.hint(2)
    assert fetch(live.later(1_000)).after_seq == 0
    assert not live.fetched(window(1, 2))
    live.ack(2)
    assert fetch(live.later(15_000)).after_seq == 0
    assert sent(live.fetched(window(1, head=2))) == [1]


def test_a_nacked_message_may_be_nacked_and_acked_again(live: Lead) -> None:
    live.hint(1)
    live.nack(1)
    assert only(Nacked, live.nack(1, retry_after=60)).not_before_ms == START_MS + 60_000
    assert live.later(59_000) == []
    assert only(Acked, live.ack(1)).acks == (Ack(message(1), 1, 0),)
    assert live.later(60_000) == []


def test_a_nacked_message_that_is_gone_is_forgotten(live: Lead) -> None:
    live.hint(1)
    live.hint(2)
    live.nack(1, retry_after=1)
    live.nack(2, retry_after=60)
    fetch(live.later(1_000))
    live.fetched(window(head=2))
    assert not of(Fetch, live.later(58_999))
    assert fetch(live.later(1)).after_seq == 1


def test_a_nack_after_an_ack_changes_nothing(live: Lead) -> None:
    live.hint(1)
    live.ack(1)
    assert not live.nack(1)


def test_a_nack_of_an_older_sessions_message_is_passed_on(live: Lead) -> None:
    assert only(Nacked, live.nack(9)) == Nacked(message(9), 0, "", START_MS + 5_000)
    assert live.later(60_000) == []


def test_a_nacked_message_with_a_ttl_of_0_never_comes_again(live: Lead) -> None:
    live.hint(0, number=1, expires_ms=live.now_ms)
    assert of(Nacked, live.nack(1))[0].seq == 0
    assert live.later(60_000) == []


@pytest.mark.parametrize("text", ["nonsense", message(1, DeviceId("e" * 16))])
def test_a_nack_of_what_cannot_be_the_devices_is_refused(live: Lead, text: str) -> None:
    (error,) = frames(live.gets(op="nack", id=text))
    assert (error["code"], error["ref"]) == ("INVALID_ARGUMENT", text)


def test_the_memory_of_nacks_is_bounded() -> None:
    live = Lead(max_settled=2).live()
    for seq in (1, 2, 3):
        live.hint(seq)
        live.nack(seq, retry_after=10 * seq)
    # 1 is the store's alone by now, which keeps its time too.
    assert fetch(live.later(30_000)).after_seq == 1


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_a_clock_that_is_set_makes_no_message_late_and_no_device_silent(
    live: Lead, jump_ms: int
) -> None:
    live.hint(1)
    live.later(10_000)
    live.session.on_clock(jump_ms)
    live.now_ms += jump_ms
    assert not live.later(4_999)
    assert fetch(live.later(1)) == Fetch(0, MAX_FETCH)
    live.fetched(window(head=1))
    assert not live.later(344_000)
    assert closed(live.later(1_000)) == 1001
