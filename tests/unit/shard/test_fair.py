"""Projects in turn, and the topics of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shard.fair import Fair
from router.model.ids import ProjectId

A, B, C = ProjectId("a"), ProjectId("b"), ProjectId("c")


def anybody(_: ProjectId) -> bool:
    return True


def drained(fair: Fair[str]) -> list[str]:
    order = []
    while (project := fair.next(anybody)) is not None:
        work = fair.take(project)
        assert work is not None
        order.append(work)
    return order


def test_projects_and_their_topics_take_turns() -> None:
    fair: Fair[str] = Fair()
    for project, work in ((A, "a1"), (A, "a2"), (A, "a3"), (B, "b1"), (C, "c1"), (B, "b2")):
        fair.add(project, work)
    assert list(fair) == [A, B, C]
    assert drained(fair) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not fair


def test_who_may_not_go_on_is_passed_over_and_keeps_its_place() -> None:
    fair: Fair[str] = Fair()
    fair.add(A, "a")
    fair.add(B, "b")
    assert fair.next(lambda project: project is not A) is B
    assert fair.next(lambda _: False) is None
    assert fair.next(anybody) is A


def test_work_can_be_taken_out() -> None:
    fair: Fair[str] = Fair()
    fair.add(A, "a1")
    fair.add(A, "a2")
    fair.remove(A, "a1")
    assert fair.take(A) == "a2"
    assert fair.take(A) is None
    fair.add(A, "a1")
    with pytest.raises(ValueError, match="not in deque"):
        fair.remove(A, "other")
    fair.remove(A, "a1")
    assert not fair


@given(st.lists(st.sampled_from([A, B, C]), max_size=60))
def test_nobody_gets_a_second_turn_while_another_waits(added: list[ProjectId]) -> None:
    fair: Fair[str] = Fair()
    for number, project in enumerate(added):
        fair.add(project, f"{project}{number}")
    waiting = {project: added.count(project) for project in set(added)}
    since = dict.fromkeys(waiting, 0)
    for work in drained(fair):
        project = ProjectId(work[0])
        for other, number in waiting.items():
            since[other] += 1
            assert not number or since[other] <= len(waiting)
        since[project] = 0
        waiting[project] -= 1
