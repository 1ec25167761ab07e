"""Simulated devices connect, come back as they should, and account for what they get."""

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable

import msgpack
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from loadtest.run.account import Sent
from loadtest.run.lean import LeanFleet
from loadtest.run.observed import DUE, NUMBER, STREAM
from loadtest.run.registration import Registered
from sdk_client import wire

Talk = Callable[[ServerConnection], Awaitable[None]]


class Gateway:
    """A device port: welcomes, and does then what a test says."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.url = ""
        self.pending = 0
        self.credentials: list[str] = []
        self.refuse = 0

    async def __call__(self, connection: ServerConnection) -> None:
        frame = msgpack.unpackb(await connection.recv(decode=False))
        self.credentials.append(frame["credential"])
        await connection.send(wire.encode({"op": "welcome", "pending": self.pending}))
        await self.talk(connection)
        await connection.wait_closed()

    def admit(self, connection: ServerConnection, _request: Request) -> Response | None:
        if not self.refuse:
            return None
        self.refuse -= 1
        answer = connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "later\n")
        answer.headers["Retry-After"] = "0"
        return answer


async def silent(_connection: ServerConnection) -> None:
    return


@contextlib.asynccontextmanager
async def fleet_on(
    talk: Talk, count: int, *, slow: bool = False
) -> AsyncIterator[tuple[Gateway, LeanFleet]]:
    gateway = Gateway(talk)
    subprotocols = [Subprotocol(wire.SUBPROTOCOL_MSGPACK)]
    async with serve(
        gateway, "127.0.0.1", 0, subprotocols=subprotocols, process_request=gateway.admit
    ) as server:
        gateway.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            fleet = LeanFleet(gateway.url, 0, 1, tasks, ack_delay_s=0.01)
            for index in range(count):
                fleet.add(index, Registered(f"d{index}", f"t{index}", f"c{index}"), slow=slow)
            yield gateway, fleet
            await fleet.dismiss()


def message(number: int, *, ident: str = "") -> bytes:
    data = {STREAM: "token 0", NUMBER: str(number), DUE: "1"}
    return wire.encode({"op": "message", "id": ident or f"m{number}", "data": data})


async def until(check: Callable[[], bool]) -> None:
    while not check():  # noqa: ASYNC110 - ticks are the only sign
        await asyncio.sleep(0.01)


async def test_all_connect_each_with_its_credential() -> None:
    async with fleet_on(silent, 20) as (gateway, fleet):
        await fleet.connect(0, timeout_s=20)
        assert fleet.connected == 20
        assert sorted(gateway.credentials) == sorted(f"c{index}" for index in range(20))
        tick = fleet.observed.tick(fleet.connected)
    assert (tick.connected, tick.connects, tick.refused) == (20, 20, {})


@pytest.mark.parametrize("slow", [False, True])
async def test_messages_are_acked_and_accounted_for(slow: bool) -> None:
    acked: list[str] = []
    done = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        for frame in (message(1), message(3), message(3), message(2), message(1, ident="other")):
            await connection.send(frame)
        await connection.send(wire.encode({"op": "dropped", "count": 4}))
        while len(acked) < 5:
            acked.extend(msgpack.unpackb(await connection.recv(decode=False))["ids"])
        done.set()

    async with fleet_on(talk, 1, slow=slow) as (_, fleet):
        await fleet.connect(0, timeout_s=20)
        await done.wait()
        tick = fleet.observed.tick(1)
        found = fleet.observed.reckon([0], lambda _: ["token 0"], {"token 0": Sent(4)})
    assert sorted(acked) == ["m1", "m2", "m3", "m3", "other"]
    assert (tick.delivered, tick.repeats, tick.dropped) == (3, 1, 4)
    assert [fault.number for fault in found.missing] == [4]
    assert [fault.number for fault in found.late] == [2]
    assert [fault.message for fault in found.doubled] == ["other"]


async def test_who_is_told_to_go_comes_back() -> None:
    told = 0

    async def talk(connection: ServerConnection) -> None:
        nonlocal told
        if not told:
            told += 1
            await connection.send(wire.encode({"op": "goaway", "reconnect_after": 0.01}))

    async with fleet_on(talk, 1) as (gateway, fleet):
        await fleet.connect(0, timeout_s=20)
        await until(lambda: len(gateway.credentials) == 2 and fleet.connected == 1)
        assert fleet.observed.tick(1).ends == {"goaway": 1}


async def test_who_is_refused_tries_again() -> None:
    async with fleet_on(silent, 3) as (gateway, fleet):
        gateway.refuse = 2
        await fleet.connect(0, timeout_s=20)
        assert fleet.observed.tick(3).refused == {"503 Service Unavailable": 2}


async def test_who_is_cut_off_stays_away_and_returns() -> None:
    async with fleet_on(silent, 4) as (gateway, fleet):
        await fleet.connect(0, timeout_s=20)
        await fleet.cut(1.0, 0.05, 0)
        await until(lambda: fleet.connected == 4)
        tick = fleet.observed.tick(4)
    assert tick.ends == {"cut by the load test": 4}
    assert (tick.connects, len(gateway.credentials)) == (8, 8)


async def test_mailboxes_are_looked_at_on_a_new_connection_that_does_not_count() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send(message(1))

    async with fleet_on(talk, 3, slow=True) as (gateway, fleet):
        await fleet.connect(0, timeout_s=20)
        await until(lambda: len(fleet.observed.active()) == 3)
        fleet.observed.tick(3)
        gateway.pending = 2
        assert await fleet.recheck(0, timeout_s=20) == 6
        tick = fleet.observed.tick(3)
    assert (tick.connects, tick.ends) == (0, {})


async def test_devices_that_do_not_connect_are_counted() -> None:
    async with fleet_on(silent, 2) as (gateway, fleet):
        gateway.refuse = 1_000
        with pytest.raises(TimeoutError, match=r"0 of 2 devices connected in 0 s \(503 Service"):
            await fleet.connect(0, timeout_s=0.5)


async def test_who_is_away_is_not_lost_by_another_cut() -> None:
    async with fleet_on(silent, 4) as (_, fleet):
        await fleet.connect(0, timeout_s=20)
        away = asyncio.create_task(fleet.cut(1.0, 0.1, 0))
        await until(lambda: fleet.connected == 0)
        await fleet.cut(1.0, 0, 0)
        await fleet.cut(1.0, 0.01, 0)
        await away
        await until(lambda: fleet.connected == 4)
