"""An app server's endpoint on loopback: takes callbacks, verifies each, answers as it is told."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from standardwebhooks.webhooks import Webhook

_TOLERANCE_S: Final = 290


class Taken(msgspec.Struct):
    """One request as it came."""

    id: str
    body: bytes
    headers: dict[str, str]
    status: int
    path: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Reply(msgspec.Struct):
    """What the endpoint answers."""

    status: int = 204
    headers: dict[str, str] = {}
    body: bytes = b""
    after: asyncio.Event | None = None
    """Waits for this before it answers."""


class Receiver:
    """Records what comes. `answer` decides what each request is answered with."""

    def __init__(self) -> None:
        self.url = ""
        self.secrets: list[str] = []
        """Those of its webhooks: every request must verify with each of them that is here."""
        self.taken: list[Taken] = []
        self.answer: Callable[[Taken], Reply] = lambda _: Reply()
        self.connections: set[Any] = set()
        self.at_once = self.most_at_once = 0
        self.faults: list[str] = []

    @property
    def delivered(self) -> list[Taken]:
        """What was answered with success."""
        return [taken for taken in self.taken if taken.status // 100 == 2]

    @property
    def receipts(self) -> list[dict[str, Any]]:
        """Receipts of the callbacks answered with success, each callback once, in order."""
        return [
            receipt
            for taken in self.once
            if taken.json["type"] == "message.receipts"
            for receipt in taken.json["data"]["receipts"]
        ]

    @property
    def once(self) -> list[Taken]:
        """The callbacks answered with success, each once, by its first success."""
        seen: dict[str, Taken] = {}
        for taken in self.delivered:
            seen.setdefault(taken.id, taken)
        return list(seen.values())

    def of_type(self, name: str) -> list[dict[str, Any]]:
        """The data of the callbacks of one type."""
        return [taken.json["data"] for taken in self.once if taken.json["type"] == name]

    def check(self) -> None:
        """No request failed to verify, and one id always meant the same content."""
        assert not self.faults
        contents: dict[str, bytes] = {}
        for taken in self.taken:
            assert contents.setdefault(taken.id, taken.body) == taken.body

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take one request."""
        body = await request.read()
        self.connections.add(request.transport)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self._verify(body, headers)
        taken = Taken(headers.get("webhook-id", ""), body, headers, 0, request.path)
        reply = self.answer(taken)
        taken.status = reply.status
        self.taken.append(taken)
        if reply.after is not None:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await reply.after.wait()
            self.at_once -= 1
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)

    def _verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        for secret in self.secrets:
            try:
                _verify(secret, body.decode(), dict(headers))
            except Exception as error:  # noqa: BLE001 - told by `check`
                self.faults.append(f"{type(error).__name__}: {error}")


def _verify(secret: str, body: str, headers: dict[str, str]) -> None:
    """Verify as app servers do; where a test has moved the clock, without looking at the time."""
    sent_s = int(headers["webhook-timestamp"])
    if abs(sent_s - time.time()) < _TOLERANCE_S:
        Webhook(secret).verify(body, headers)
        return
    sent = datetime.fromtimestamp(sent_s, UTC)
    signature = Webhook(secret).sign(headers["webhook-id"], sent, body)
    assert signature in headers["webhook-signature"].split()


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """Run a receiver until the end of the block; `port` to come back where it was before."""
    found = receiver or Receiver()
    runner = web.ServerRunner(web.Server(found.handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host, bound = runner.addresses[0][:2]
    found.url = f"http://{host}:{bound}/hook"
    try:
        yield found
    finally:
        await runner.cleanup()
