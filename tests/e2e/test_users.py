"""Users and groups from end to end: a copy for each device, handled once, whoever dies."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import jwt
import pytest
import pytest_asyncio

from router.model.audience import Audience, AudienceKind
from router.model.cast import CastEnvelope
from router.model.ids import ProjectId, new_cast_id
from router.model.message import Message
from router.policy.frame import message_frame
from router.store.casts import Casts
from sdk_client import ApiError, BlockingDevice, Device
from tests.e2e.conftest import kept_running, seen_from_here
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.statuses import until_state
from tests.support.valkey import opened_store, wall_ms
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    context = running_gateway(tmp_path_factory.mktemp("users"), ack_timeout_s=2.0)
    with kept_running(context) as found:
        yield found


@pytest_asyncio.fixture
async def gateway(process: RunningGateway) -> AsyncIterator[RunningGateway]:
    """A gateway of which any process but the store may be killed: another one follows."""
    async with seen_from_here(process) as here:
        yield here


class Reader:
    """A device and what its handler got, until it is stopped."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.got: list[str] = []
        self._task = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        await self.device.close()
        await self._task

    async def _read(self) -> None:
        async for message in self.device.messages():
            self.got.append(message.id)


async def registered(gateway: RunningGateway, **spec: str) -> Device:
    return await Device.register(
        gateway.api,
        project=gateway.project,
        client_key=gateway.client_key,
        user_token=spec.get("user_token", ""),
    )


async def of_user(gateway: RunningGateway, user: str) -> Device:
    device = await registered(gateway)
    status, body = await gateway.call("PATCH", f"/devices/{device.device_id}", {"user": user})
    assert status == 200, body
    return device


async def sent(gateway: RunningGateway, **message: object) -> str:
    status, body = await gateway.call("POST", "/messages:send", {"message": message})
    assert status == 200, body
    return str(body["name"]).rpartition("/")[2]


async def token_for(gateway: RunningGateway, user: str, expires_s: float = 60.0) -> str:
    """A user token, as the app server of the project makes it."""
    _, rotated = await gateway.call("POST", "/userSecret:rotate", {})
    claims = {"sub": user, "exp": time.time() + expires_s, "aud": gateway.project}
    return jwt.encode(claims, str(rotated["user_secret"]), algorithm="HS256")


async def devices_of(gateway: RunningGateway, user: str) -> object:
    return (await gateway.call("GET", f"/users/{user}/devices"))[1]["devices"]


async def test_a_message_to_a_user_reaches_the_device_that_is_there_and_the_one_that_comes_later(
    gateway: RunningGateway,
) -> None:
    here, away, other = [await of_user(gateway, user) for user in ("ann", "ann", "bob")]
    first, stranger = Reader(here), Reader(other)
    message = await sent(gateway, user="ann", data={"k": "v"})
    await eventually(lambda: first.got == [message])
    status = await gateway.status(message)
    assert (status["target"], status["state"]) == ("user", "in_progress")
    later = Reader(away)
    await eventually(lambda: later.got == [message])
    await until_state(gateway, message, "done")
    assert (await gateway.status(message))["counts"] == {"accepted": 2, "sent": 2, "delivered": 2}
    assert stranger.got == []
    for reader in (first, later, stranger):
        await reader.stop()


async def test_messages_to_token_user_and_group_arrive_in_the_order_of_their_answers(
    gateway: RunningGateway,
) -> None:
    device = await of_user(gateway, "carl")
    await gateway.call("POST", "/groups", {"group": "order", "tokens": [device.token]})
    reader, ids = Reader(device), []
    for _ in range(5):
        for target in ({"token": device.token}, {"user": "carl"}, {"group": "order"}):
            ids.append(await sent(gateway, **target, data={"k": "v"}))  # noqa: PERF401 - in turn
    await eventually(lambda: reader.got == ids)
    await reader.stop()


async def test_what_an_api_process_accepted_before_it_died_is_delivered_once(
    gateway: RunningGateway,
) -> None:
    """The process dies between the acceptance and the copies: here it never makes them."""
    readers = [Reader(await of_user(gateway, "dora")) for _ in range(2)]
    await eventually(lambda: all(reader.device.connected for reader in readers))
    project, audience = ProjectId(gateway.project), Audience(AudienceKind.USER, "dora")
    now_ms = wall_ms()
    message = new_cast_id(audience.partition(project), now_ms, os.urandom(10))
    frame = message_frame(Message(token="", data={"k": "v"}), message, now_ms, now_ms + 60_000)
    async with opened_store(f"unix://{gateway.data_dir / 'store.sock'}") as store:
        envelope = CastEnvelope(project, audience, message, frame, now_ms, now_ms + 60_000)
        await Casts(store).begin_cast(envelope)
        await store.batch.call(
            "ZADD", f"{{{audience.partition(project)}}}:timers", now_ms, f"spread:{message}"
        )
    await eventually(lambda: all(reader.got == [message] for reader in readers))
    await until_state(gateway, message, "done")
    after = await sent(gateway, user="dora", data={"k": "v"})
    await eventually(lambda: all(reader.got == [message, after] for reader in readers))
    for reader in readers:
        await reader.stop()


async def test_killing_the_api_while_it_sends_loses_nothing_and_repeats_nothing(
    gateway: RunningGateway,
) -> None:
    readers = [Reader(await of_user(gateway, "emil")) for _ in range(3)]
    names: list[str] = []
    killed = 0
    for number in range(30):
        if number == 10:
            killed = gateway.kill("api")
        body = {
            "message": {"user": "emil", "data": {"n": str(number)}},
            "idempotency_key": f"emil-{number}",
        }
        names.append(await _until_answered(gateway, body))
    await gateway.replaced("api", killed)
    await eventually(lambda: all(set(reader.got) == set(names) for reader in readers))
    assert all(len(reader.got) == len(names) for reader in readers), "nobody got one twice"
    for reader in readers:
        await reader.stop()


async def _until_answered(gateway: RunningGateway, body: object) -> str:
    """Send as a careful sender does: again with the same key until there is an answer."""
    found: list[str] = []

    async def answered() -> bool:
        try:
            status, answer = await gateway.call("POST", "/messages:send", body)
        except OSError:
            return False
        assert status in {200, 503}, answer
        if status == 200:
            found.append(str(answer["name"]).rpartition("/")[2])
        return bool(found)

    done: bool = await eventually(answered)
    assert done
    return found[0]


async def test_a_device_proves_its_user_and_signs_out_again(gateway: RunningGateway) -> None:
    device = await registered(gateway, user_token=await token_for(gateway, "finn"))
    async with device:
        assert await devices_of(gateway, "finn") == [device.device_id]
        await device.set_user(await token_for(gateway, "gina"))
        assert await devices_of(gateway, "finn") == []
        assert await devices_of(gateway, "gina") == [device.device_id]
        with pytest.raises(ApiError, match="has expired"):
            await device.set_user(await token_for(gateway, "finn", expires_s=-60))
        await device.clear_user()
        assert await devices_of(gateway, "gina") == []


async def test_a_device_of_the_command_line_proves_its_user(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    code, out, err = await pushwire(
        *("device", "register", "--json", "--state", str(tmp_path / "device.json")),
        *("--project", gateway.project, "--client-key", gateway.client_key),
        *("--user-token", await token_for(gateway, "jan"), "--data-dir", str(gateway.data_dir)),
    )
    assert code == 0, err
    assert await devices_of(gateway, "jan") == [json.loads(out)["device"]]


async def test_the_blocking_device_proves_its_user_too(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    first, second = [await token_for(gateway, user) for user in ("hans", "ina")]
    state = tmp_path / "device.json"

    def run(user_token: str) -> str:
        with BlockingDevice.register(
            gateway.api,
            project=gateway.project,
            client_key=gateway.client_key,
            state=state,
            user_token=user_token,
        ) as device:
            return device.device_id

    def change() -> None:
        with BlockingDevice.load(state) as device:
            device.set_user(second)
            device.clear_user()
            device.set_user(second)

    made = await asyncio.to_thread(run, first)
    assert await devices_of(gateway, "hans") == [made]
    assert first not in state.read_text()
    assert await asyncio.to_thread(run, second) == made, "it is registered already"
    assert await devices_of(gateway, "ina") == [made]
    await asyncio.to_thread(change)
    assert (await devices_of(gateway, "hans"), await devices_of(gateway, "ina")) == ([], [made])
