"""NATS clients that cost next to nothing: the text protocol, and what of JetStream is needed.

Sources: docs.nats.io, "NATS Client Protocol" and "JetStream wire API Reference".
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, NamedTuple, cast

import msgspec
from typing_extensions import override

from loadtest.peer import Received

_END: Final = b"\r\n"
_HELLO: Final = b'CONNECT {"verbose":false,"pedantic":false,"headers":false}\r\n'
_INBOX: Final = b"inbox."
_API: Final = "$JS.API."
_WITH_REPLY: Final = 5
"""Words of a MSG line that tells where to answer."""


class Message(NamedTuple):
    """A message from the server."""

    subject: bytes
    reply: bytes
    """The subject of its answer (of an ack); empty where none is wanted."""
    payload: bytes


class ApiError(msgspec.Struct):
    """Why JetStream refuses."""

    code: int = 0
    description: str = ""


class Acknowledged(msgspec.Struct):
    """JetStream's answer to a message that is published, and to a call of its API."""

    error: ApiError | None = None


def split_messages(data: bytes) -> tuple[list[Message | bytes], bytes]:
    """Take what is whole off `data`: messages, other lines as they are; and give what is left."""
    found: list[Message | bytes] = []
    at = 0
    while (line_end := data.find(_END, at)) >= 0:
        line = data[at:line_end]
        if not line.startswith(b"MSG "):
            found.append(line)
            at = line_end + 2
            continue
        words = line.split()
        end = line_end + 2 + int(words[-1])
        if len(data) < end + 2:
            break
        reply = words[3] if len(words) == _WITH_REPLY else b""
        found.append(Message(words[1], reply, data[line_end + 2 : end]))
        at = end + 2
    return found, data[at:]


def publish_line(subject: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    """Publish, with a subject for the answer where one is wanted."""
    words = [b"PUB", subject, *((reply,) if reply else ()), str(len(payload)).encode()]
    return b" ".join(words) + _END + payload + _END


class LeanSubscriber(asyncio.Protocol):
    """One connection of one device, which gets what consumers push to its subject.

    Args:
        subject: to which they push.
        received: told of each message; it is acked too.
        done: settled once: with None when it is subscribed, else with an error.
    """

    __slots__ = ("_buffer", "_done", "_received", "_subject", "_transport")

    def __init__(self, subject: str, received: Received, done: asyncio.Future[None]) -> None:
        self._subject = subject
        self._received = received
        self._done = done
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(_HELLO + f"SUB {self._subject} 1\r\nPING\r\n".encode())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection"))

    @override
    def data_received(self, data: bytes) -> None:
        found, self._buffer = split_messages(self._buffer + data if self._buffer else data)
        answers = b""
        for item in found:
            if isinstance(item, Message):
                answers += publish_line(item.reply, b"")
                self._received(item.payload)
            elif item == b"PING":
                answers += b"PONG\r\n"
            elif item == b"PONG" and not self._done.done():
                self._done.set_result(None)
            elif item.startswith(b"-ERR") and not self._done.done():
                self._done.set_exception(ConnectionError(item.decode()))
        if answers and self._transport is not None:
            self._transport.write(answers)


class Client(asyncio.Protocol):
    """A connection that publishes to streams and sets them up (`client`)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_HELLO + b"SUB " + _INBOX + b"* 1\r\n")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(ConnectionError("the server closed the connection"))

    @override
    def data_received(self, data: bytes) -> None:
        found, self._buffer = split_messages(self._buffer + data)
        for item in found:
            if isinstance(item, Message):
                waiter = self._waiting.pop(item.subject, None)
                if waiter is not None and not waiter.done():
                    waiter.set_result(item.payload)
            elif item == b"PING" and self._transport is not None:
                self._transport.write(b"PONG\r\n")
            elif item.startswith(b"-ERR"):
                self._fail(ConnectionError(item.decode()))

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Publish in one write, each to its subject, and wait until their streams have all.

        Raises:
            ConnectionError: one was refused, or the connection went away.
        """
        for answer in await self._ask([(subject.encode(), body) for subject, body in messages]):
            _check(answer)

    async def create_stream(self, name: str, subjects: str, retention: str, max_age_s: int) -> None:
        """Make a stream that keeps what is published to `subjects` in a file.

        Args:
            name: of the stream.
            subjects: which it keeps.
            retention: `limits`: until `max_age_s` is over; `workqueue`: until it is acked.
            max_age_s: how long a message stays at the most.

        Raises:
            ConnectionError: it was refused.
        """
        config = {
            "name": name,
            "subjects": [subjects],
            "retention": retention,
            "max_age": max_age_s * 10**9,
            "storage": "file",
        }
        await self._call(f"STREAM.CREATE.{name}", config)

    async def create_consumer(self, stream: str, name: str, subject: str, inbox: str) -> None:
        """Make a durable cursor in a stream, which pushes what has `subject` to `inbox`.

        Raises:
            ConnectionError: it was refused.
        """
        config = {
            "durable_name": name,
            "filter_subject": subject,
            "deliver_subject": inbox,
            "deliver_policy": "all",
            "ack_policy": "explicit",
        }
        request = {"stream_name": stream, "config": config}
        await self._call(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", request)

    async def _call(self, name: str, request: Mapping[str, object]) -> None:
        body = msgspec.json.encode(request)
        _check((await self._ask([(f"{_API}{name}".encode(), body)]))[0])

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    async def _ask(self, requests: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        if self._transport is None:
            raise ConnectionError("not connected")
        lines: list[bytes] = []
        waiters: list[asyncio.Future[bytes]] = []
        for subject, payload in requests:
            inbox = _INBOX + str(next(self._numbers)).encode()
            self._waiting[inbox] = waiter = self._loop.create_future()
            waiters.append(waiter)
            lines.append(publish_line(subject, payload, inbox))
        self._transport.write(b"".join(lines))
        return [await waiter for waiter in waiters]

    def _fail(self, error: ConnectionError) -> None:
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            if not waiter.done():
                waiter.set_exception(error)


@contextlib.asynccontextmanager
async def client(target: tuple[str, int]) -> AsyncIterator[Client]:
    """Connect a client."""
    _, opened = await asyncio.get_running_loop().create_connection(Client, *target)
    try:
        yield opened
    finally:
        opened.close()


def _check(answer: bytes) -> None:
    refused = msgspec.json.decode(answer, type=Acknowledged).error
    if refused is not None:
        raise ConnectionError(f"{refused.code} {refused.description}")
