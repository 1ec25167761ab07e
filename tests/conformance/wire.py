"""The client's side of the wire in raw bytes: any frame, right or wrong, and the server's read."""

from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x37\xfa\x21\x3d"
JSON = "pushwire.v1.json"
MSGPACK = "pushwire.v1.msgpack"
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The answer to the key of RFC 6455 1.3, which `opening_request` sends."""


def apply(mask: bytes, payload: bytes) -> bytes:
    """Mask or unmask as RFC 6455 5.3 puts it, byte by byte: a second opinion on the C function."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    form: int | None = None,
    length: int | None = None,
) -> bytes:
    """Write a client's frame.

    Args:
        opcode: 0 to 15.
        payload: before masking.
        fin: the last of its message.
        rsv: the three reserved bits, 0 to 7.
        mask: None for an unmasked frame.
        form: bytes of the extended length, 0, 2 or 8; the shortest by default.
        length: another length than the payload's in the header.
    """
    size = len(payload) if length is None else length
    if form is None:
        form = 0 if size < 126 else 2 if size < 1 << 16 else 8
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    second = (0 if mask is None else 0x80) | {0: size, 2: 126, 8: 127}[form]
    head = bytes((first, second)) + (size.to_bytes(form, "big") if form else b"")
    if mask is None:
        return head + payload
    return head + mask + apply(mask, payload)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """Write a client's close frame."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def opening_request(
    subprotocol: str = JSON,
    *,
    path: str = "/v1/connect",
    drop: str = "",
    **headers: str,
) -> bytes:
    """Write the request of RFC 6455 1.3 for our path.

    Args:
        subprotocol: offered one; empty for none.
        path: to ask for.
        drop: a header to leave out.
        headers: others, or others' values, with `_` for `-`.
    """
    lines = {
        "Host": "localhost",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    if subprotocol:
        lines["Sec-WebSocket-Protocol"] = subprotocol
    lines.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines.pop(drop, None)
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET {path} HTTP/1.1\r\n{head}\r\n".encode()


class ServerFrame(NamedTuple):
    """A frame as the server wrote it."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a close frame; None where it has none."""
        return int.from_bytes(self.payload[:2], "big") if len(self.payload) >= 2 else None


def read_frames(data: bytes) -> tuple[list[ServerFrame], bytes]:
    """Take apart what the server wrote; give its frames and an incomplete rest.

    Raises:
        AssertionError: a frame breaks RFC 6455: masked, fragmented, reserved bits, a long form.
    """
    frames = []
    while len(data) >= 2:
        first, size = data[0], data[1]
        assert first & 0xF0 == 0x80, "the server neither fragments nor sets reserved bits"
        assert not size & 0x80, "the server does not mask"
        start = 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
            assert len(data) < 4 or size >= 126
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
            assert len(data) < 10 or size >= 1 << 16
        if len(data) < start + size:
            break
        frames.append(ServerFrame(first & 0xF, data[start : start + size]))
        data = data[start + size :]
    return frames, data
