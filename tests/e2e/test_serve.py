"""`pushwire serve` under fire: what dies is replaced, what stops stops whole, nothing is lost."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from gateway.embedded_store import EmbeddedStore, is_alive
from tests.support.certificate import make_certificate
from tests.support.gateway import RunningGateway, pushwire, running_gateway, started_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

_JSON = Subprotocol("pushwire.v1.json")


class Listener:
    """A device in JSON that acks what it gets."""

    def __init__(self, socket_: ClientConnection) -> None:
        self.socket = socket_

    async def frame(self, operation: str) -> dict[str, object]:
        """Wait for the next frame of a kind."""
        async with asyncio.timeout(20):
            while True:
                found: dict[str, object] = json.loads(await self.socket.recv())
                if found["op"] == operation:
                    return found

    async def message(self) -> str:
        """Wait for a message, ack it, give its id."""
        frame = await self.frame("message")
        await self.socket.send(json.dumps({"op": "ack", "ids": [frame["id"]]}))
        return str(frame["id"])


async def connect_once(gateway: RunningGateway, credential: str) -> Listener | None:
    """Connect a device, or give None where no shard takes it now."""
    try:
        client = await connect(gateway.devices + "/v1/connect", subprotocols=[_JSON])
    except (OSError, InvalidHandshake, EOFError):
        return None
    listener = Listener(client)
    try:
        await client.send(json.dumps({"op": "connect", "credential": credential, "sdk": "test"}))
        await listener.frame("welcome")
    except ConnectionClosed:
        return None
    return listener


@contextlib.asynccontextmanager
async def connected(gateway: RunningGateway, credential: str) -> AsyncIterator[Listener]:
    """Connect a device; try again while shards come and go."""
    async with asyncio.timeout(20):
        while (listener := await connect_once(gateway, credential)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    try:
        yield listener
    finally:
        await listener.socket.close()


async def send_until_stored(gateway: RunningGateway, token: str) -> str:
    """Send, again while the answer is 503 or none."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError, AssertionError):
                return await gateway.send(token, data={"n": "1"})
            await asyncio.sleep(0.1)


async def until_state(gateway: RunningGateway, message: str, state: str) -> None:
    async with asyncio.timeout(30):
        while (await gateway.status(message))["state"] != state:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.05)


async def test_killed_process_is_replaced_and_messages_are_still_delivered(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        device = await gateway.register()
        for role in ("api", "worker", "shard", "store"):
            killed = gateway.kill(role)
            await gateway.replaced(role, killed)
            message = await send_until_stored(gateway, device["token"])
            async with connected(gateway, device["credential"]) as listener:
                seen = await listener.message()
                while seen != message:
                    seen = await listener.message()
            await until_state(gateway, message, "delivered")
        await gateway.ready()
        assert await gateway.metric("pushwire_process_restarts_total") == 4
        assert await gateway.stop() == 0


async def test_killed_supervisor_leaves_no_process_and_no_lock(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        device = await gateway.register()
        message = await gateway.send(device["token"], data={"n": "1"})
        pids = gateway.pids()
        assert len(pids) == 5
        os.kill(gateway.process.pid, signal.SIGKILL)
        await gateway.process.wait()
        await eventually(lambda: not any(is_alive(pid) for pid in pids), 15)
    async with running_gateway(tmp_path) as gateway:
        assert (await gateway.status(message))["state"] == "accepted"
        async with connected(gateway, device["credential"]) as listener:
            assert await listener.message() == message


async def test_restart_finds_all_data_and_stop_is_clean(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        device = await gateway.register()
        message = await gateway.send(device["token"], data={"n": "1"})
        pids = gateway.pids()
        assert await gateway.stop() == 0
        assert not any(is_alive(pid) for pid in pids)
    async with (
        running_gateway(tmp_path) as gateway,
        connected(gateway, device["credential"]) as listener,
    ):
        assert await listener.message() == message


async def test_stop_tells_connected_devices_to_go(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        device = await gateway.register()
        async with (
            connected(gateway, device["credential"]) as listener,
            asyncio.TaskGroup() as all_,
        ):
            stopped = all_.create_task(gateway.stop())
            assert (await listener.frame("goaway"))["reason"]
        assert stopped.result() == 0


async def test_store_away_refuses_sends_and_keeps_sockets(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        device = await gateway.register()
        async with connected(gateway, device["credential"]) as listener:
            frozen = gateway.kill("store", number=signal.SIGSTOP)
            try:
                body = {"message": {"token": device["token"], "data": {"n": "1"}}}
                status, answer = await gateway.call("POST", "/messages:send", body)
                assert status == 503, answer
            finally:
                os.kill(frozen, signal.SIGCONT)
            message = await send_until_stored(gateway, device["token"])
            assert await listener.message() == message
        await gateway.ready()


async def test_second_serve_on_a_data_directory_is_refused(served: RunningGateway) -> None:
    code, out, err = await pushwire("serve", "--data-dir", str(served.data_dir), "--api-port", "0")
    assert (code, out) == (1, "")
    assert f"process {served.process.pid}" in err
    assert "Traceback" not in err


async def test_left_behind_store_is_taken_over(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    left = EmbeddedStore(data_dir, fsync=False, tie=lambda: None)
    await left.start()
    async with started_gateway(data_dir) as gateway:
        assert await left.wait() == 0
        assert gateway.pids("store") != [left.pid]
        assert "store.left_behind" in gateway.logged()


async def test_role_that_cannot_start_ends_serve_and_says_why(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    # `serve` has the certificate at its standard input, and its shards have nothing there.
    words = (
        "--tls-cert",
        "/dev/stdin",
        "--tls-key",
        str(key),
        "--data-dir",
        str(tmp_path / "data"),
    )
    ports = ("--api-port", "0", "--device-port", "0", "--ops-port", "0")
    with certificate.open("rb") as standard_input:
        code, out, err = await pushwire("serve", *words, *ports, standard_input=standard_input)
    assert (code, out) == (1, "")
    assert "given up: shard-0 ended 5 times before it was ready" in err


async def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        code, out, err = await pushwire("serve", "--data-dir", str(tmp_path), "--api-port", port)
    assert (code, out) == (1, "")
    assert f"api_port: cannot listen on 127.0.0.1:{port}" in err
    assert "--api-port" in err


async def test_ops_port_tells_the_truth(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        async with gateway.http.get(f"{gateway.ops}/healthz") as response:
            assert response.status == 200
        assert await gateway.metric("pushwire_processes_up") == 3
        frozen = gateway.kill("store", number=signal.SIGSTOP)
        try:
            async with gateway.http.get(f"{gateway.ops}/readyz") as response:
                assert response.status == 503
                assert "store" in (await response.json())["problems"]
        finally:
            os.kill(frozen, signal.SIGCONT)
        await gateway.ready()
