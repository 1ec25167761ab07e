"""The account finds each kind of broken promise, and only those."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.run.account import (
    SHOWN,
    Fault,
    Reckoning,
    Sent,
    Sight,
    Sights,
    Verdict,
    named,
    reckon,
    total,
)


def seen(numbers: list[int]) -> tuple[Sights, list[Sight]]:
    sights = Sights()
    return sights, [sights.see(number, f"m{number}") for number in numbers]


def test_messages_in_order_are_all_new() -> None:
    sights, found = seen([1, 2, 3])
    assert found == [Sight.FIRST] * 3
    assert sights.compare(Sent(last=3)) == ([], [])


def test_one_that_is_overtaken_is_late_and_one_that_never_comes_is_missing() -> None:
    sights, found = seen([1, 3, 2, 6])
    assert found == [Sight.FIRST, Sight.FIRST, Sight.LATE, Sight.FIRST]
    assert sights.compare(Sent(last=7)) == ([4, 5, 7], [])


def test_the_same_id_again_is_a_repeat_and_another_id_is_a_double() -> None:
    sights, _ = seen([1, 2])
    assert sights.see(2, "m2") is Sight.REPEAT
    assert sights.see(1, "another") is Sight.DOUBLE
    assert sights.see(1, "m1") is Sight.REPEAT


def test_what_was_refused_must_not_arrive_and_need_not() -> None:
    sights, _ = seen([1, 2])
    assert sights.compare(Sent(last=3, refused=[2, 3])) == ([], [2])


def test_what_has_no_answer_may_arrive_or_not() -> None:
    sights, _ = seen([1])
    assert sights.compare(Sent(last=2, unknown=[2])) == ([], [])
    sights, _ = seen([1, 2])
    assert sights.compare(Sent(last=2, unknown=[2])) == ([], [])


def test_what_was_never_sent_is_strange() -> None:
    sights, _ = seen([1, 2])
    assert sights.compare(Sent(last=1)) == ([], [2])


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)))
def test_any_order_of_arrival_ends_in_what_never_came(order: list[int], absent: set[int]) -> None:
    arrived = [number for number in order if number not in absent]
    sights, found = seen(arrived)
    assert sights.compare(Sent(last=8)) == (sorted(absent), [])
    late = [number for at, number in enumerate(arrived) if number < max(arrived[: at + 1])]
    assert found.count(Sight.LATE) == len(late)
    assert found.count(Sight.FIRST) == len(arrived) - len(late)


def test_devices_are_held_against_the_streams_that_go_to_them() -> None:
    first, _ = seen([1, 2])
    other, _ = seen([1])
    audience = [(0, "topic 0"), (1, "topic 0"), (2, "topic 0")]
    found = reckon({(0, "topic 0"): first, (1, "topic 0"): other}, audience, {"topic 0": Sent(2)})
    assert found.missing == [Fault(1, "topic 0", 2), Fault(2, "topic 0", 1), Fault(2, "topic 0", 2)]
    assert not found.strange


def test_a_message_of_another_device_is_strange() -> None:
    astray, _ = seen([1])
    found = reckon({(1, "token 0"): astray}, [(0, "token 0"), (1, "token 1")], {"token 0": Sent(1)})
    assert found.missing == [Fault(0, "token 0", 1)]
    assert found.strange == [Fault(1, "token 0", 1)]


def test_faults_get_the_ids_of_their_messages() -> None:
    faults = [Fault(1, "s", 2), Fault(0, "s", 3, "known")]
    assert named(faults, {("s", 2): "id-2", ("s", 3): "other"}) == (
        Fault(0, "s", 3, "known"),
        Fault(1, "s", 2, "id-2"),
    )


def test_a_fault_of_no_single_device_names_none() -> None:
    assert str(Fault(-1, "token 0", 1, "m1")) == "token 0 #1 m1"


def test_several_reckonings_are_added_up() -> None:
    one = Reckoning(missing=[Fault(0, "s", 1)], late=[Fault(0, "s", 2)])
    two = Reckoning(doubled=[Fault(1, "s", 1)], strange=[Fault(1, "s", 2)])
    whole = total([one, two])
    assert (whole.missing, whole.late) == (one.missing, one.late)
    assert (whole.doubled, whole.strange) == (two.doubled, two.strange)


def verdict(**fields: object) -> Verdict:
    return Verdict(
        **{"accepted": 1, "expected": 1, "delivered": 1, "repeats": 0, "acked": True, **fields}  # type: ignore[arg-type]
    )


def test_a_verdict_is_good_only_where_every_promise_was_kept() -> None:
    assert verdict().kept
    assert verdict(repeats=4, expired=1, dropped=2, unknown=1).kept
    fault = (Fault(0, "token 0", 1, "m1"),)
    for field in ("lost", "out_of_order", "doubled", "strange", "not_called_back"):
        broken = verdict(**{field: fault})
        assert not broken.kept
        assert "device 0, token 0 #1 m1" in broken.report()
    assert not verdict(acked=False).kept
    assert not verdict(exceeded=("p99 is 80 ms",)).kept


def test_a_report_spells_out_so_many_and_counts_the_rest() -> None:
    faults = tuple(Fault(0, "token 0", number) for number in range(SHOWN + 5))
    lines = verdict(lost=faults).report().splitlines()
    assert lines[0].startswith("BROKEN: 1 accepted, 1 of 1 deliveries, all acked")
    assert lines[1] == f"lost: {SHOWN + 5}"
    assert lines[-1] == "  and 5 more"
    assert len(lines) == SHOWN + 3
