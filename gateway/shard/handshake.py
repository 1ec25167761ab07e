"""The opening handshake: bytes of a request in, bytes of a response out.

The `websockets` package's sans-I/O `ServerProtocol` judges the request (RFC 6455 4.2); it lives for
one call. Ours are the limits, the path, the subprotocol, the origins, and the refusal when the
shard is full, which is answered without reading the request any further.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from typing_extensions import override
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Origin, Subprotocol

PATH: Final = "/v1/connect"
HEALTH_PATH: Final = "/healthz"
MAX_HEADER_BYTES: Final = 8192
"""Request line and header lines together."""
MAX_HEADER_LINES: Final = 64

_END: Final = b"\r\n\r\n"
_HEALTH: Final = f"GET {HEALTH_PATH} ".encode()
_SWITCHING: Final = 101
_BAD_REQUEST: Final = 400
_UPGRADE_REQUIRED: Final = 426
_UNAVAILABLE: Final = 503
# A stranger's bad request is a metric here, not a line in the log.
_SILENT: Final = logging.Logger("handshake", logging.CRITICAL + 1)  # noqa: LOG001 - in no tree


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """Why a handshake is not served now."""

    reason: str
    """For the metric: one of a few words."""
    retry_after_s: int
    """Seconds to wait before another try; at least 1."""
    status: int = 503
    """Of HTTP: 429 where it is the client that comes too often."""


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """The handshake is done: write `response`, then speak frames."""

    response: bytes
    subprotocol: str
    rest: bytes
    """What came after the request: the first bytes of frames."""


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Write `response`, then close."""

    response: bytes
    reason: str
    """For the metric: one of a few words."""


class Terms(msgspec.Struct, frozen=True):
    """What a handshake has to offer.

    Args:
        subprotocols: those that are served, the preferred one first.
        origins: values of `Origin` that may connect; None for all. A request without one is no
            browser's and may always.
    """

    subprotocols: tuple[Subprotocol, ...]
    origins: tuple[Origin | None, ...] | None


def make_terms(subprotocols: Sequence[str], allowed_origins: str) -> Terms:
    """Read the terms from the dialects and the setting `allowed_origins`."""
    named = [origin.strip() for origin in allowed_origins.split(",") if origin.strip()]
    origins = None if "*" in named else (None, *map(Origin, named))
    return Terms(tuple(map(Subprotocol, subprotocols)), origins)


class Handshake:
    """One connection's handshake.

    Args:
        terms: what it has to offer.
        admit: asked once the request is whole; what it gives is the refusal, None to go on.
        admit_client: asked with the values of `X-Forwarded-For` and of `Forwarded`.
    """

    __slots__ = ("_admit", "_admit_client", "_buffer", "_terms")

    def __init__(
        self,
        terms: Terms,
        admit: Callable[[], Refusal | None],
        admit_client: Callable[[Sequence[str], Sequence[str]], Refusal | None] | None = None,
    ) -> None:
        self._terms = terms
        self._admit = admit
        self._admit_client = admit_client
        self._buffer: bytearray | None = None

    def feed(self, data: bytes) -> Accepted | Refused | None:
        """Take the next bytes; give the outcome, or None while the request is incomplete."""
        buffer = self._buffer
        if buffer is None:
            seen, whole = 0, data
            end = data.find(_END)
            if end < 0 and len(data) <= MAX_HEADER_BYTES:
                self._buffer = bytearray(data)
                return None
        else:
            seen = max(len(buffer) - len(_END) + 1, 0)
            buffer += data
            end = buffer.find(_END, seen)
            if end < 0 and len(buffer) <= MAX_HEADER_BYTES:
                return None
            whole = bytes(buffer)
        self._buffer = None
        if end < 0 or end > MAX_HEADER_BYTES or whole.count(b"\r\n", 0, end) > MAX_HEADER_LINES:
            return _refused(431, "Request Header Fields Too Large", "too_large", _TOO_LARGE)
        end += len(_END)
        return self._judge(whole[:end], whole[end:])

    def _judge(self, head: bytes, rest: bytes) -> Accepted | Refused:
        if head.startswith(_HEALTH):
            return _refused(200, "OK", "health", "ok\n")
        if (refusal := self._admit()) is not None:
            return Refused(refusal_response(refusal), refusal.reason)
        protocol = _Negotiation(self._terms)
        protocol.receive_data(head)
        events = protocol.events_received()
        if not events or not isinstance(request := events[0], Request):
            return _refused(_BAD_REQUEST, "Bad Request", "bad_request", _NOT_HTTP)
        if (fault := _fault(request) or self._stranger(request)) is not None:
            return fault
        response = protocol.accept(request)
        if response.status_code != _SWITCHING or protocol.subprotocol is None:
            return _rejected(response)
        return Accepted(response.serialize(), protocol.subprotocol, rest)

    def _stranger(self, request: Request) -> Refused | None:
        """Refuse a client that comes through a proxy, and too often."""
        if self._admit_client is None:
            return None
        said = request.headers.get_all
        refusal = self._admit_client(said("X-Forwarded-For"), said("Forwarded"))
        return None if refusal is None else Refused(refusal_response(refusal), refusal.reason)


def _fault(request: Request) -> Refused | None:
    if request.path.partition("?")[0] != PATH:
        return _refused(404, "Not Found", "bad_request", f"Devices connect to {PATH}.\n")
    if not request.headers.get_all("Host"):
        return _refused(_BAD_REQUEST, "Bad Request", "bad_request", "Host is missing.\n")
    return None


class _Negotiation(ServerProtocol):
    """`ServerProtocol` with a text that tells a client's developer what to offer."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(origins=terms.origins, subprotocols=terms.subprotocols, logger=_SILENT)

    @override
    def select_subprotocol(self, subprotocols: Sequence[Subprotocol]) -> Subprotocol:
        served = self.available_subprotocols or ()
        for subprotocol in served:
            if subprotocol in subprotocols:
                return subprotocol
        raise NegotiationError(f"offer one of these in Sec-WebSocket-Protocol: {', '.join(served)}")


_NOT_HTTP: Final = "This is not an HTTP/1.1 request that opens a WebSocket.\n"
_TOO_LARGE: Final = (
    f"A handshake has at most {MAX_HEADER_BYTES} bytes and {MAX_HEADER_LINES} lines.\n"
)


def refusal_response(refusal: Refusal) -> bytes:
    """Write the 503 or 429 that asks a client to come again later."""
    extra = f"Retry-After: {refusal.retry_after_s}\r\n"
    if refusal.status != _UNAVAILABLE:
        text = "Too many connections from this address; try again later.\n"
        return _plain(refusal.status, "Too Many Requests", text, extra)
    text = "The server takes no connection at the moment; try again later.\n"
    return _plain(_UNAVAILABLE, "Service Unavailable", text, extra)


def _refused(status: int, phrase: str, reason: str, text: str) -> Refused:
    return Refused(_plain(status, phrase, text), reason)


def _plain(status: int, phrase: str, text: str, extra: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Length: {len(text)}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\n{extra}\r\n{text}"
    ).encode()


def _rejected(response: Response) -> Refused:
    if response.status_code in {_BAD_REQUEST, _UPGRADE_REQUIRED}:
        # RFC 6455 4.4: tell which version is spoken.
        response.headers["Sec-WebSocket-Version"] = "13"
    return Refused(response.serialize(), "bad_request")
