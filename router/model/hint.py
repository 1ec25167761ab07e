"""Hints: what travels in the inbox of a shard.

A hint makes things fast, never right: each may be lost or repeated. What it speaks of stands in the
mailbox, and the redelivery timer comes back to it.
"""

from collections.abc import Sequence

import msgspec

from router.model.ids import DeviceId, MessageId, ProjectId, ShardId, TopicName
from router.model.lane import Lane
from router.model.message import ReceiptMode


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
    lane: Lane = Lane.NORMAL


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


class Resubscribe(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="s"):
    """The app server changed the device's topics or its profile: read them anew."""

    device: DeviceId
    epoch: int


class Publish(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="p"):
    """A message for all sessions that subscribe to a topic, or are of the project."""

    project: ProjectId
    topic: TopicName
    seq: int
    """Its place in the log; 0 for a TTL of 0, which the log never held."""
    previous: int
    """The seq before it: who has not seen that one reads the log."""
    message: MessageId
    expires_ms: int
    receipts: ReceiptMode
    collapse_key: str
    frame: bytes
    lane: Lane = Lane.NORMAL
    selection: str = ""
    """Of those, the ones that it is for (`router.model.selection`); empty for all of them."""


class Advance(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="h"):
    """A topic's log goes on up to a seq: its sessions read it there.

    It takes the place of a `Publish`, or of many, where the shard is behind.
    """

    project: ProjectId
    topic: TopicName
    seq: int
    lane: Lane = Lane.NORMAL


class Retract(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="r"):
    """A message was taken out of its topic's log: it goes to nobody from now on."""

    project: ProjectId
    topic: TopicName
    seq: int


Hint = Deliver | Wake | Displace | Unregister | Readdress | Resubscribe
"""For one session."""
TopicHint = Publish | Advance | Retract
"""For all sessions of a shard that subscribe."""
AnyHint = Hint | TopicHint

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyHint])


def encode_hints(hints: Sequence[AnyHint]) -> bytes:
    """Write the hints of one inbox entry."""
    return _encoder.encode(hints)


def decode_hints(entry: bytes) -> list[AnyHint]:
    """Read the hints of one inbox entry.

    Raises:
        msgspec.MsgspecError: the entry was not written by `encode_hints`.
    """
    return _decoder.decode(entry)
