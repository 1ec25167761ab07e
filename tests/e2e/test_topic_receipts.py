"""Receipts of messages to topics, from the devices' SDK to the app server's endpoint."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sdk_client import Device
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

DEVICES = 3


async def read(device: Device) -> None:
    """Handle messages as an app does that tells of each twice."""
    async for message in device.messages():
        for _ in range(2):
            await message.displayed()
            await message.opened(action="tap")


async def publish(gateway: RunningGateway, receipts: str) -> str:
    body = {"message": {"topic": "news", "data": {"n": "1"}, "ttl": "6s", "receipts": receipts}}
    status, answer = await gateway.call("POST", "/messages:send", body)
    assert status == 200, answer
    return str(answer["name"]).rpartition("/")[2]


def told(receiver: Receiver, message: str) -> list[dict[str, Any]]:
    return [one for one in receiver.receipts if one["message_id"] == message]


async def until_status(gateway: RunningGateway, message: str, event: str, count: int) -> None:
    async def counted() -> bool:
        counts: Any = (await gateway.status(message))["counts"]
        return bool(counts.get(event) == count)

    found: bool = await eventually(counted, 30)
    assert found


async def test_callbacks_tell_of_a_topic_what_its_sender_asked_for(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, callback_allow_private="true") as gateway,
        receiving() as receiver,
    ):
        _, webhook = await gateway.call("POST", "/webhooks", {"url": receiver.url})
        receiver.secrets.append(str(webhook["secret"]))
        devices = [
            await Device.register(
                gateway.api, project=gateway.project, client_key=gateway.client_key
            )
            for _ in range(DEVICES)
        ]
        readers = [asyncio.get_running_loop().create_task(read(device)) for device in devices]
        for device in devices:
            await device.subscribe("news")
        modes = {mode: await publish(gateway, mode) for mode in ("device", "aggregate", "none")}
        for mode in ("device", "aggregate"):
            await until_status(gateway, modes[mode], "opened", DEVICES)
            await until_status(gateway, modes[mode], "expired", 1)
        await until_status(gateway, modes["none"], "expired", 1)
        each = 4 * DEVICES + 2
        await eventually(lambda: len(told(receiver, modes["device"])) >= each, 30)
        await eventually(lambda: len(told(receiver, modes["aggregate"])) >= 2, 30)
        for device in devices:
            await device.close()
        await asyncio.gather(*readers)
        check_device(receiver, modes["device"])
        whole = [(one["topic"], one["event"]) for one in told(receiver, modes["aggregate"])]
        assert whole == [("news", "accepted"), ("news", "expired")]
        assert told(receiver, modes["none"]) == []
        receiver.check()
        rates: Any = (await gateway.status(modes["device"]))["rates"]
        assert (rates["delivered"], rates["opened"], rates["clicked"]) == (1.0, 1.0, 0.0)
        _, listed = await gateway.call("GET", "/messages?target=topic:news&state=done")
        names: Any = listed["messages"]
        assert {one["name"].rpartition("/")[2] for one in names} == set(modes.values())


def check_device(receiver: Receiver, message: str) -> None:
    """Each event of each device came once, and those of the message as a whole."""
    found = Counter((one["device_id"], one["event"]) for one in told(receiver, message))
    assert set(found.values()) == {1}
    assert Counter(event for _, event in found) == {
        "accepted": 1,
        "sent": DEVICES,
        "delivered": DEVICES,
        "displayed": DEVICES,
        "opened": DEVICES,
        "expired": 1,
    }
    actions = {one.get("action") for one in told(receiver, message) if one["event"] == "opened"}
    assert actions == {"tap"}
