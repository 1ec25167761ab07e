"""How a bridge's credentials are given on a command line."""

import enum
from typing import Final

import msgspec


class Takes(enum.Enum):
    """What stands behind an option."""

    TEXT = "text"
    FILE = "file"
    """The name of a text file; its text is the value."""
    JSON_FILE = "JSON file"
    """The same; the value is the JSON in it."""
    SWITCH = "nothing"
    """Nothing: the option itself says true."""


class Option(msgspec.Struct, frozen=True):
    """One option of `pushwire project bridge add`."""

    flag: str
    field: str
    """Of the credentials."""
    takes: Takes
    help: str
    metavar: str = ""
    required: bool = False


COMMON_OPTIONS: Final = (
    Option("--endpoint", "endpoint", Takes.TEXT, "another provider address", "URL"),
    Option("--ca-file", "ca", Takes.FILE, "certificates to trust instead of the system's", "FILE"),
)
"""What every bridge takes."""
