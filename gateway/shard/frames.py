"""RFC 6455 framing for the server's side, without I/O.

`Reader` takes bytes as they come off the socket and gives whole messages and control frames.
It is strict: where the RFC says MUST, a peer that does otherwise is failed with the RFC's close
code, as early as the bytes allow (a bad byte of UTF-8 fails before its frame is complete, a length
beyond the limit before its payload). `build_frame` and `close_frame` write unmasked frames.

No extension is ever negotiated, so every reserved bit is an error.
"""

import codecs
from collections.abc import Sequence
from typing import Final

import msgspec
from websockets.speedups import apply_mask

from router.model.errors import CloseCode

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NO_STATUS: Final = 1005
"""Stands for a close frame without a code; never on the wire (RFC 6455 7.4.1)."""
MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload (RFC 6455 5.5)."""

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_OPCODE: Final = 0x0F
_MASKED: Final = 0x80
_LENGTH: Final = 0x7F
_CONTROL: Final = 0x8
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_MASK_SIZE: Final = 4
_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_WHOLE_TEXT: Final = _FIN | TEXT
_WHOLE_BINARY: Final = _FIN | BINARY
_SHORT_HEADER: Final = 6
_LONGEST: Final = _SHORT_HEADER + _LENGTH_16 - 1
_SHORT_SECOND: Final = _MASKED - _SHORT_HEADER
"""The second byte of a masked frame with a 7-bit length, less the bytes of the whole frame."""
_CODE_SIZE: Final = 2

_utf8: Final = codecs.getincrementaldecoder("utf-8")


class Ping(msgspec.Struct, frozen=True, gc=False):
    """Answer it with a pong of the same payload."""

    payload: bytes


class Pong(msgspec.Struct, frozen=True, gc=False):
    """A sign of life."""

    payload: bytes


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The peer's close frame; `code` is `NO_STATUS` where it held none. Nothing follows."""

    code: int
    reason: str


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The peer broke the protocol: close with this code and reason. Nothing follows."""

    code: CloseCode
    reason: str


Event = str | bytes | Ping | Pong | Closed | Failed
"""A whole message is its payload itself: str for text, bytes for binary."""


class _Violation(Exception):  # noqa: N818 - it never leaves this module
    """Ends the reader with `Failed`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Reader:
    """Reads one client's frames. Never raises: a violation is the last event, `Failed`.

    It keeps at most one header and one message of `max_bytes`, and nothing between messages.

    Args:
        max_bytes: largest message, all fragments together (1009 beyond).
    """

    __slots__ = ("_assembly", "_most")

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes + _SHORT_HEADER
        """Bytes of the largest frame with a short header."""
        self._assembly: _Assembly | None = None
        """What is incomplete; `_OVER` after the end."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Take the next bytes; give what they complete, in order. After the end: nothing."""
        size = len(data)
        if (
            self._assembly is None
            and _SHORT_HEADER <= size <= _LONGEST
            and data[1] == size + _SHORT_SECOND
            and size <= self._most
        ):
            # Nearly all traffic: one short message, whole, alone in its chunk.
            kind = data[0]
            if kind == _WHOLE_BINARY:
                return (apply_mask(data[6:], data[2:6]),)
            if kind == _WHOLE_TEXT:
                try:
                    return (apply_mask(data[6:], data[2:6]).decode(),)
                except UnicodeDecodeError:
                    self._assembly = _OVER
                    return (_BAD_TEXT,)
        return self._assemble(data)

    def _assemble(self, data: bytes) -> list[Event]:
        assembly = self._assembly
        if assembly is None:
            assembly = _Assembly(self._most - _SHORT_HEADER)
        events: list[Event] = []
        try:
            assembly.feed(data, events)
        except _Violation as violation:
            events.append(Failed(violation.code, violation.reason))
            self._assembly = _OVER
            return events
        if assembly.ended:
            self._assembly = _OVER
        else:
            self._assembly = None if assembly.idle else assembly
        return events


class _Assembly:
    """What a reader keeps while a frame or a fragmented message is incomplete.

    Payload is unmasked and text decoded as it comes, so that each byte is handled once however the
    stream is cut.
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_header",
        "_mask",
        "_max_bytes",
        "_message",
        "_opcode",
        "_parts",
        "_remaining",
        "_size",
        "ended",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._header = bytearray()
        self._opcode = -1
        """First byte of the frame whose payload is being read; -1 between frames."""
        self._mask = b""
        self._remaining = 0
        self._control = bytearray()
        self._message = CONTINUATION
        """TEXT or BINARY while a message is incomplete."""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._parts: list[str] | bytearray = []
        self._size = 0
        self.ended = False

    @property
    def idle(self) -> bool:
        """Nothing is kept: no header, no frame, no message."""
        return self._opcode < 0 and not self._header and self._message == CONTINUATION

    def feed(self, data: bytes, events: list[Event]) -> None:
        position = 0
        end = len(data)
        while not self.ended:
            if self._opcode < 0:
                position = self._read_header(data, position)
                if self._opcode < 0:
                    return
            taken = min(self._remaining, end - position)
            if taken:
                self._read_payload(data[position : position + taken])
                position += taken
            if self._remaining:
                return
            self._finish_frame(events)

    def _read_header(self, data: bytes, position: int) -> int:
        """Read one header from `position` on, keeping an incomplete one; give where it ended."""
        header = self._header
        while True:
            need = self._header_need()
            if len(header) >= need:
                break
            piece = data[position : position + need - len(header)]
            if not piece:
                return position
            header += piece
            position += len(piece)
        self._begin_frame(header)
        self._header = bytearray()
        return position

    def _header_need(self) -> int:
        """Give how many bytes the header has, as far as is known; refuse what is wrong already."""
        header = self._header
        if not header:
            return 2
        self._check_first(header[0])
        if len(header) == 1:
            return 2
        size = header[1]
        if not size & _MASKED:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "client frames must be masked")
        size &= _LENGTH
        if header[0] & _CONTROL and size > MAX_CONTROL:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "a control frame is too long")
        extra = 2 if size == _LENGTH_16 else 8 if size == _LENGTH_64 else 0
        if len(header) >= 2 + extra:
            self._check_size(self._length())
        return 2 + extra + (_MASK_SIZE if len(header) >= 2 + extra else 0)

    def _check_first(self, first: int) -> None:
        if first & _RESERVED:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "reserved bits must be 0")
        opcode = first & _OPCODE
        if opcode not in _OPCODES:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "unknown opcode")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise _Violation(CloseCode.PROTOCOL_ERROR, "a control frame is fragmented")
        elif opcode == CONTINUATION and self._message == CONTINUATION:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "nothing to continue")
        elif CONTINUATION not in (opcode, self._message):
            raise _Violation(CloseCode.PROTOCOL_ERROR, "the last message is not finished")

    def _length(self) -> int:
        """Give the payload's length; longer forms than needed are refused (RFC 6455 5.2)."""
        header = self._header
        size = header[1] & _LENGTH
        if size == _LENGTH_16:
            size = int.from_bytes(header[2:4], "big")
            shortest = _LENGTH_16
        elif size == _LENGTH_64:
            size = int.from_bytes(header[2:10], "big")
            shortest = 1 << 16
            if size >> 63:
                raise _Violation(CloseCode.PROTOCOL_ERROR, "a length above 63 bits")
        else:
            return size
        if size < shortest:
            raise _Violation(CloseCode.PROTOCOL_ERROR, "a length in more bytes than it needs")
        return size

    def _check_size(self, size: int) -> None:
        if not self._header[0] & _CONTROL and self._size + size > self._max_bytes:
            raise _Violation(CloseCode.TOO_BIG, f"messages have at most {self._max_bytes} bytes")

    def _begin_frame(self, header: bytearray) -> None:
        self._opcode = header[0]
        self._mask = bytes(header[-_MASK_SIZE:])
        self._remaining = self._length()
        opcode = header[0] & _OPCODE
        if opcode == TEXT:
            self._message, self._decoder, self._parts = TEXT, _utf8("strict"), []
        elif opcode == BINARY:
            self._message, self._parts = BINARY, bytearray()

    def _read_payload(self, piece: bytes) -> None:
        payload = apply_mask(piece, self._mask)
        turn = len(piece) % _MASK_SIZE
        self._mask = self._mask[turn:] + self._mask[:turn]
        self._remaining -= len(piece)
        if self._opcode & _CONTROL:
            self._control += payload
            return
        self._size += len(payload)
        if isinstance(self._parts, bytearray):
            self._parts += payload
        elif text := self._decode(payload):
            self._parts.append(text)

    def _decode(self, payload: bytes, *, final: bool = False) -> str:
        assert self._decoder is not None  # noqa: S101 - set with the text's first frame
        try:
            return self._decoder.decode(payload, final)
        except UnicodeDecodeError:
            raise _Violation(_BAD_TEXT.code, _BAD_TEXT.reason) from None

    def _finish_frame(self, events: list[Event]) -> None:
        first, self._opcode = self._opcode, -1
        if first & _CONTROL:
            payload, self._control = bytes(self._control), bytearray()
            events.append(self._control_event(first & _OPCODE, payload))
        elif first & _FIN:
            if isinstance(self._parts, bytearray):
                events.append(bytes(self._parts))
            else:
                self._decode(b"", final=True)
                events.append("".join(self._parts))
            self._message, self._size, self._decoder, self._parts = CONTINUATION, 0, None, []

    def _control_event(self, opcode: int, payload: bytes) -> Event:
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        self.ended = True
        return _read_close(payload)


_OVER: Final = _Assembly(0)
"""Stands for a reader that has come to its end: it takes nothing more, and is shared by all."""
_OVER.ended = True

_BAD_TEXT: Final = Failed(CloseCode.INVALID_PAYLOAD, "text must be UTF-8")

_SENDABLE: Final = frozenset((*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))
"""Close codes that may stand in a frame: RFC 6455 7.4 and IANA's registry."""


def _read_close(payload: bytes) -> Closed:
    if not payload:
        return Closed(NO_STATUS, "")
    if len(payload) < _CODE_SIZE:
        raise _Violation(CloseCode.PROTOCOL_ERROR, "a close code has two bytes")
    code = int.from_bytes(payload[:_CODE_SIZE], "big")
    if code not in _SENDABLE:
        raise _Violation(CloseCode.PROTOCOL_ERROR, "a close code that must not be sent")
    try:
        return Closed(code, payload[_CODE_SIZE:].decode())
    except UnicodeDecodeError:
        raise _Violation(CloseCode.INVALID_PAYLOAD, "a close reason must be UTF-8") from None


_SHORT: Final = {
    opcode: tuple(bytes((_FIN | opcode, size)) for size in range(_LENGTH_16)) for opcode in _OPCODES
}


def build_header(opcode: int, size: int) -> bytes:
    """Give the header of one unmasked, unfragmented frame with a payload of `size` bytes."""
    if size < _LENGTH_16:
        return _SHORT[opcode][size]
    if size < 1 << 16:
        return bytes((_FIN | opcode, _LENGTH_16)) + size.to_bytes(2, "big")
    return bytes((_FIN | opcode, _LENGTH_64)) + size.to_bytes(8, "big")


def build_frame(opcode: int, payload: bytes) -> bytes:
    """Write one unmasked, unfragmented frame."""
    return build_header(opcode, len(payload)) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Write a close frame; `NO_STATUS` writes an empty one, a long reason is cut to fit."""
    if code == NO_STATUS:
        return build_frame(CLOSE, b"")
    text = reason.encode()[: MAX_CONTROL - _CODE_SIZE].decode(errors="ignore").encode()
    return build_frame(CLOSE, code.to_bytes(_CODE_SIZE, "big") + text)
