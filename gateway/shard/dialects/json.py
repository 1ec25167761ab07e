"""The dialect for people and browsers: JSON in text messages. Stored frames are transcoded."""

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
from sdk_client.wire import SUBPROTOCOL_JSON

_decoder: Final[msgspec.json.Decoder[DeviceFrame]] = msgspec.json.Decoder(DeviceFrame)
_envelopes: Final = msgspec.json.Decoder(Envelope)
_encoder: Final = msgspec.json.Encoder()
_stored: Final = msgspec.msgpack.Decoder(dict[str, object])


class Json:
    """`pushwire.v1.json`."""

    subprotocol: str = SUBPROTOCOL_JSON

    def decode(self, payload: bytes | str) -> DeviceFrame:
        """Read a device's frame."""
        if not isinstance(payload, str):
            raise WrongTypeError("this subprotocol takes text messages")
        try:
            return _decoder.decode(payload)
        except UNREADABLE as error:
            raise self._refusal(payload, error) from None

    def encode(self, frame: ServerFrame) -> bytes | str:
        """Write a server's frame."""
        return _encoder.encode(frame).decode()

    def message(self, frame: bytes) -> bytes | str:
        """Give a stored message frame in JSON."""
        return _encoder.encode(_stored.decode(frame)).decode()

    def _refusal(self, payload: str, error: Exception) -> BadFrameError:
        try:
            envelope = _envelopes.decode(payload)
        except UNREADABLE:
            envelope = None
        return complain(envelope, error)


DIALECT: Final[Dialect] = Json()
