"""The ledger finds each kind of broken promise, and only those."""

from hypothesis import given
from hypothesis import strategies as st

from loadtest.ledger import SHOWN, Fault, Ledger


def ledger(accepted: dict[str, list[str]], handled: dict[str, list[str]]) -> Ledger:
    made = Ledger()
    for device, ids in accepted.items():
        for message in ids:
            made.accepted(device, message)
    for device, ids in handled.items():
        for message in ids:
            made.handled(device, message)
    return made


def test_all_kept() -> None:
    kept = ledger({"d": ["1", "2"], "e": ["3"]}, {"d": ["1", "2"], "e": ["3"]})
    verdict = kept.verdict()
    assert verdict.kept
    assert verdict.report() == "3 accepted, 3 handled"


def test_a_message_never_seen_is_lost() -> None:
    short = ledger({"d": ["1", "2"]}, {"d": ["2"]})
    verdict = short.verdict()
    assert verdict.lost == (Fault("d", "1"),)
    assert not verdict.out_of_order
    assert not verdict.kept


def test_a_message_seen_three_times_is_doubled_twice() -> None:
    verdict = ledger({"d": ["1"]}, {"d": ["1", "1", "1"]}).verdict()
    assert verdict.doubled == (Fault("d", "1"), Fault("d", "1"))
    assert not verdict.kept


def test_a_late_message_is_out_of_order_and_the_later_ones_are_not() -> None:
    verdict = ledger({"d": ["1", "2", "3", "4"]}, {"d": ["2", "1", "3", "4"]}).verdict()
    assert verdict.out_of_order == (Fault("d", "1"),)


def test_a_repeat_is_doubled_and_not_out_of_order() -> None:
    verdict = ledger({"d": ["1", "2"]}, {"d": ["1", "2", "1"]}).verdict()
    assert verdict.doubled == (Fault("d", "1"),)
    assert not verdict.out_of_order


def test_a_message_of_another_device_is_unknown_here() -> None:
    verdict = ledger({"d": ["1"], "e": []}, {"e": ["1"]}).verdict()
    assert verdict.unknown == (Fault("e", "1"),)
    assert verdict.lost == (Fault("d", "1"),)


def test_a_report_names_the_ids_and_stays_short() -> None:
    ids = [f"m{number}" for number in range(SHOWN + 5)]
    report = ledger({"d": ids}, {}).verdict().report()
    assert f"lost: {len(ids)}" in report
    assert "  d m0" in report
    assert "and 5 more" in report
    assert ids[-1] not in report


@given(
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.lists(st.sampled_from("abcdefgh")),
)
def test_the_verdict_is_good_only_for_the_very_same_sequence(
    accepted: list[str], handled: list[str]
) -> None:
    verdict = ledger({"d": accepted}, {"d": handled}).verdict()
    assert verdict.kept == (accepted == handled)
    assert {fault.message for fault in verdict.lost} == set(accepted) - set(handled)
    assert {fault.message for fault in verdict.unknown} == set(handled) - set(accepted)
    assert len(verdict.doubled) == len(handled) - len(set(handled))
