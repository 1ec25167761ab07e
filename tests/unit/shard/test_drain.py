"""A shard that stops: devices are sent away in waves, and what they said is stored."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.process import Clock, Entropy
from gateway.settings import Settings
from gateway.shard import dialects
from gateway.shard import drain as module
from gateway.shard.drain import drain
from gateway.shard.handshake import Refusal
from gateway.shard.listener import Listener
from router.registration import Registered
from tests.conformance.door import Client
from tests.conformance.wire import CLOSE, TEXT, ServerFrame, close, frame
from tests.support.valkey import Server
from tests.support.waiting import eventually
from tests.unit.shard.parts import Parts


class Port:
    """A real listener of the parts' registry, and its clients."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        settings = msgspec.structs.replace(Settings(), device_port=0)
        self.listener = Listener(
            settings,
            parts.registry,
            dialects.discover(),
            parts.limits,
            Clock(),
            parts.stages.metrics,
        )
        self.number = 0
        self.clients: list[Client] = []

    async def client(self, device: Registered | None = None) -> Client:
        """Connect a device: a new one, unless one is named."""
        device = device or await self.parts.stages.register()
        client = Client(*await asyncio.open_connection("127.0.0.1", self.number))
        self.clients.append(client)
        await client.open()
        connect = {"op": "connect", "credential": device.credential}
        client.send(frame(TEXT, json.dumps(connect).encode()))
        await client.frames(1)
        return client

    async def drain(self, drain_s: float = 0.1) -> None:
        ledger, registry = self.parts.ledger, self.parts.registry
        await drain(self.listener, registry, ledger, Entropy(), drain_s)


@contextlib.asynccontextmanager
async def opened(parts: Parts) -> AsyncIterator[Port]:
    port = Port(parts)
    port.number = await port.listener.start()
    try:
        yield port
    finally:
        for client in port.clients:
            client.close()
        await port.listener.close()


@pytest.fixture
async def port(parts: Parts) -> AsyncIterator[Port]:
    async with opened(parts) as started:
        yield started


def goaway(heard: ServerFrame) -> float:
    """The pause of a goaway frame."""
    told = json.loads(heard.payload)
    assert (told["op"], told["reason"]) == ("goaway", "shutdown")
    return float(told["reconnect_after"])


async def test_devices_are_told_when_to_come_back_and_then_closed(port: Port) -> None:
    clients = [await port.client() for _ in range(3)]
    await port.drain(0.1)
    for client in clients:
        away, closed = await client.to_end()
        assert 0.5 <= goaway(away) <= 0.6
        assert (closed.opcode, closed.code) == (CLOSE, 1001)
    assert port.listener.sockets == 0
    assert len(port.parts.registry) == 0


async def test_nobody_new_is_let_in(port: Port) -> None:
    await port.client()
    draining = asyncio.create_task(port.drain())
    await eventually(lambda: port.parts.registry.draining)
    assert port.parts.registry.admit() == Refusal("draining", 2)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port.number)
    await draining


async def test_a_drain_is_over_as_soon_as_the_devices_are_gone(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 3600.0)
    client = await port.client()
    draining = asyncio.create_task(port.drain(3600.0))
    goaway(*await client.frames(1))
    client.send(close(1000))
    async with asyncio.timeout(10):
        await draining
    assert [answer.code for answer in await client.to_end()] == [1000]


async def test_without_devices_there_is_nothing_to_wait_for(port: Port) -> None:
    async with asyncio.timeout(10):
        await port.drain(3600.0)


@pytest.mark.slow
async def test_devices_are_told_in_waves(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAVE", 1)
    monkeypatch.setattr(module, "MAX_WAVES", 3)
    clients = [await port.client() for _ in range(6)]
    waves: list[int] = []
    peers = port.parts.registry.peers()
    draining = asyncio.create_task(port.drain(0.15))
    while not draining.done():
        told = sum(peer.session.state.name != "LIVE" for peer in peers)
        if told and told not in waves:
            waves.append(told)
        await asyncio.sleep(0)
    await draining
    assert waves == [2, 4, 6]
    assert all([goaway((await client.to_end())[0]) for client in clients])


async def test_what_devices_said_is_stored_and_their_routes_given_up(port: Port) -> None:
    device = await port.parts.stages.register()
    sent = await port.parts.send(device)
    client = Client(*await asyncio.open_connection("127.0.0.1", port.number))
    port.clients.append(client)
    await client.open()
    connect = {"op": "connect", "credential": device.credential}
    client.send(frame(TEXT, json.dumps(connect).encode()))
    await client.frames(2)
    draining = asyncio.create_task(port.drain())
    goaway(*await client.frames(1))
    client.send(frame(TEXT, json.dumps({"op": "ack", "ids": [sent]}).encode()))
    await draining
    assert await port.parts.pending(device) == 0
    assert not await port.parts.connected(device)


async def test_devices_in_a_handshake_are_closed_at_once(port: Port) -> None:
    client = Client(*await asyncio.open_connection("127.0.0.1", port.number))
    port.clients.append(client)
    await client.open()
    await port.drain()
    assert [answer.code for answer in await client.to_end()] == [1001]


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_store_that_is_away_is_not_waited_for_long(
    wounded: tuple[Parts, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLUSH_S", 0.1)
    parts, server = wounded
    async with opened(parts) as port:
        await port.client()
        server.pause()
        with capture_logs() as logs:
            await port.drain(0.01)
        server.resume()
    assert [entry["event"] for entry in logs] == ["shard.draining", "shard.flush_timeout"]
    assert logs[0]["sessions"] == 1
