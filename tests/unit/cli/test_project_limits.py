"""The flags of `pushwire project limits` say what they take."""

import argparse
import contextlib
import io

import pytest

from gateway.cli.project_limits import add_limits, changed
from router.model.limits import ProjectLimits


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_limits(parser)
    return parser.parse_args(["shop", *words])


@pytest.mark.parametrize("number", ["x", "", "-1", "nan", "inf", "1000001"])
def test_a_number_that_is_refused_is_told_with_what_is_taken(number: str) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as said, pytest.raises(SystemExit) as ended:
        parsed(f"--sends-per-second={number}")
    assert ended.value.code == 2
    expected = f"takes a number from 0 to 1,000,000, or default, not {number!r}"
    assert f"argument --sends-per-second: {expected}" in said.getvalue()


def test_flags_change_what_they_name() -> None:
    before = ProjectLimits(sends_per_second=5, key_sends_per_second=2)
    args = parsed("--key-sends-per-second=default", "--device-sends-per-minute=0")
    after = ProjectLimits(sends_per_second=5, device_sends_per_minute=0)
    assert changed(before, args) == after
