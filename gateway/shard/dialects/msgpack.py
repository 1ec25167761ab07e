"""The native dialect: msgpack in binary messages. Stored frames go out as they are."""

from typing import Final

import msgspec

from gateway.shard.dialect import (
    UNREADABLE,
    BadFrameError,
    DeviceFrame,
    Dialect,
    Envelope,
    ServerFrame,
    WrongTypeError,
    complain,
)
from sdk_client.wire import SUBPROTOCOL_MSGPACK

_decoder: Final[msgspec.msgpack.Decoder[DeviceFrame]] = msgspec.msgpack.Decoder(DeviceFrame)
_envelopes: Final = msgspec.msgpack.Decoder(Envelope)
_encoder: Final = msgspec.msgpack.Encoder()


class Msgpack:
    """`pushwire.v1.msgpack`."""

    subprotocol: str = SUBPROTOCOL_MSGPACK

    def decode(self, payload: bytes | str) -> DeviceFrame:
        """Read a device's frame."""
        if isinstance(payload, str):
            raise WrongTypeError("this subprotocol takes binary messages")
        try:
            return _decoder.decode(payload)
        except UNREADABLE as error:
            raise self._refusal(payload, error) from None

    def encode(self, frame: ServerFrame) -> bytes | str:
        """Write a server's frame."""
        return _encoder.encode(frame)

    def message(self, frame: bytes) -> bytes | str:
        """Give a stored message frame: it is msgpack already."""
        return frame

    def _refusal(self, payload: bytes, error: Exception) -> BadFrameError:
        try:
            envelope = _envelopes.decode(payload)
        except UNREADABLE:
            envelope = None
        return complain(envelope, error)


DIALECT: Final[Dialect] = Msgpack()
