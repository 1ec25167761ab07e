"""Hints: what travels in the inbox of a shard.

A hint makes things fast, never right: each may be lost or repeated. What it speaks of stands in the
mailbox, and the redelivery timer comes back to it.
"""

from collections.abc import Sequence

import msgspec

from router.model.ids import DeviceId, MessageId, ShardId


class Route(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Where a device is connected: the shard, and the epoch that fences its session."""

    shard: ShardId
    epoch: int


class Deliver(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="m"):
    """A message for a session. `seq` is 0 for a TTL of 0, which the mailbox never held."""

    device: DeviceId
    epoch: int
    seq: int
    message: MessageId
    expires_ms: int
    frame: bytes
    """The frame body in msgpack, encoded once by the API."""


class Wake(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="w"):
    """The mailbox holds unacked messages that are due: read it from its beginning."""

    device: DeviceId
    epoch: int


class Displace(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="d"):
    """A newer session of the device stands elsewhere: close this one (4002)."""

    device: DeviceId
    epoch: int


class Unregister(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="u"):
    """The device is no longer registered: close its session (4003)."""

    device: DeviceId
    epoch: int


class Readdress(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="t"):
    """The device's token was rotated: tell it the new one."""

    device: DeviceId
    epoch: int
    token: str


Hint = Deliver | Wake | Displace | Unregister | Readdress

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Hint])


def encode_hints(hints: Sequence[Hint]) -> bytes:
    """Write the hints of one inbox entry."""
    return _encoder.encode(hints)


def decode_hints(entry: bytes) -> list[Hint]:
    """Read the hints of one inbox entry.

    Raises:
        msgspec.MsgspecError: the entry was not written by `encode_hints`.
    """
    return _decoder.decode(entry)
