"""What a shard remembers of a topic's log."""

from gateway.shard.tail import MAX_BYTES, MAX_ITEMS, Tail, Tails, weight
from tests.unit.shard.topic_world import item


def seqs(tail: Tail, after: int, limit: int = 100) -> tuple[list[int], int]:
    found, upto = tail.read(after, limit)
    return [one.seq for one in found], upto


def filled(*numbers: int, at: int = 0) -> Tail:
    tail = Tail(at)
    previous = at
    for seq in numbers:
        assert tail.publish(item(seq, previous))
        previous = seq
    return tail


def test_published_messages_are_read_from_where_one_is() -> None:
    tail = filled(12, 15, 16, at=10)
    assert tail.covers(10)
    assert not tail.covers(9)
    assert seqs(tail, 10) == ([12, 15, 16], 16)
    assert seqs(tail, 12) == ([15, 16], 16)
    assert seqs(tail, 10, limit=2) == ([12, 15], 15)
    assert seqs(tail, 16) == ([], 16)
    assert tail.publish(item(15))
    assert len(tail) == 3


def test_a_gap_begins_it_anew() -> None:
    tail = filled(1, 2)
    assert not tail.publish(item(9, 8))
    assert (tail.base, tail.top, len(tail)) == (8, 9, 1)
    tail.jump(9)
    assert len(tail) == 1
    tail.jump(12)
    assert (tail.base, tail.top, len(tail)) == (12, 12, 0)


def test_it_is_bounded_by_messages_and_by_bytes() -> None:
    tail = filled(*range(1, MAX_ITEMS + 11))
    assert (len(tail), tail.base) == (MAX_ITEMS, 10)
    for seq in range(1, 5):
        large = item(1_000 + seq, tail.top)
        large.frame = bytes(MAX_BYTES // 10)
        tail.publish(large)
    assert (len(tail), tail.base) == (3, 1_001)


def test_a_newer_message_with_its_key_makes_one_go() -> None:
    tail = Tail(0)
    for seq, key in ((1, "k"), (2, "x"), (3, "k")):
        tail.publish(item(seq, key=key))
    assert [one.gone for one in tail.read(0, 10)[0]] == [True, False, False]
    tail.retract(2)
    tail.retract(99)
    assert [one.gone for one in tail.read(0, 10)[0]] == [True, True, False]


def test_older_messages_are_put_before_it() -> None:
    tail = filled(7, 9, at=6)
    merged = tail.merge(2, [item(3), item(5)], 6)
    assert [one.seq for one in merged] == [3, 5]
    assert seqs(tail, 2) == ([3, 5, 7, 9], 9)
    assert (tail.base, tail.top) == (2, 9)


def test_newer_messages_are_put_behind_it_and_known_ones_stay_as_they_are() -> None:
    tail = filled(1, 2)
    known = tail.read(0, 10)[0][1]
    merged = tail.merge(1, [item(2), item(4)], 4)
    assert merged[0] is known
    assert seqs(tail, 0) == ([1, 2, 4], 4)


def test_what_the_log_no_longer_holds_goes() -> None:
    tail = filled(1, 2, 3)
    taken = tail.read(0, 10)[0][1]
    tail.merge(0, [item(1), item(3)], 3)
    assert taken.gone
    assert seqs(tail, 0) == ([1, 3], 3)


def test_a_stretch_far_away_replaces_it_only_if_it_is_newer() -> None:
    tail = filled(5, 6, at=4)
    assert [one.seq for one in tail.merge(0, [item(1)], 2)] == [1]
    assert seqs(tail, 4) == ([5, 6], 6)
    tail.merge(10, [item(11)], 12)
    assert (tail.base, tail.top, seqs(tail, 10)) == (10, 12, ([11], 12))


def sized(seq: int, size: int) -> Tail:
    tail = Tail(0)
    large = item(seq, 0)
    large.frame = bytes(size)
    assert tail.publish(large)
    return tail


def test_all_tails_together_are_bounded_and_the_one_not_used_for_longest_gives_way() -> None:
    each = weight(item(1)) - 3 * len(item(1).frame) + 3 * 1000
    tails = Tails(limit=3 * each)
    one, two, three = (sized(5, 1000) for _ in range(3))
    for tail in (one, two, three):
        tails.used(tail)
    assert tails.bytes == 3 * each
    tails.used(one)
    four = sized(5, 1000)
    tails.used(four)
    assert [len(tail) for tail in (one, two, three, four)] == [1, 0, 1, 1]
    assert (two.base, two.top) == (5, 5), "it goes on where the log does"
    assert tails.bytes == 3 * each
    tails.drop(three)
    tails.drop(two)
    assert tails.bytes == 2 * each


def test_a_tail_that_grows_is_counted_as_it_is() -> None:
    tails, tail = Tails(limit=1 << 30), Tail(0)
    for seq in range(1, MAX_ITEMS + 50):
        tail.publish(item(seq))
        tails.used(tail)
    assert tails.bytes == tail.bytes == MAX_ITEMS * weight(item(1))
    tail.jump(10_000)
    tails.used(tail)
    assert tails.bytes == 0
