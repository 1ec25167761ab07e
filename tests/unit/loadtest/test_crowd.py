"""A crowd keeps the SDK's promise over a lean socket: each message once, whatever is repeated."""

import asyncio
from collections.abc import AsyncIterator

import msgpack
import pytest
from aiohttp import web

from loadtest.crowd import Begin, Calm, Count, CrowdProcess, Enrol, Report, crowd_process
from sdk_client import wire


class Repeater:
    """A gateway that sends the same three messages to every session, and cuts the first one."""

    def __init__(self) -> None:
        self.url = ""
        self.sessions = 0
        self.acked: list[str] = []
        self.twice = asyncio.Event()

    async def register(self, _request: web.Request) -> web.Response:
        made = {"device_id": "d", "token": "t", "credential": "d.secret"}
        return web.json_response(made, status=201)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        self.sessions += 1
        first = self.sessions == 1
        socket = web.WebSocketResponse(protocols=[wire.SUBPROTOCOL_MSGPACK])
        await socket.prepare(request)
        assert msgpack.unpackb(await socket.receive_bytes())["op"] == "connect"
        welcome = {"op": "welcome", "session": "s", "device_id": "d", "heartbeat": 60}
        await socket.send_bytes(wire.encode({**welcome, "pending": 0, "time": 1}))
        times = {"sent_at": 1, "expires_at": 2, "priority": "normal"}
        for message in ("m1", "m2", "m3"):
            await socket.send_bytes(wire.encode({"op": "message", "id": message, **times}))
        while len(self.acked) < (3 if first else 6):
            self.acked += msgpack.unpackb(await socket.receive_bytes())["ids"]
        if first:
            await socket.close()
        else:
            self.twice.set()
            await socket.receive()
        return socket


@pytest.fixture
async def repeater() -> AsyncIterator[Repeater]:
    peer = Repeater()
    app = web.Application()
    app.add_routes(
        [web.post("/v1/projects/p/devices", peer.register), web.get("/v1/connect", peer.connect)]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    peer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield peer
    await runner.cleanup()


@pytest.fixture
async def crowd() -> AsyncIterator[CrowdProcess]:
    async with crowd_process() as process:
        yield process


@pytest.mark.slow
async def test_a_handler_gets_repeats_of_a_new_session_once_and_they_are_acked_again(
    repeater: Repeater, crowd: CrowdProcess
) -> None:
    enrolled = await crowd.ask(Enrol(repeater.url, "p", "key", 1))
    assert [one.device_id for one in enrolled.enrolled] == ["d"]
    devices = repeater.url.replace("http", "ws")
    await crowd.ask(Begin(devices, ["127.0.0.6"], restless=0, on_s=1, off_s=1, seed=1))
    async with asyncio.timeout(10):
        await repeater.twice.wait()
    await crowd.ask(Calm())
    count = await crowd.ask(Count())
    assert (count.handled, count.connects) == (3, 2)
    assert (await crowd.ask(Report())).sights == [["m1", "m2", "m3"]]
    assert repeater.acked == ["m1", "m2", "m3"] * 2


async def test_a_gateway_that_refuses_is_an_error(repeater: Repeater, crowd: CrowdProcess) -> None:
    with pytest.raises(ConnectionError, match="register: 404"):
        await crowd.ask(Enrol(repeater.url, "another", "key", 1))
