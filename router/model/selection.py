"""Who of many devices a message is for, and what of a device decides it.

A selection travels as JSON text: in the log of a topic, in the hint, in the status.
"""

from typing import Final

import msgspec

MAX_FILTER_BYTES: Final = 4096
"""Of a filter as JSON."""


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device must be; a field that is empty asks for nothing, values are alternatives."""

    platform: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    app_version: str = ""
    """A range (`router.policy.versions`)."""
    attributes: dict[str, tuple[str, ...]] = {}


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """The devices that a message is for: those of its topic, or all of the project."""

    condition: str = ""
    """In canonical form (`router.policy.conditions`)."""
    filter: Filter | None = None


class Profile(msgspec.Struct, frozen=True, gc=False, cache_hash=True):
    """What is known of a device, as it registered or was changed since."""

    platform: str = ""
    app_version: str = ""
    language: str = ""
    region: str = ""
    attributes: str = ""
    """A JSON object of strings, as the mailbox holds it; short where there are none."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Selection)


def encode_selection(selection: Selection | None) -> str:
    """Write a selection; everybody is the empty text."""
    return "" if selection is None else _encoder.encode(selection).decode()


def decode_selection(text: str) -> Selection | None:
    """Read a selection.

    Raises:
        msgspec.MsgspecError: the text is none.
    """
    return _decoder.decode(text) if text else None
