"""Which jobs are taken next: the most urgent over all partitions, the oldest of them first."""

from router.bridging.queues import MOST_AT_ONCE, Queues, Take
from router.model.ids import Partition, ProjectId
from router.store.bridge_jobs import Head, Lane

A, B, C = Partition("0a"), Partition("0b"), Partition("0c")
LANE = Lane(ProjectId("demo"), "apns")
OTHER = Lane(ProjectId("other"), "fcm")


def plenty(lane: Lane) -> int:
    return 1000


def planned(queues: Queues, free: int = 100) -> list[tuple[Partition, Lane]]:
    return [(take.partition, take.lane) for take in queues.plan(free, plenty)]


def test_the_most_urgent_partitions_go_first_and_the_others_wait() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    queues.found(LANE, B, Head(0, 9))
    queues.found(LANE, C, Head(0, 7))
    assert planned(queues) == [(C, LANE), (B, LANE)]


def test_lanes_go_by_their_most_urgent_job() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    queues.found(OTHER, A, Head(1, 9))
    assert planned(queues) == [(A, OTHER), (A, LANE)]


def test_no_more_is_taken_than_is_free_nor_than_there_is_room_for() -> None:
    queues = Queues()
    for partition in (A, B, C):
        queues.found(LANE, partition, Head(2, 5))
    assert sum(take.most for take in queues.plan(50, plenty)) == 50
    assert [take.most for take in queues.plan(20, plenty)] == [16, 4]
    assert sum(take.most for take in queues.plan(100, lambda _: 2)) == 2
    assert queues.plan(100, lambda _: 0) == []
    assert queues.plan(0, plenty) == []


def test_one_queue_gives_so_many_jobs_at_once() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    assert [take.most for take in queues.plan(1000, plenty)] == [MOST_AT_ONCE]


def test_an_empty_queue_is_forgotten_and_another_head_is_remembered() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(0, 5))
    queues.found(LANE, B, Head(1, 5))
    take = queues.plan(1, plenty)[0]
    assert take.partition == A
    queues.begin(take)
    queues.seen(take, Head(2, 6))
    assert planned(queues) == [(B, LANE)]
    take = Take(B, LANE, 1)
    queues.begin(take)
    queues.seen(take, None)
    assert planned(queues) == [(A, LANE)]


def test_a_job_that_comes_while_a_queue_is_looked_at_is_not_overlooked() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    take = queues.plan(1, plenty)[0]
    queues.begin(take)
    queues.found(LANE, A, Head(1, 9))
    queues.seen(take, None)
    assert planned(queues) == [(A, LANE)]
    queues.begin(take)
    queues.missed(take)
    assert planned(queues) == [(A, LANE)]


def test_queues_of_partitions_that_others_own_are_forgotten() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    queues.found(LANE, B, Head(2, 5))
    take = Take(A, LANE, 1)
    queues.begin(take)
    queues.keep({B})
    queues.seen(take, Head(1, 1))
    assert planned(queues) == [(B, LANE)]


def test_what_waits_is_counted_by_bridge() -> None:
    queues = Queues()
    queues.found(LANE, A, Head(2, 5))
    queues.found(LANE, B, Head(0, 8))
    queues.found(OTHER, A, Head(1, 9))
    assert queues.oldest() == {"apns": (2, 5), "fcm": (1, 9)}
