"""The flags of `pushwire project limits`, and what they change."""

import argparse
import math
from typing import Final

import msgspec

from gateway.cli.terminal import Terminal
from router.model.errors import ErrorCode, PushError
from router.model.limits import ProjectLimits

_UNSET: Final = "default"
_NAMES: Final = ProjectLimits.__struct_fields__


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each limit."""
    parser.add_argument("name", help="the project's id")
    for name in _NAMES:
        flag = "--" + name.replace("_", "-")
        text = f"0: no limit; {_UNSET}: as the gateway's settings say"
        parser.add_argument(flag, type=_number, metavar="N", help=text)


def changed(limits: ProjectLimits, args: argparse.Namespace) -> ProjectLimits:
    """Give the limits with what the flags change.

    Raises:
        PushError: a number is beyond what is accepted.
    """
    given = {name: value for name in _NAMES if (value := getattr(args, name)) is not None}
    found = {**msgspec.structs.asdict(limits), **given}
    wanted = {name: None if value == _UNSET else value for name, value in found.items()}
    try:
        return msgspec.convert(wanted, ProjectLimits)
    except msgspec.ValidationError as error:
        raise PushError(ErrorCode.INVALID_ARGUMENT, str(error)) from error


def show(limits: ProjectLimits, *, as_json: bool) -> None:
    """Print what is set."""
    if as_json:
        Terminal().json(limits)
        return
    found = msgspec.structs.asdict(limits)
    pairs = {name: _UNSET if value is None else f"{value:g}" for name, value in found.items()}
    Terminal().pairs(pairs)


def _number(text: str) -> float | str:
    if text == _UNSET:
        return text
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
