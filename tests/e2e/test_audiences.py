"""Conditions and filters from end to end: who is meant gets it once, in order, online or later."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from sdk_client import Device
from tests.e2e.conftest import kept_running, seen_from_here
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

CONDITION = "'news' in topics && ('de' in topics || !('en' in topics))"


@pytest.fixture(scope="module")
def two_shards_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    context = running_gateway(tmp_path_factory.mktemp("audiences"), shards=2)
    with kept_running(context) as found:
        yield found


@pytest_asyncio.fixture
async def gateway(two_shards_process: RunningGateway) -> AsyncIterator[RunningGateway]:
    async with seen_from_here(two_shards_process) as here:
        yield here


@contextlib.asynccontextmanager
async def reading(device: Device) -> AsyncIterator[list[str]]:
    """Let a device read, and give what its handler got."""
    got: list[str] = []

    async def read() -> None:
        async for message in device.messages():
            got.append(message.data["n"])  # noqa: PERF401 - each as it comes

    task = asyncio.get_running_loop().create_task(read())
    try:
        yield got
    finally:
        await device.close()
        await task


async def registered(
    gateway: RunningGateway,
    state: Path,
    platform: str = "python",
    language: str = "",
    app_version: str = "",
) -> Device:
    return await Device.register(
        gateway.api,
        project=gateway.project,
        client_key=gateway.client_key,
        state=state,
        platform=platform,
        language=language,
        app_version=app_version,
    )


async def send(gateway: RunningGateway, n: int, **target: object) -> None:
    status, answer = await gateway.call(
        "POST", "/messages:send", {"message": {"data": {"n": str(n)}, **target}}
    )
    assert status == 200, answer


async def test_a_condition_reaches_those_it_asks_for_online_and_when_they_are_back(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    topics = {
        "german": ["news", "de", "en"],
        "plain": ["news"],
        "english": ["news", "en"],
        "none": [],
    }
    meant = {"german", "plain"}
    states = {name: tmp_path / name for name in topics}
    async with contextlib.AsyncExitStack() as stack:
        got = {}
        for name, subscribed in topics.items():
            device = await registered(gateway, states[name])
            got[name] = await stack.enter_async_context(reading(device))
            if subscribed:
                await device.subscribe(*subscribed)
        for n in range(10):
            await send(gateway, n, condition=CONDITION)
        await send(gateway, 99, condition="!('nobody' in topics)")
        await eventually(lambda: all(each[-1:] == ["99"] for each in got.values()))
        for name, each in got.items():
            assert each == [*(str(n) for n in range(10) if name in meant), "99"]
    for n in range(10, 20):
        await send(gateway, n, condition=CONDITION)
    await send(gateway, 100, condition="!('nobody' in topics)")
    async with contextlib.AsyncExitStack() as stack:
        got = {
            name: await stack.enter_async_context(reading(Device.load(state)))
            for name, state in states.items()
        }
        await eventually(lambda: all(each[-1:] == ["100"] for each in got.values()))
        for name, each in got.items():
            assert each == [*(str(n) for n in range(10, 20) if name in meant), "100"]


async def test_a_filter_selects_by_what_devices_say_of_themselves(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    profiles = {
        "new": ("ios", "de-AT", "2.4.1"),
        "old": ("ios", "de", "1.9.0"),
        "other": ("android", "de", "2.4.1"),
    }
    asked = {"platform": "ios", "language": "de", "app_version": ">=2.3 <3"}
    states = {name: tmp_path / name for name in profiles}
    for name, profile in profiles.items():
        await registered(gateway, states[name], *profile)
    async with contextlib.AsyncExitStack() as stack:
        got = {}
        for name, state in states.items():
            device = Device.load(state)
            got[name] = await stack.enter_async_context(reading(device))
            await device.subscribe("filtered")
        for n in range(5):
            await send(gateway, n, topic="filtered", filter=asked)
        for n in range(5, 10):
            await send(gateway, n, filter=asked)
        everybody = {"platform": ["ios", "android"]}
        await send(gateway, 98, topic="filtered", filter=everybody)
        await send(gateway, 99, filter=everybody)
        await eventually(lambda: all({"98", "99"} <= set(each) for each in got.values()))
        topic, broadcast = [str(n) for n in range(5)], [str(n) for n in range(5, 10)]
        assert [n for n in got["new"] if n in {*topic, "98"}] == [*topic, "98"]
        assert [n for n in got["new"] if n in {*broadcast, "99"}] == [*broadcast, "99"]
        assert sorted(got["old"]) == sorted(got["other"]) == ["98", "99"]
