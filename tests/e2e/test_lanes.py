"""A critical message beside the fan-out of a large topic, and beside another project's, for real.

Order tells, not time: how much of the bulk had arrived when the message did. The devices take
everything down in one list, in the order in which it comes.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtest.gateway import create_project
from loadtest.http import address_of
from loadtest.lean_device import LeanDevice
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

DEVICES = 250
MESSAGES = 400
BULK = DEVICES * MESSAGES


class Heard:
    """What all devices got, in order."""

    def __init__(self) -> None:
        self.count = 0
        self.at: dict[str, int] = {}
        """How much had arrived when a message with this text came."""
        self.kinds: Counter[str] = Counter()
        self.orders: dict[tuple[str, str], list[int]] = {}

    def take(self, credential: str, frame: dict[str, object]) -> None:
        data = frame["data"]
        assert isinstance(data, dict)
        kind, _, number = str(data["n"]).partition(" ")
        self.kinds[kind] += 1
        if number:
            self.count += 1
            self.orders.setdefault((credential, kind), []).append(int(number))
        else:
            self.at.setdefault(kind, self.count)


async def connect(gateway: RunningGateway, heard: Heard, count: int) -> list[str]:
    """Register and connect so many devices; gives their tokens."""
    host, port = address_of(gateway.devices)
    tokens = []
    for _ in range(count):
        made = await gateway.register()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        credential = made["credential"]

        def device(credential: str = credential, done: asyncio.Future[None] = done) -> LeanDevice:
            return LeanDevice(credential, host, heard.take, done)

        await asyncio.get_running_loop().create_connection(device, host, port)
        await done
        tokens.append(made["token"])
    return tokens


async def subscribe(gateway: RunningGateway, topic: str, tokens: list[str]) -> None:
    status, body = await gateway.call("POST", f"/topics/{topic}:subscribe", {"tokens": tokens})
    assert (status, body) == (200, {"results": [{}] * len(tokens)})


async def publish(gateway: RunningGateway, topic: str, kind: str, count: int) -> None:
    """Publish so many, a batch a request."""
    for start in range(0, count, 100):
        messages = [
            {"topic": topic, "data": {"n": f"{kind} {number}"}}
            for number in range(start, min(start + 100, count))
        ]
        status, body = await gateway.call("POST", "/messages:sendBatch", {"messages": messages})
        assert status == 200, body


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path) as running:
        yield running


async def test_a_critical_message_arrives_while_a_fan_out_is_under_way(
    gateway: RunningGateway,
) -> None:
    heard = Heard()
    everybody = await connect(gateway, heard, DEVICES)
    await subscribe(gateway, "everybody", everybody)
    (alone,) = await connect(gateway, heard, 1)
    await publish(gateway, "everybody", "bulk", MESSAGES)
    await eventually(lambda: heard.count)
    before = heard.count
    await gateway.send(alone, data={"n": "critical"}, priority="critical")
    # One that gets the bulk as well, with its window full of it.
    await gateway.send(everybody[0], data={"n": "amid"}, priority="critical")
    await eventually(lambda: heard.count == BULK, timeout_s=60)
    assert before <= heard.at["critical"] < BULK
    assert heard.at["critical"] - before < BULK // 2
    assert heard.at["amid"] - before < BULK // 2
    assert all(order == list(range(MESSAGES)) for order in heard.orders.values())


async def test_a_project_that_floods_does_not_hold_up_another(gateway: RunningGateway) -> None:
    heard = Heard()
    everybody = await connect(gateway, heard, DEVICES)
    await subscribe(gateway, "everybody", everybody)
    other = await create_project(gateway.data_dir, "other")
    flooding = (gateway.project, gateway.api_key, gateway.client_key)
    gateway.project, gateway.api_key, gateway.client_key = (
        other.project,
        other.api_key,
        other.client_key,
    )
    few = await connect(gateway, heard, 3)
    await subscribe(gateway, "few", few)
    theirs = (gateway.project, gateway.api_key, gateway.client_key)
    gateway.project, gateway.api_key, gateway.client_key = flooding
    await publish(gateway, "everybody", "bulk", MESSAGES)
    gateway.project, gateway.api_key, gateway.client_key = theirs
    await eventually(lambda: heard.count)
    before = heard.count
    status, _ = await gateway.call(
        "POST", "/messages:send", {"message": {"topic": "few", "data": {"n": "theirs"}}}
    )
    assert status == 200
    await eventually(lambda: heard.kinds["bulk"] == BULK and heard.kinds["theirs"] == 3, 60)
    assert heard.at["theirs"] - before < BULK // 2
