"""Topics from end to end: published once, handled once by every subscriber, in order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sdk_client import Device, RequestError
from tests.e2e.conftest import kept_running, seen_from_here
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


@pytest.fixture(scope="module")
def two_shards_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    context = running_gateway(tmp_path_factory.mktemp("topics"), shards=2, ack_timeout_s=2.0)
    with kept_running(context) as found:
        yield found


@pytest_asyncio.fixture
async def gateway(two_shards_process: RunningGateway) -> AsyncIterator[RunningGateway]:
    """Two shards, any of which may be killed: another one follows."""
    async with seen_from_here(two_shards_process) as here:
        yield here


class Reader:
    """A device and what its handler got."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.got: list[str] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        await self.device.close()
        if self._task is not None:
            await self._task

    async def _read(self) -> None:
        async for message in self.device.messages():
            assert message.topic
            self.got.append(message.data["n"])


async def registered(gateway: RunningGateway, state: Path | None = None) -> Device:
    return await Device.register(
        gateway.api, project=gateway.project, client_key=gateway.client_key, state=state
    )


@contextlib.asynccontextmanager
async def readers(
    gateway: RunningGateway, number: int, *topics: str
) -> AsyncIterator[list[Reader]]:
    """Devices that read and subscribe."""
    found = [Reader(await registered(gateway)) for _ in range(number)]
    try:
        for reader in found:
            reader.start()
        async with asyncio.TaskGroup() as tasks:
            for reader in found:
                tasks.create_task(reader.device.subscribe(*topics))
        yield found
    finally:
        for reader in found:
            await reader.stop()


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.05)


async def publish(gateway: RunningGateway, topic: str, n: int, **fields: object) -> str:
    body = {"message": {"topic": topic, "data": {"n": str(n)}, **fields}}
    status, answer = await gateway.call("POST", "/messages:send", body)
    assert status == 200, answer
    return str(answer["name"]).rpartition("/")[2]


async def all_got(found: list[Reader], expected: list[str], timeout_s: float = 30.0) -> None:
    await eventually(lambda: all(reader.got == expected for reader in found), timeout_s)


def numbers(*ranges: range) -> list[str]:
    return [str(n) for each in ranges for n in each]


async def test_a_message_reaches_every_subscriber_of_both_shards_once_and_in_order(
    gateway: RunningGateway,
) -> None:
    async with readers(gateway, 12, "fan-out") as found, readers(gateway, 1, "other") as others:
        sent = [await publish(gateway, "fan-out", n) for n in range(20)]
        await all_got(found, numbers(range(20)))
        assert others[0].got == []

        async def delivered() -> bool:
            counts = (await gateway.status(sent[-1]))["counts"]
            assert isinstance(counts, dict)
            return counts.get("delivered") == 12

        await until(delivered)
        status = await gateway.status(sent[-1])
        assert (status["state"], status["target"], status["topic"]) == (
            "in_progress",
            "topic",
            "fan-out",
        )
        assert status["counts"] == {"accepted": 1, "sent": 12, "delivered": 12}
        code, view = await gateway.call("GET", "/topics/fan-out")
        assert (code, view["subscribers"]) == (200, 12)


async def test_a_device_that_was_away_gets_what_it_missed(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    state = tmp_path / "device.json"
    first = Reader(await registered(gateway, state))
    first.start()
    await publish(gateway, "away", 0)
    await first.device.subscribe("away")
    await publish(gateway, "away", 1)
    await eventually(lambda: first.got == ["1"])
    await first.stop()
    for n in range(2, 302):
        await publish(gateway, "away", n)
    await publish(gateway, "away", 999, ttl="0s")
    second = Reader(Device.load(state))
    second.start()
    await publish(gateway, "away", 302)
    await eventually(lambda: len(second.got) >= 301, 30.0)
    assert second.got == numbers(range(2, 303))
    await second.stop()


async def test_after_an_unsubscribe_nothing_arrives(gateway: RunningGateway) -> None:
    async with readers(gateway, 2, "leaving", "staying") as found:
        gone, stays = found
        await publish(gateway, "leaving", 0)
        await all_got(found, ["0"])
        await gone.device.unsubscribe("leaving")
        await publish(gateway, "leaving", 1)
        await publish(gateway, "staying", 2)
        await all_got([gone], ["0", "2"])
        await eventually(lambda: set(stays.got) == {"0", "1", "2"})
        await gone.device.subscribe("leaving")
        await publish(gateway, "leaving", 3)
        await all_got([gone], ["0", "2", "3"])


async def test_an_app_server_subscribes_a_connected_device_at_once(
    gateway: RunningGateway,
) -> None:
    async with readers(gateway, 1, "first") as (reader,):
        tokens = {"tokens": [reader.device.token, "nonsense"]}
        code, body = await gateway.call("POST", "/topics/second:subscribe", tokens)
        assert code == 200
        results = body["results"]
        assert isinstance(results, list)
        assert results[0] == {}
        assert results[1]["error"]["status"] == "NOT_FOUND"
        await publish(gateway, "second", 0)
        await all_got([reader], ["0"])
        await gateway.call("POST", "/topics/second:unsubscribe", tokens)

        async def unheard() -> bool:
            """The change reaches the session by a hint: soon, not with the answer."""
            before = len(reader.got)
            await publish(gateway, "second", 1)
            await publish(gateway, "first", 2)
            await eventually(lambda: "2" in reader.got[before:])
            return "1" not in reader.got[before:]

        await until(unheard)


async def test_bad_topics_are_refused(gateway: RunningGateway) -> None:
    async with readers(gateway, 1, "good") as (reader,):
        with pytest.raises(RequestError, match="1 to 900 characters"):
            await reader.device.subscribe("no spaces")
        await reader.device.subscribe("/topics/good")
        await publish(gateway, "/topics/good", 1)
        await all_got([reader], ["1"])


async def test_a_shard_that_is_killed_during_a_fan_out_costs_nobody_a_message(
    gateway: RunningGateway,
) -> None:
    async with readers(gateway, 10, "killed") as found:
        killed = 0
        for n in range(60):
            await publish(gateway, "killed", n)
            if n == 15:
                killed = gateway.kill("shard")
            elif n == 40:
                await gateway.replaced("shard", killed)
                gateway.kill("shard", index=1)
        await all_got(found, numbers(range(60)), 60.0)


async def test_receipts_of_each_device_on_request(gateway: RunningGateway) -> None:
    async with readers(gateway, 3, "receipts") as found:
        message = await publish(gateway, "receipts", 1, receipts="device")

        async def delivered() -> bool:
            deliveries = (await gateway.status(message))["deliveries"]
            assert isinstance(deliveries, list)
            states = {one["device_id"]: one["state"] for one in deliveries}
            return states == {reader.device.device_id: "delivered" for reader in found}

        await until(delivered)
