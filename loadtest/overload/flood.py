"""App servers that do not wait: `python -m loadtest.overload.flood`, led over its streams.

Requests are due by the clock, whether or not earlier ones were answered; what is refused is not
sent again. A request goes out on a connection that is free, or on a new one up to a bound; beyond
that it waits here, and the wait counts. Costs a few microseconds a request: it has to offer three
times what a gateway takes, on the same machine.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final, cast

import msgspec
import uvloop
from typing_extensions import override

from loadtest.http import address_of
from loadtest.led_process import LedProcess, led_process, obey
from loadtest.senders import payload

_TICK_S: Final = 0.002
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_DUE_DIGITS: Final = 19
"""Of nanoseconds on the monotonic clock, zeros in front: all requests have one length."""
_OPENING: Final = 64
"""Connections that are opened at once."""


class Flood(msgspec.Struct, tag_field="do", tag="flood"):
    """Send to devices, `rate` messages a second for so many seconds."""

    api: str
    project: str
    api_key: str
    tokens: list[str]
    rate: float
    seconds: float
    batch: int = 1
    connections: int = 1000
    answer_s: float = 10.0
    """How long answers have after the last request."""


class Flooded(msgspec.Struct, omit_defaults=True):
    """What came of it."""

    error: str = ""
    offered: int = 0
    """Messages that were sent."""
    unsent: int = 0
    """Messages that were due and found no connection."""
    accepted: int = 0
    answers: dict[str, int] = {}
    """Messages by the status of their answers; `-` without one."""
    hinted: int = 0
    """Refused requests that were told when to come again."""
    connections: int = 0
    """Opened in all."""
    cpu_s: float = 0.0
    """What it took of a processor: near to the seconds of the flood, it was the limit itself."""


class _Sender(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("_flooder", "_got", "busy", "transport")

    def __init__(self, flooder: "Flooder") -> None:
        self._flooder = flooder
        self._got = b""
        self.busy = 0
        """Messages of the request that is under way."""
        self.transport: asyncio.Transport | None = None

    def send(self, request: list[bytes], messages: int) -> None:
        """Send a request."""
        if self.transport is not None:
            self.busy = messages
            self.transport.writelines(request)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._flooder.lost(self)

    @override
    def data_received(self, data: bytes) -> None:
        got = self._got + data if self._got else data
        end = got.find(_END)
        if end < 0:
            self._got = got
            return
        head = got[:end].lower()
        at = head.find(_LENGTH) + len(_LENGTH)
        length = int(head[at : head.find(b"\r", at) if head.find(b"\r", at) > 0 else None])
        if len(got) < end + len(_END) + length:
            self._got = got
            return
        self._got = b""
        self._flooder.answered(self, got[9:12].decode(), head, got[end:])


class Flooder:
    """Sends what one command says."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood
        self._loop = asyncio.get_running_loop()
        self._address = address_of(flood.api)
        self._free: list[_Sender] = []
        self._open: set[_Sender] = set()
        self._opening = 0
        self._waiting: collections.deque[int] = collections.deque()
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0
        self._result = Flooded()
        self._parts = [self._message(token) for token in flood.tokens]
        size = flood.batch
        call = "send" if size == 1 else "sendBatch"
        length = sum(map(len, self._parts[0])) + _DUE_DIGITS
        self._around = (b"", b"") if size == 1 else (b'{"messages":[', b"]}")
        total = size * length + (size - 1 if size > 1 else 0) + sum(map(len, self._around))
        self._head = (
            f"POST /v1/projects/{flood.project}/messages:{call} HTTP/1.1\r\n"
            f"Host: {self._address[0]}\r\nAuthorization: Bearer {flood.api_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {total}\r\n\r\n"
        ).encode()

    async def run(self) -> Flooded:
        """Send all, and wait for the answers, for a while."""
        flood = self._flood
        begun, spent_s = self._loop.time(), time.process_time()
        sent, period = 0, flood.batch / flood.rate
        while (now := self._loop.time()) < begun + flood.seconds:
            due = int((now - begun) / period) + 1
            for number in range(sent, due):
                self._waiting.append(int((begun + number * period) * 1e9))
            sent = due
            self._go()
            await asyncio.sleep(_TICK_S)
        self._result.cpu_s = time.process_time() - spent_s
        self._result.unsent = len(self._waiting) * flood.batch
        self._waiting.clear()
        deadline = self._loop.time() + flood.answer_s
        while self._under_way and self._loop.time() < deadline:  # noqa: ASYNC110 - looks at a clock
            await asyncio.sleep(_TICK_S)
        self._count("-", self._under_way)
        for sender in list(self._open):
            if sender.transport is not None:
                sender.transport.abort()
        for task in self._tasks:
            task.cancel()
        return self._result

    def answered(self, sender: _Sender, status: str, head: bytes, body: bytes) -> None:
        """Take an answer; the connection is free again."""
        messages, sender.busy = sender.busy, 0
        self._under_way -= messages
        accepted = 0
        if status == "200":
            accepted = messages if self._flood.batch == 1 else body.count(b'"name"')
            self._result.accepted += accepted
            self._count("200", accepted)
            self._count("in a batch", messages - accepted)
        else:
            self._count(status, messages)
            self._result.hinted += messages if b"\r\nretry-after:" in head else 0
        if b"\r\nconnection: close" in head and sender.transport is not None:
            sender.transport.close()
            return
        self._free.append(sender)
        self._go()

    def lost(self, sender: _Sender) -> None:
        """Take it that a connection is gone."""
        self._open.discard(sender)
        with contextlib.suppress(ValueError):
            self._free.remove(sender)
        if sender.busy:
            self._under_way -= sender.busy
            self._count("-", sender.busy)

    def _count(self, status: str, messages: int) -> None:
        if messages:
            self._result.answers[status] = self._result.answers.get(status, 0) + messages

    def _go(self) -> None:
        """Send what is due as far as connections go."""
        while self._waiting and self._free:
            sender = self._free.pop()
            if sender.transport is None or sender.transport.is_closing():
                continue
            due_ns = self._waiting.popleft()
            self._under_way += self._flood.batch
            self._result.offered += self._flood.batch
            sender.send(self._request(due_ns), self._flood.batch)
        missing = len(self._waiting) - self._opening
        room = self._flood.connections - len(self._open) - self._opening
        for _ in range(min(missing, room, _OPENING - self._opening)):
            self._opening += 1
            task = self._loop.create_task(self._dial())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dial(self) -> None:
        try:
            _, sender = await self._loop.create_connection(lambda: _Sender(self), *self._address)
        except OSError:
            await asyncio.sleep(0.1)
            return
        finally:
            self._opening -= 1
        self._result.connections += 1
        self._open.add(sender)
        self._free.append(sender)
        self._go()

    def _request(self, due_ns: int) -> list[bytes]:
        due = str(due_ns).zfill(_DUE_DIGITS).encode()
        parts, count, at = self._parts, len(self._parts), self._next
        self._next = (at + self._flood.batch) % count
        request = [self._head, self._around[0]]
        for number in range(self._flood.batch):
            before, after = parts[(at + number) % count]
            request += (b"," if number else b"", before, due, after)
        request.append(self._around[1])
        return request

    @staticmethod
    def _message(token: str) -> tuple[bytes, bytes]:
        """Give a message before and after its due time."""
        mark = "0" * _DUE_DIGITS
        body = {"message": {"token": token, "data": payload(due=mark)}}
        before, _, after = msgspec.json.encode(body).partition(mark.encode())
        return before, after


FloodProcess = LedProcess[Flooded]


@contextlib.asynccontextmanager
async def flood_process() -> AsyncIterator[FloodProcess]:
    """Start one, and end it."""
    async with led_process("loadtest.overload.flood", Flooded) as process:
        yield process


async def main() -> None:
    """Read commands until standard input ends."""

    async def carry_out(command: Flood) -> Flooded:
        return await Flooder(command).run()

    await obey(msgspec.json.Decoder(Flood), carry_out, lambda error: Flooded(error=error))


if __name__ == "__main__":
    uvloop.run(main())
