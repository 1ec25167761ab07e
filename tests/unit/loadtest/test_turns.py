"""Kinds of work in turns, and what is made of their runs."""

import pytest

from loadtest.turns import cpu_figure, in_turns, ratio_figure


async def test_the_order_turns_and_the_first_round_does_not_count() -> None:
    asked: list[str] = []
    said: list[dict[str, int]] = []

    async def measure(kind: str) -> int:
        asked.append(kind)
        return len(asked)

    measured = await in_turns(["a", "b"], 2, measure, said.append)
    assert asked == ["b", "a", "a", "b", "b", "a"]
    assert measured == {"a": [3, 6], "b": [4, 5]}
    assert said == [{"b": 1, "a": 2}, {"a": 3, "b": 4}, {"b": 5, "a": 6}]


def test_cpu_adds_up_over_parts_in_each_run() -> None:
    figure = cpu_figure("cpu", [{"api": 1.0, "store": 2.0}, {"api": 3.0}], "note", 3.0)
    assert figure.runs == (3.0, 3.0)
    assert figure.parts == {"api": 2.0, "store": 1.0}
    assert figure.reached


def test_ratios_are_taken_round_by_round() -> None:
    runs = [{"api": 1.0, "store": 1.0}, {"api": 6.0}]
    figure = ratio_figure("ratio", runs, [{"x": 4.0}, {"x": 3.0}], 1.2, "note")
    assert figure.runs == (0.5, 2.0)
    assert not figure.reached


def test_rounds_of_different_number_are_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        ratio_figure("ratio", [{"a": 1.0}], [], 1.0, "note")
