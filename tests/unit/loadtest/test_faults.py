"""The makers of trouble make the trouble they are asked for."""

import asyncio
import contextlib
import random
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from loadtest.faults import Killer, cutting_proxy
from tests.support.waiting import eventually


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(100):
                writer.write(chunk)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_proxy_relays_until_it_cuts() -> None:
    async with echo() as upstream, cutting_proxy(upstream, random.Random(1)) as (url, proxy):
        assert url.startswith("ws://127.0.0.1:")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.cut(0.0)
        assert proxy.connections == 1
        proxy.cut(1.0)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await eventually(lambda: proxy.connections == 0)
        assert proxy.cuts == 1
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_proxy_without_a_server_behind_it_closes() -> None:
    async with cutting_proxy("ws://127.0.0.1:1", random.Random(1)) as (url, proxy):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        assert proxy.connections == 0
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def test_a_killer_takes_the_roles_in_turn() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as api,
        subprocess.Popen(command, stdin=subprocess.PIPE) as shard,
    ):
        pids = {"api": [api.pid], "shard": [shard.pid]}
        killer = Killer(lambda: pids, ["shard", "api"], random.Random(1))
        killer.kill_one()
        assert shard.wait(10) == -9
        assert api.poll() is None
        killer.kill_one()
        assert api.wait(10) == -9
    assert [kill.role for kill in killer.kills] == ["shard", "api"]


def test_a_killer_waits_for_a_role_that_has_no_process() -> None:
    killer = Killer(dict, ["shard"], random.Random(1))
    killer.kill_one()
    assert killer.kills == []


async def test_a_killer_runs_until_cancelled() -> None:
    looked = []

    def nobody() -> dict[str, list[int]]:
        looked.append(True)
        return {}

    killer = Killer(nobody, ["shard"], random.Random(1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await killer.run(0.01)
    assert looked
