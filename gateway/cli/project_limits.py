"""The flags of `pushwire project limits`, and what they change."""

import argparse
import functools
from typing import Final

import msgspec

from gateway.cli.terminal import Terminal
from router.model.limits import ProjectLimits

_UNSET: Final = "default"
_NAMES: Final = ProjectLimits.__struct_fields__


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each limit."""
    parser.add_argument("name", help="the project's id")
    for name in _NAMES:
        flag = "--" + name.replace("_", "-")
        text = f"0: no limit; {_UNSET}: as the gateway's settings say"
        read = functools.partial(_number, name)
        parser.add_argument(flag, type=read, metavar="N", help=text)


def changed(limits: ProjectLimits, args: argparse.Namespace) -> ProjectLimits:
    """Give the limits with what the flags change."""
    given = {name: value for name in _NAMES if (value := getattr(args, name)) is not None}
    found = {**msgspec.structs.asdict(limits), **given}
    wanted = {name: None if value == _UNSET else value for name, value in found.items()}
    return msgspec.convert(wanted, ProjectLimits)


def show(limits: ProjectLimits, *, as_json: bool) -> None:
    """Print what is set."""
    if as_json:
        Terminal().json(limits)
        return
    found = msgspec.structs.asdict(limits)
    pairs = {name: _UNSET if value is None else f"{value:g}" for name, value in found.items()}
    Terminal().pairs(pairs)


def _number(name: str, text: str) -> float | str:
    if text == _UNSET:
        return text
    try:
        value = float(text)
        msgspec.convert({name: value}, ProjectLimits)
    except ValueError:  # msgspec's too: nan, and what is out of range
        accepted = f"{_accepted(name)}, or {_UNSET}"
        raise argparse.ArgumentTypeError(f"takes {accepted}, not {text!r}") from None
    return value


def _accepted(name: str) -> str:
    """Tell in words what the type of a limit takes."""
    (field,) = (one for one in msgspec.structs.fields(ProjectLimits) if one.name == name)
    schema = msgspec.json.schema(field.type)
    return str(next(one["description"] for one in schema["anyOf"] if "description" in one))
