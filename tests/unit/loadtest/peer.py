"""Plays a gateway for the load generator: registers, welcomes, delivers, with nothing stored."""

import contextlib
import itertools
from collections.abc import AsyncIterator

import msgpack
from aiohttp import web

from sdk_client import wire

REFUSED = "refused"
"""A token that no message is accepted for."""


class Peer:
    """A gateway's outside on one port."""

    def __init__(self) -> None:
        self.url = ""
        self.acked: list[str] = []
        self.accepted: list[str] = []
        self.fail_next = 0
        self.keys: list[str] = []
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._ids = itertools.count()

    @property
    def devices_url(self) -> str:
        return self.url.replace("http", "ws")

    async def register(self, _request: web.Request) -> web.Response:
        device = f"device-{next(self._ids)}"
        body = {"device_id": device, "token": device, "credential": f"{device}.secret"}
        return web.json_response(body, status=201)

    async def send(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.keys.append(request.headers.get("Idempotency-Key", body.get("idempotency_key", "")))
        if self.fail_next:
            self.fail_next -= 1
            return web.json_response({"error": {}}, status=503)
        answer = await self._deliver(body["message"])
        return web.json_response(answer, status=200 if "name" in answer else 404)

    async def send_batch(self, request: web.Request) -> web.Response:
        messages = (await request.json())["messages"]
        return web.json_response(
            {"responses": [await self._deliver(each.get("message", each)) for each in messages]}
        )

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=[wire.SUBPROTOCOL_MSGPACK])
        await socket.prepare(request)
        frame = msgpack.unpackb(await socket.receive_bytes())
        device = frame["credential"].partition(".")[0]
        self._sockets[device] = socket
        await socket.send_bytes(wire.encode({"op": "welcome"}))
        with contextlib.suppress(TypeError):  # what receive_bytes raises in the end
            while True:
                self.acked += msgpack.unpackb(await socket.receive_bytes())["ids"]
        return socket

    async def _deliver(self, message: dict[str, object]) -> dict[str, object]:
        token = str(message["token"])
        if token == REFUSED:
            return {"error": {"code": 404}}
        message_id = f"m{next(self._ids)}"
        self.accepted.append(message_id)
        frame = {"op": "message", "id": message_id, "data": message["data"]}
        if token in self._sockets:
            await self._sockets[token].send_bytes(wire.encode(frame))
        return {"name": f"projects/p/messages/{message_id}"}


@contextlib.asynccontextmanager
async def running_peer() -> AsyncIterator[Peer]:
    peer = Peer()
    app = web.Application()
    app.add_routes(
        [
            web.post("/v1/projects/p/devices", peer.register),
            web.post("/v1/projects/p/messages:send", peer.send),
            web.post("/v1/projects/p/messages:sendBatch", peer.send_batch),
            web.get("/v1/connect", peer.connect),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    peer.url = f"http://{host}:{port}"
    try:
        yield peer
    finally:
        await runner.cleanup()
