"""Callbacks of a real gateway to a real endpoint: workers are killed, the endpoint goes away."""

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from router.model.ids import DeviceId, partition_of
from router.model.webhook import lane_of
from sdk_client import Device
from tests.support.foreign.npm import install_standardwebhooks
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

QUICK: Final = {"callback_allow_private": "true", "callback_timeout_s": 1.0, "lease_s": 2.0}


async def set_up(gateway: RunningGateway, receiver: Receiver) -> str:
    status, webhook = await gateway.call("POST", "/webhooks", {"url": receiver.url})
    assert status == 201, webhook
    receiver.secrets.append(str(webhook["secret"]))
    return str(webhook["id"])


async def health(gateway: RunningGateway, webhook: str) -> dict[str, str]:
    _, found = await gateway.call("GET", f"/webhooks/{webhook}")
    told: Any = found["health"]
    return dict(told)


async def in_another_lane(gateway: RunningGateway, lane: int) -> dict[str, str]:
    while True:
        device = await gateway.register()
        if lane_of(partition_of(DeviceId(device["device_id"]))) != lane:
            return device


def accepted(receiver: Receiver, device: dict[str, str]) -> list[str]:
    return [
        receipt["message_id"]
        for receipt in receiver.receipts
        if receipt["event"] == "accepted" and receipt["device_id"] == device["device_id"]
    ]


async def test_a_killed_worker_and_an_endpoint_that_is_away_lose_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, workers=2, **QUICK) as gateway:
        async with receiving() as receiver:
            webhook = await set_up(gateway, receiver)
            port = int(receiver.url.rpartition(":")[2].partition("/")[0])
        device = await gateway.register()
        sent = [await gateway.send(device["token"], data={"n": str(n)}) for n in range(20)]

        async def failing() -> bool:
            return (await health(gateway, webhook)).get("state") == "failing"

        found: bool = await eventually(failing, 20)
        assert found
        killed = [gateway.kill("worker", index) for index in range(2)]
        for pid in killed:
            await gateway.replaced("worker", pid)
        sent += [await gateway.send(device["token"], data={"n": str(n)}) for n in range(20, 40)]
        lane = lane_of(partition_of(DeviceId(device["device_id"])))
        other = await in_another_lane(gateway, lane)
        async with receiving(receiver, port):
            first = await gateway.send(other["token"], data={"n": "first"})
            await eventually(lambda: len(accepted(receiver, device)) >= 40, 40)
            assert accepted(receiver, device) == sent
            assert accepted(receiver, other) == [first]
            receiver.check()

            async def well() -> bool:
                return (await health(gateway, webhook)).get("state") == "ok"

            found = await eventually(well, 20)
            assert found


async def test_workers_that_are_killed_at_work_tell_all_in_order(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, workers=2, **QUICK) as gateway,
        receiving() as receiver,
    ):
        await set_up(gateway, receiver)
        devices = [await gateway.register() for _ in range(10)]
        sent: dict[str, list[str]] = {device["device_id"]: [] for device in devices}
        for round_ in range(40):
            for device in devices:
                message = await gateway.send(device["token"], data={"n": str(round_)})
                sent[device["device_id"]].append(message)
            if round_ in {10, 20, 30}:
                await gateway.replaced("worker", gateway.kill("worker", round_ // 10 % 2))
        await eventually(
            lambda: all(len(accepted(receiver, device)) >= 40 for device in devices), 60
        )
        for device in devices:
            assert accepted(receiver, device) == sent[device["device_id"]]
        receiver.check()


@contextlib.asynccontextmanager
async def sdk_device(gateway: RunningGateway, state: Path) -> AsyncIterator[Device]:
    device = await Device.register(
        gateway.api,
        project=gateway.project,
        client_key=gateway.client_key,
        platform="python",
        state=str(state),
    )
    try:
        yield device
    finally:
        await device.close()


async def test_the_life_of_a_device_is_told(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, **QUICK) as gateway,
        receiving() as receiver,
        sdk_device(gateway, tmp_path / "device.json") as device,
    ):
        await set_up(gateway, receiver)
        message = await gateway.send(device.token, data={"k": "v"})
        arrived = await anext(device.messages())
        assert arrived.id == message
        await device.send({"temperature": 21.5, "place": "Küche"})
        await eventually(lambda: receiver.of_type("device.message"), 20)
        assert receiver.of_type("device.message")[0]["data"] == {
            "temperature": 21.5,
            "place": "Küche",
        }
        identifier = device.device_id
        status, _ = await gateway.call("DELETE", f"/devices/{identifier}")
        assert status == 200
        await eventually(lambda: receiver.of_type("device.unregistered"), 20)
        assert receiver.of_type("device.unregistered")[0]["device_id"] == identifier
        receiver.check()


async def test_dead_letters_by_commands(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, **QUICK) as gateway,
        receiving() as receiver,
    ):
        webhook = await set_up(gateway, receiver)
        receiver.answer = lambda _: Reply(410)
        device = await gateway.register()
        message = await gateway.send(device["token"], data={"k": "v"})
        environment = {"PUSHWIRE_PROJECT": gateway.project, "PUSHWIRE_API_KEY": gateway.api_key}

        async def dlq(*words: str) -> str:
            where = ("--data-dir", str(gateway.data_dir))
            code, out, err = await pushwire("dlq", *words, *where, environment=environment)
            assert code == 0, err
            return out

        async def listed() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = json.loads(await dlq("list", "--json"))
            return found

        letters: list[dict[str, Any]] = await eventually(listed, 20)
        (letter,) = letters
        assert (letter["reason"], letter["receipts"]) == ("disabled", 1)
        assert letter["id"] in await dlq("list")
        shown = await dlq("show", letter["id"])
        assert "HTTP 410" in shown
        assert message in shown
        receiver.answer = lambda _: Reply()
        status, _ = await gateway.call("PATCH", f"/webhooks/{webhook}", {"disabled": False})
        assert status == 200

        async def enabled() -> bool:
            await gateway.send(device["token"], data={"k": "v"})
            return bool(receiver.delivered)

        found: bool = await eventually(enabled, 20)
        assert found
        assert await dlq("replay", letter["id"]) == "1 will be sent again\n"
        await eventually(lambda: message in accepted(receiver, device), 20)
        assert letter["id"] in {taken.id for taken in receiver.delivered}
        assert await dlq("drop", "--all") == "0 dropped\n"
        receiver.check()


async def test_the_official_library_of_node_verifies_requests(tmp_path: Path) -> None:
    folder = tmp_path / "npm"
    folder.mkdir()
    await asyncio.to_thread(install_standardwebhooks, folder)
    program = Path(__file__).parents[1] / "support" / "foreign" / "verify.mjs"
    shutil.copy(program, folder / "verify.mjs")
    async with (
        running_gateway(tmp_path, **QUICK) as gateway,
        receiving() as receiver,
    ):
        webhook = await set_up(gateway, receiver)
        status, rotated = await gateway.call("POST", f"/webhooks/{webhook}:rotateSecret", {})
        assert status == 200
        device = await gateway.register()

        async def doubled() -> bool:
            await gateway.send(device["token"], notification={"title": "Grüße"})
            last = receiver.taken[-1:]
            return bool(last) and len(last[0].headers["webhook-signature"].split()) == 2

        found: bool = await eventually(doubled, 20)
        assert found
    taken = receiver.taken[-1]
    secrets = (receiver.secrets[0], str(rotated["secret"]), "whsec_" + "A" * 32)
    lines = [
        json.dumps({"secret": secret, "headers": taken.headers, "body": taken.body.decode()})
        for secret in secrets
    ]
    told = await asyncio.to_thread(
        subprocess.run,
        ["node", str(folder / "verify.mjs")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    verdicts = told.stdout.splitlines()
    assert verdicts[:2] == ["verified", "verified"]
    assert verdicts[2].startswith("refused")
