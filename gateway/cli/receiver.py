"""An endpoint of an app server that hears callbacks, for the demo."""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from router.policy.signing import sign

_Told = tuple[str, str]
"""A message id and an event."""


class _Receipt(msgspec.Struct):
    message_id: str
    event: str


class _Data(msgspec.Struct):
    receipts: list[_Receipt] = []


class _Callback(msgspec.Struct):
    type: str
    data: _Data


class Receiver:
    """Checks the signature of each request, and remembers the receipts in it.

    Set `secret` to that of the webhook before anything is sent.
    """

    def __init__(self) -> None:
        self.url = ""
        self.secret = ""
        self._told: set[_Told] = set()
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen on a free port of the loopback; `url` says where."""
        app = web.Application()
        app.router.add_post("/callbacks", self._on_callback)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            _, port = runner.addresses[0][:2]
            self.url = f"http://127.0.0.1:{port}/callbacks"
            yield
        finally:
            await runner.cleanup()

    async def heard(self, message_id: str, event: str) -> None:
        """Wait until a callback told of an event."""
        while (message_id, event) not in self._told:
            self._news.clear()
            await self._news.wait()

    async def _on_callback(self, request: web.Request) -> web.Response:
        body = await request.read()
        identifier = request.headers["webhook-id"]
        expected = sign(self.secret, identifier, int(request.headers["webhook-timestamp"]), body)
        given = request.headers["webhook-signature"].split()
        if not any(hmac.compare_digest(expected, signature) for signature in given):
            return web.Response(status=401)
        callback = msgspec.json.decode(body, type=_Callback)
        self._told.update((each.message_id, each.event) for each in callback.data.receipts)
        self._news.set()
        return web.Response(status=204)
