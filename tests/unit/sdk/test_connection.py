"""The SDK's connection: whatever keeps it from connecting, the app hears of it."""

import asyncio
import logging
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from sdk_client import ConnectionState, Device, DisplacedError
from sdk_client.connection import MAX_OUTGOING
from sdk_client.events import Transmit
from sdk_client.state import Registration, StateFile
from sdk_client.wire import SUBPROTOCOL_MSGPACK, encode


def state_with(path: Path, device_url: str) -> Path:
    kept = StateFile.read(path)
    kept.save(
        Registration(
            url="http://127.0.0.1:1",
            project="demo",
            device_id="d" * 16,
            token="local.00.t",  # noqa: S106 - none
            credential="c",
            device_url=device_url,
        )
    )
    kept.close()
    return path


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://127.0.0.1:0", "http://127.0.0.1:1"])
def test_a_url_that_is_none_is_refused_at_once(tmp_path: Path, url: str) -> None:
    path = state_with(tmp_path / "device.json", url)
    with pytest.raises(ValueError, match=r"port|not a URL|Port"):
        Device.load(path)


async def test_whatever_goes_wrong_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[str] = []
    tried_again = asyncio.Event()

    def on_state(state: ConnectionState, detail: str) -> None:
        reports.append(detail)
        if state is ConnectionState.CONNECTING and len(reports) > 1:
            tried_again.set()

    path = state_with(tmp_path / "device.json", "ws://no..host:1")
    with caplog.at_level(logging.ERROR, "pushwire"):
        async with asyncio.timeout(10), Device.load(path, on_state=on_state) as device:
            waiting = asyncio.ensure_future(anext(device.messages()))
            await tried_again.wait()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert "cannot connect: UnicodeError" in reports[1]
    assert "connection.failed" in caplog.messages


async def test_nobody_waits_for_room_on_a_connection_that_is_over(tmp_path: Path) -> None:
    async def displace(socket: ServerConnection) -> None:
        await socket.recv()
        welcome = {"session": "s", "device_id": "d", "heartbeat": 60.0, "pending": 0, "time": 0}
        await socket.send(encode({"op": "welcome", **welcome}))
        await socket.close(4002, "displaced")

    listening = serve(displace, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL_MSGPACK)])
    async with asyncio.timeout(20), listening as server:
        port: int = next(iter(server.sockets)).getsockname()[1]
        path = state_with(tmp_path / "device.json", f"ws://127.0.0.1:{port}")

        def on_state(state: ConnectionState, _detail: str) -> None:
            if state is ConnectionState.CONNECTED:  # more than the socket will take
                outgoing.extend([Transmit(bytes(65_536))] * (2 * MAX_OUTGOING))

        async with Device.load(path, on_state=on_state) as device:
            outgoing = device._core._connection._outgoing
            with pytest.raises(DisplacedError):
                await anext(device.messages())
            await device._core.engage("m" * 27, "opened", "")
