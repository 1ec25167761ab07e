"""One request: its parameters, its body within the limits, its idempotency key."""

import asyncio
import contextlib
import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Final, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp import web

from gateway.api.door import DoorProtocol
from gateway.api.http_server import Reply
from gateway.api.violations import Reader, load, refuse
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import ProjectId, parse_project_id

BODY_TIMEOUT_S: Final = 30.0
"""A body that is not here after so many seconds is given up."""
MAX_JSON_BYTES: Final = 65_536
"""Bodies other than of sends are small."""
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_WINDOW_BITS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""What zlib calls the encodings that bodies may have."""

Model = TypeVar("Model", bound=msgspec.Struct)
_NO_HEADERS: Mapping[str, str] = {}
_encoder = msgspec.json.Encoder()


class Call:
    """A request on its way through a handler.

    Attributes:
        request: aiohttp's.
        parameters: values of the path's `{…}`, in order.
        now_ms: when it was read, epoch milliseconds.
    """

    __slots__ = ("max_bytes", "now_ms", "parameters", "request")

    def __init__(
        self, request: web.BaseRequest, parameters: list[str], now_ms: int, max_bytes: int
    ) -> None:
        self.request = request
        self.parameters = parameters
        self.now_ms = now_ms
        self.max_bytes = max_bytes

    def header(self, name: str) -> str:
        """Give a header's value, empty where it is missing."""
        return self.request.headers.get(name, "")

    def project(self) -> ProjectId:
        """Give the project of the path.

        Raises:
            PushError: NOT_FOUND, no project has such an id.
        """
        project = parse_project_id(self.parameters[0])
        if project is None:
            raise PushError(ErrorCode.NOT_FOUND, "There is no such project.")
        return project

    def scheme(self) -> str:
        """Give the scheme by which the caller reached the gateway, a proxy in front included."""
        return "https" if self.header("X-Forwarded-Proto") == "https" else "http"

    def authority(self) -> str:
        """Give host and port by which the caller reached the gateway; empty where Host is odd."""
        host = self.header("Host")
        return host if _AUTHORITY.fullmatch(host) else ""

    def hostname(self) -> str:
        """Give the host by which the caller reached the gateway; empty where none can be read."""
        with contextlib.suppress(ValueError):
            return urlsplit(f"//{self.authority()}").hostname or ""
        return ""

    def idempotency_key(self) -> str:
        """Give the Idempotency-Key header, empty where it is missing.

        Raises:
            PushError: INVALID_ARGUMENT, it has not 1 to 255 visible ASCII characters.
        """
        key = self.header("Idempotency-Key")
        if key and not _IDEMPOTENCY_KEY.fullmatch(key):
            raise refuse(
                [FieldViolation("Idempotency-Key", "must be 1 to 255 visible ASCII characters")]
            )
        return key

    async def body(self, max_bytes: int = 0) -> bytes:
        """Read the body, decompressed.

        Args:
            max_bytes: the largest that is taken, compressed or not; 0: the server's limit.

        Raises:
            PushError: PAYLOAD_TOO_LARGE; INVALID_ARGUMENT where it is late, cut or not what its
                headers say.
        """
        limit = max_bytes or self.max_bytes
        body = await self._received(limit)
        if isinstance(door := self.request.protocol, DoorProtocol):
            door.enter(len(body))
        encoding = self.header("Content-Encoding")
        return _decompressed(body, encoding, limit) if encoding else body

    async def _received(self, limit: int) -> bytes:
        content = self.request.content
        try:
            if content.is_eof():
                body = content.read_nowait(-1)
                if content.at_eof() and len(body) <= limit:
                    return body
                return await self._rest(body, limit)
            if (self.request.content_length or 0) > limit:
                raise _too_large(limit)
            if self.header("Expect").lower() == "100-continue" and self.request.transport:
                self.request.transport.write(_CONTINUE)
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._rest(b"", limit)
        except TimeoutError as error:
            raise PushError(
                ErrorCode.INVALID_ARGUMENT,
                f"The body did not come within {BODY_TIMEOUT_S:.0f} seconds.",
            ) from error
        except (web.RequestPayloadError, aiohttp.ClientError, ConnectionError) as error:
            raise _garbled() from error

    async def _rest(self, body: bytes, limit: int) -> bytes:
        parts = [body]
        size = len(body)
        while chunk := await self.request.content.readany():
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            parts.append(chunk)
        if size > limit:
            raise _too_large(limit)
        return b"".join(parts)

    async def json(self, model: type[Model], max_bytes: int = MAX_JSON_BYTES) -> Model:
        """Read the body as `model`, in snake_case or camelCase, of so many bytes at the most.

        Raises:
            PushError: INVALID_ARGUMENT with every bad field; as `body`.
        """
        raw = load(await self.body(max_bytes) or b"{}")
        reader = Reader()
        normal = reader.read(raw, model, "", "")
        if reader.violations:
            raise refuse(reader.violations)
        return msgspec.convert(normal, model)


def digest(body: bytes | memoryview) -> str:
    """Give what tells two requests under one idempotency key apart."""
    return hashlib.sha256(body).hexdigest()


def reply(value: object, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS) -> Reply:
    """Answer with a struct as JSON."""
    return Reply(_encoder.encode(value), status, headers=headers)


def _decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo Content-Encoding, never beyond `limit`.

    aiohttp would do it while it reads, for requests too that are refused before their body is
    looked at: a megabyte from anybody could keep the process busy for a second.
    """
    name = encoding.strip().lower()
    if name == "identity":
        return body
    if name not in _WINDOW_BITS:
        raise refuse([FieldViolation("Content-Encoding", "must be gzip, deflate or identity")])
    inflater = zlib.decompressobj(_WINDOW_BITS[name])
    try:
        whole = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise _garbled() from error
    if len(whole) > limit:
        raise _too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise _garbled()
    return whole


def _garbled() -> PushError:
    return PushError(
        ErrorCode.INVALID_ARGUMENT,
        "The body is not what Content-Length, Transfer-Encoding or Content-Encoding says.",
    )


def _too_large(limit: int) -> PushError:
    return PushError(ErrorCode.PAYLOAD_TOO_LARGE, f"The request body has more than {limit} bytes.")
