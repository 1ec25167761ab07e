"""An app server that writes down every callback: what was told, and whether an id kept its content.

The judging is pure; `recording` serves it on loopback.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

import msgspec

_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """One event of one message; `device_id` is empty where it is of no single device."""

    message_id: str
    event: str
    device_id: str = ""


class _Data(msgspec.Struct):
    receipts: list[Receipt] = []


class _Body(msgspec.Struct):
    type: str
    data: _Data


class CallbackRecord:
    """What came, by `webhook-id`."""

    def __init__(self) -> None:
        self.requests = 0
        self.receipts: dict[Receipt, int] = {}
        """How many callbacks with ids of their own told of each."""
        self.changed: set[str] = set()
        """Ids that came again with another content."""
        self._contents: dict[str, bytes] = {}
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def take(self, webhook_id: str, body: bytes) -> None:
        """Take one request."""
        self.requests += 1
        content = hashlib.sha256(body).digest()
        if (known := self._contents.get(webhook_id)) is not None:
            if known != content:
                self.changed.add(webhook_id)
            return
        self._contents[webhook_id] = content
        for receipt in msgspec.json.decode(body, type=_Body).data.receipts:
            self.receipts[receipt] = self.receipts.get(receipt, 0) + 1

    @property
    def callbacks(self) -> int:
        """How many different ones came."""
        return len(self._contents)

    def missing(self, expected: Iterable[Receipt]) -> list[Receipt]:
        """Give what was expected and never told."""
        return [receipt for receipt in expected if receipt not in self.receipts]

    def doubled(self) -> list[Receipt]:
        """Give what callbacks with different ids told of."""
        return [receipt for receipt, number in self.receipts.items() if number > 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._serving[task] = writer
            task.add_done_callback(self._serving.pop)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                headers: dict[str, str] = {}
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                for line in head.split("\r\n")[1:]:
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers["content-length"]))
                self.take(headers["webhook-id"], body)
                writer.write(_ANSWER)
        writer.close()

    async def stop(self) -> None:
        """Drop every connection, and wait for the end of it."""
        serving = dict(self._serving)
        for writer in serving.values():
            writer.transport.abort()
        if serving:
            await asyncio.wait(serving)


@contextlib.asynccontextmanager
async def recording() -> AsyncIterator[tuple[str, CallbackRecord]]:
    """Serve a record on a free port of loopback; gives its URL too."""
    record = CallbackRecord()
    server = await asyncio.start_server(record.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with server:
        yield f"http://{host}:{port}/", record
        server.close()
        await record.stop()
