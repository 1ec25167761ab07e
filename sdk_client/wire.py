"""The device protocol's frames: names, and both encodings (docs/protocol.md).

The gateway and the router import this module and nothing else of the SDK. Pure: no I/O, no clock.

Writing is `encode` (msgpack) and `encode_json`. Reading goes in two steps: `decode` gives the map
of either encoding, `parse` makes it a typed frame of the server.
"""

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeGuard

import msgpack

SUBPROTOCOL_MSGPACK: Final = "pushwire.v1.msgpack"
SUBPROTOCOL_JSON: Final = "pushwire.v1.json"
CONNECT_PATH: Final = "/v1/connect"


class Op(enum.StrEnum):
    """The kinds of frames."""

    CONNECT = "connect"
    ACK = "ack"
    NACK = "nack"
    EVENT = "event"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    SEND = "send"
    PING = "ping"
    WELCOME = "welcome"
    MESSAGE = "message"
    DROPPED = "dropped"
    GOAWAY = "goaway"
    TOKEN = "token"  # noqa: S105 - the name of a frame
    OK = "ok"
    PONG = "pong"
    ERROR = "error"


class WireError(ValueError):
    """The bytes are not a frame, or the frame lacks what its kind needs."""


def encode(frame: Mapping[str, object]) -> bytes:
    """Write a frame in msgpack."""
    return bytes(msgpack.packb(frame))


def encode_json(frame: Mapping[str, object]) -> str:
    """Write a frame in JSON."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))


def decode(payload: bytes | str) -> dict[str, object]:
    """Read a frame: msgpack from bytes, JSON from str.

    Raises:
        WireError: it is not one map with text keys.
    """
    try:
        found: object = json.loads(payload) if isinstance(payload, str) else _unpack(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a frame: {str(error)[:200]}") from None
    if not _is_map(found):
        raise WireError("not a frame: a frame is one map with text keys")
    return found


def _unpack(payload: bytes) -> object:
    try:
        found: object = msgpack.unpackb(payload)
    except msgpack.exceptions.UnpackException as error:
        raise WireError(f"not a frame: {error}") from None
    return found


def _is_map(found: object) -> TypeGuard[dict[str, object]]:
    return isinstance(found, dict) and all(isinstance(key, str) for key in found)


# What the server sends.


@dataclass(frozen=True, slots=True)
class Welcome:
    """Connected; `heartbeat` in seconds, `time` in epoch milliseconds."""

    session: str
    device_id: str
    heartbeat: float
    pending: int
    time: int


@dataclass(frozen=True, slots=True)
class Notification:
    """What a person is to see."""

    title: str = ""
    body: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """A message; times in epoch milliseconds."""

    id: str
    sent_at: int = 0
    """When it was accepted."""
    expires_at: int = 0
    priority: str = "normal"
    """`critical`, `high`, `normal` or `low`."""
    topic: str = ""
    collapse_key: str = ""
    notification: Notification | None = None
    """None for a message of data alone."""
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dropped:
    """So many messages were lost to the pending cap."""

    count: int


@dataclass(frozen=True, slots=True)
class Goaway:
    """Connect elsewhere after so many seconds."""

    reason: str
    reconnect_after: float


@dataclass(frozen=True, slots=True)
class TokenFrame:
    """The device's address was rotated."""

    token: str


@dataclass(frozen=True, slots=True)
class Ok:
    """What `ref` names is done."""

    ref: str


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers a ping."""


@dataclass(frozen=True, slots=True)
class Error:
    """A frame could not be served."""

    code: str
    message: str
    ref: str = ""


ServerFrame = Welcome | MessageFrame | Dropped | Goaway | TokenFrame | Ok | Pong | Error


def parse(frame: Mapping[str, object]) -> ServerFrame | None:
    """Make a decoded map a typed frame; None for a kind that a device does not know.

    Unknown keys are ignored, missing optional ones get their defaults.

    Raises:
        WireError: a key is missing or its value has the wrong type.
    """
    op = frame.get("op")
    if op == Op.MESSAGE:
        return _message(frame)
    if op == Op.WELCOME:
        return Welcome(
            session=_text(frame, "session", ""),
            device_id=_text(frame, "device_id", ""),
            heartbeat=_number(frame, "heartbeat", 0.0),
            pending=_integer(frame, "pending", 0),
            time=_integer(frame, "time", 0),
        )
    return _small(op, frame)


def _small(op: object, frame: Mapping[str, object]) -> ServerFrame | None:
    found: ServerFrame | None = None
    match op:
        case Op.OK:
            found = Ok(_text(frame, "ref"))
        case Op.PONG:
            found = Pong()
        case Op.ERROR:
            code, message = _text(frame, "code"), _text(frame, "message", "")
            found = Error(code, message, _text(frame, "ref", ""))
        case Op.GOAWAY:
            pause_s = _number(frame, "reconnect_after", 0.0)
            found = Goaway(_text(frame, "reason", ""), pause_s)
        case Op.TOKEN:
            found = TokenFrame(_text(frame, "token"))
        case Op.DROPPED:
            found = Dropped(_integer(frame, "count"))
        case _:
            pass
    return found


def _message(frame: Mapping[str, object]) -> MessageFrame:
    shown = frame.get("notification")
    data = frame.get("data")
    return MessageFrame(
        id=_text(frame, "id"),
        sent_at=_integer(frame, "sent_at", 0),
        expires_at=_integer(frame, "expires_at", 0),
        priority=_text(frame, "priority", "normal"),
        topic=_text(frame, "topic", ""),
        collapse_key=_text(frame, "collapse_key", ""),
        notification=None if shown is None else _notification(shown),
        data={} if data is None else _texts(data),
    )


def _notification(shown: object) -> Notification:
    if not _is_map(shown):
        raise WireError("`notification` is not a map")
    return Notification(
        _text(shown, "title", ""), _text(shown, "body", ""), _text(shown, "image", "")
    )


def _texts(data: object) -> dict[str, str]:
    if not _is_map(data):
        raise WireError("`data` is not a map")
    return {key: _text(data, key) for key in data}


def _text(frame: Mapping[str, object], key: str, default: str | None = None) -> str:
    found = frame.get(key, default)
    if isinstance(found, str):
        return found
    if found is None and default is not None:
        return default
    raise WireError(f"`{key}` is not a text")


def _number(frame: Mapping[str, object], key: str, default: float | None = None) -> float:
    found = frame.get(key, default)
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    raise WireError(f"`{key}` is not a number")


def _integer(frame: Mapping[str, object], key: str, default: int | None = None) -> int:
    found = frame.get(key, default)
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise WireError(f"`{key}` is not a whole number")
