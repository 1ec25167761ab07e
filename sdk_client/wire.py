"""The device protocol's frames: names, and both encodings (docs/protocol.md).

The gateway and the router import this module and nothing else of the SDK.
"""

import enum
import json
from collections.abc import Mapping
from typing import Final

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
    """The bytes are not a frame."""


def encode(frame: Mapping[str, object]) -> bytes:
    """Write a frame in msgpack."""
    return bytes(msgpack.packb(frame))


def encode_json(frame: Mapping[str, object]) -> str:
    """Write a frame in JSON."""
    return json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
