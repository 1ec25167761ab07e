"""The SDK against a real gateway: what its users rely on."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgpack
import pytest
import websockets

import sdk_client
from sdk_client import (
    BlockingDevice,
    ConnectionState,
    Device,
    DisplacedError,
    Message,
    RequestError,
    StateError,
    UnregisteredError,
)
from tests.support.deaf_proxy import deaf_proxy
from tests.support.gateway import RunningGateway
from tests.support.statuses import events_of, timeline_of, until_state
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


UPSTREAM: Final = 'pushwire_receipts_total{event="upstream"}'


class HandlerError(Exception):
    """What an app's handler raises."""


async def register(gateway: RunningGateway, state: Path | None = None, **spec: str) -> Device:
    return await Device.register(
        gateway.api,
        project=gateway.project,
        client_key=gateway.client_key,
        state=state,
        dialect=spec.get("dialect", "msgpack"),
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


@pytest.fixture
async def device(gateway: RunningGateway, state: Path) -> AsyncIterator[Device]:
    async with await register(gateway, state) as found:
        yield found


async def said(device: Device) -> None:
    """Wait until the gateway has read all that the device said before."""
    await device.send({})


async def state_of(gateway: RunningGateway, message: str) -> object:
    return (await gateway.status(message))["state"]


@pytest.mark.parametrize("dialect", ["msgpack", "json"])
async def test_a_message_is_acked_after_the_body_of_the_loop(
    gateway: RunningGateway, dialect: str
) -> None:
    async with await register(gateway, dialect=dialect) as device:
        sent = [
            await gateway.send(
                device.token,
                notification={"title": "Grüße", "body": "世界"},
                data={"n": str(n)},
                priority="high",
                ttl="60s",
            )
            for n in range(3)
        ]
        came: list[Message] = []
        async for message in device.messages():
            came.append(message)
            await said(device)
            assert await state_of(gateway, message.id) in {"accepted", "sent"}
            for earlier in came[:-1]:
                await until_state(gateway, earlier.id, "delivered")
            if len(came) == len(sent):
                break
        assert [message.id for message in came] == sent
        for n, message in enumerate(came):
            assert message.notification is not None
            assert (message.notification.title, message.notification.body) == ("Grüße", "世界")
            assert message.data == {"n": str(n)}
            assert message.priority == "high"
            assert message.expires_at - message.sent_at == 60_000


async def test_a_handler_that_raises_leaves_its_message_unacked(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    first = await gateway.send(device.token)
    second = await gateway.send(device.token)

    async def handle() -> None:
        async for _ in device.messages():
            raise HandlerError

    with pytest.raises(HandlerError):
        await handle()
    await said(device)
    assert await state_of(gateway, first) != "delivered"
    assert (await anext(device.messages())).id == first
    await device.close()
    assert await state_of(gateway, first) != "delivered"
    async with Device.load(state) as again:
        messages = again.messages()
        assert [(await anext(messages)).id for _ in range(2)] == [first, second]
        await until_state(gateway, first, "delivered")


async def test_acks_by_hand_go_in_any_order(gateway: RunningGateway, device: Device) -> None:
    sent = [await gateway.send(device.token) for _ in range(3)]
    messages = device.messages(auto_ack=False)
    came = [await anext(messages) for _ in sent]
    assert [message.id for message in came] == sent
    for at in (1, 2):
        await came[at].ack()
        await until_state(gateway, sent[at], "delivered")
    await said(device)
    assert await state_of(gateway, sent[0]) != "delivered"


async def test_a_nacked_message_comes_again(gateway: RunningGateway, device: Device) -> None:
    sent = await gateway.send(device.token)
    messages = device.messages(auto_ack=False)
    message = await anext(messages)
    await message.nack("database is away", retry_after=1)
    again = await anext(messages)
    assert again.id == sent
    await again.ack()
    await again.nack("too late")
    status = await until_state(gateway, sent, "delivered")
    (nacked,) = [entry for entry in timeline_of(status) if entry["type"] == "nacked"]
    assert nacked["detail"] == "database is away"


async def test_what_a_person_did_shows_in_the_timeline(
    gateway: RunningGateway, device: Device
) -> None:
    sent = await gateway.send(device.token)
    message = await anext(device.messages(auto_ack=False))
    await message.displayed()
    await message.clicked("buy")
    await message.ack()
    await message.opened(action="reply")
    await message.dismissed()
    status = await until_state(gateway, sent, "opened")
    assert {"displayed", "clicked", "delivered", "opened", "dismissed"} <= set(events_of(status))
    details = {entry["type"]: entry.get("detail") for entry in timeline_of(status)}
    assert (details["clicked"], details["opened"]) == ("buy", "reply")


async def test_an_upstream_message_is_answered(gateway: RunningGateway, device: Device) -> None:
    before = await gateway.metric(UPSTREAM)
    await device.send({"temperature": 21.5, "place": "Küche"})
    async with asyncio.timeout(30):
        while await gateway.metric(UPSTREAM) <= before:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.05)


async def test_an_upstream_message_that_is_too_big_is_refused_and_the_next_one_is_not(
    device: Device,
) -> None:
    with pytest.raises(RequestError, match="1009"):
        await device.send({"text": "x" * 20_000})
    await device.send({"text": "x"})


async def test_a_rotated_token_reaches_the_device_and_its_state_file(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    messages = device.messages()
    first = await gateway.send(device.token)
    assert (await anext(messages)).id == first
    old = device.token
    _, body = await gateway.call("POST", f"/devices/{device.device_id}:rotateToken")
    new = str(body["token"])
    assert new != old
    await eventually(lambda: device.token == new)
    assert Device.load(state).token == new
    status, _ = await gateway.call("POST", "/messages:send", {"message": {"token": old}})
    assert status == 404
    sent = await gateway.send(new)
    assert (await anext(messages)).id == sent
    own = await device.rotate_token()
    assert device.token == own != new
    sent = await gateway.send(own)
    assert (await anext(messages)).id == sent


async def test_a_token_that_was_rotated_meanwhile_reaches_the_device_when_it_connects(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    _, body = await gateway.call("POST", f"/devices/{device.device_id}:rotateToken")
    assert device.token != body["token"]
    await said(device)
    await eventually(lambda: device.token == body["token"])
    assert Device.load(state).token == body["token"]


# Isolated: it finds nothing but the standard library and what stands in the folder that is named.
ALONE: Final = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from sdk_client import Device

async def main():
    device = Device.load(sys.argv[2], device_url=sys.argv[3])
    await device.send({})
    print("connected", flush=True)
    async for message in device.messages():
        print(message.id, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with the SDK and what it needs: websockets and msgpack."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for package in (sdk_client, websockets, msgpack):
        home = Path(str(package.__file__)).parent
        (folder / home.name).symlink_to(home)
    return folder


@contextlib.asynccontextmanager
async def device_alone(
    packages: Path, state: Path, url: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a device in a process of its own, which has nothing but these packages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-c", ALONE, str(packages), str(state), url),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_message_whose_ack_was_lost_in_a_crash_is_not_handled_twice(
    gateway: RunningGateway, device: Device, state: Path, packages: Path
) -> None:
    await device.close()
    async with deaf_proxy(gateway.devices) as proxy:
        async with device_alone(packages, state, proxy.url) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"connected\n"
            proxy.deaf = True
            handled = await gateway.send(device.token)
            assert (await process.stdout.readline()).decode().strip() == handled
            await eventually(lambda: handled in state.read_text())
            process.kill()
        assert await state_of(gateway, handled) != "delivered"
    async with Device.load(state) as again:
        sent = await gateway.send(again.token)
        assert (await anext(again.messages())).id == sent
        await until_state(gateway, handled, "delivered")


async def test_registering_again_takes_up_what_the_state_file_holds(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    async with await register(gateway, state) as again:
        assert (again.device_id, again.token) == (device.device_id, device.token)


async def test_a_newer_connection_ends_the_loop_of_the_older_one(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    await said(device)
    async with Device.load(state) as newer:
        await said(newer)
        with pytest.raises(DisplacedError):
            await anext(device.messages())
        assert device.state is ConnectionState.STOPPED
        sent = await gateway.send(newer.token)
        assert (await anext(newer.messages())).id == sent


async def test_an_unregistered_device_is_told_and_registers_anew(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    await said(device)
    status, _ = await gateway.call("DELETE", f"/devices/{device.device_id}")
    assert status == 200
    with pytest.raises(UnregisteredError):
        await anext(device.messages())
    async with await register(gateway, state) as new:
        assert new.device_id != device.device_id
        sent = await gateway.send(new.token)
        assert (await anext(new.messages())).id == sent


async def test_a_device_unregisters_itself(
    gateway: RunningGateway, device: Device, state: Path
) -> None:
    await said(device)
    token = device.token
    await device.unregister()
    assert [message async for message in device.messages()] == []
    with pytest.raises(StateError):
        Device.load(state)
    status, body = await gateway.call("POST", "/messages:send", {"message": {"token": token}})
    assert status == 404
    assert '"UNREGISTERED"' in json.dumps(body)


async def test_the_blocking_device_does_the_same(gateway: RunningGateway, state: Path) -> None:
    states: list[ConnectionState] = []
    device = await asyncio.to_thread(
        BlockingDevice.register,
        gateway.api,
        project=gateway.project,
        client_key=gateway.client_key,
        state=state,
        on_state=lambda now, _detail: states.append(now),
    )
    sent = [await gateway.send(device.token, data={"n": str(n)}) for n in range(3)]

    def handle() -> list[str]:
        with device:
            messages = device.messages()
            came = [next(messages), next(messages), next(messages)]
            came[1].opened("reply")
            came[2].ack()
            device.send({"handled": len(came)}, timeout_s=20)
            return [message.id for message in came]

    assert await asyncio.to_thread(handle) == sent
    for message in sent:
        await until_state(gateway, message, "opened" if message == sent[1] else "delivered")
    assert states == [
        ConnectionState.CONNECTING,
        ConnectionState.CONNECTED,
        ConnectionState.STOPPED,
    ]
