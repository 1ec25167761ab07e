"""Another channel is one more file: its pushes go the whole way, and what follows is as for all."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.cli.main import main
from gateway.sealing_keys import write_key
from router.model.ids import DeviceId, MessageId
from tests.contract.api_server import Api, running_api
from tests.contract.bridge_stage import KEY, BridgeStage, bridge_stage
from tests.support import sms
from tests.support.valkey import running_server

pytestmark = pytest.mark.slow
NUMBER = "+491701234567"


class World(msgspec.Struct):
    """An API and the engine over one store, and the provider of the bridge that was added."""

    api: Api
    stage: BridgeStage
    provider: sms.SmsProvider

    async def registered(self, number: str = NUMBER) -> tuple[DeviceId, str]:
        """Register a device by HTTP, and give its id and token."""
        body = {"platform": "phone", "bridge": {"type": "sms", "number": number}}
        made = await self.api.call("POST", "devices", body, X_Client_Key=self.api.client_key)
        assert made.status == 201, made.text
        return DeviceId(made.json["device_id"]), made.json["token"]

    async def sent(self, token: str) -> MessageId:
        """Send by HTTP, and let the engine have it."""
        sent = await self.api.send({"token": token, "notification": {"body": "Hello"}})
        assert sent.status == 200, sent.text
        message = MessageId(sent.json["name"].rpartition("/")[2])
        await self.stage.due(message)
        return message


@pytest.fixture(scope="module")
def own_store() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture
async def world(
    own_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    sms.install(tmp_path, monkeypatch)
    async with (
        sms.sms_provider() as provider,
        running_api(own_store, secret_key=write_key(KEY)) as api,
        bridge_stage(own_store, tmp_path, bridges=["apns"]) as stage,
    ):
        given = {"api_key": sms.KEY, "sender": "Pushwire", "endpoint": provider.url}
        made = await api.call("PUT", "bridges/sms", given, key=api.key)
        assert made.json["details"] == {"sender": "Pushwire", "endpoint": provider.url}
        assert sms.KEY not in made.text
        await stage.look_anew()
        yield World(api, stage, provider)


async def test_a_message_goes_through_it_and_its_receipt_is_as_any(world: World) -> None:
    _, token = await world.registered()
    message = await world.sent(token)
    assert (await world.stage.until(message, "bridged"))[1:] == ["bridged: sms-1"]
    assert world.provider.taken == [
        {"to": NUMBER, "from": "Pushwire", "text": "Hello", "reference": message}
    ]


async def test_what_it_cannot_carry_is_refused_while_the_sender_listens(world: World) -> None:
    _, token = await world.registered()
    answer = await world.api.send({"token": token, "notification": {"body": "x" * 400}})
    assert answer.error["status"] == "INVALID_ARGUMENT"
    assert "320" in answer.error["message"]
    bad = {"platform": "phone", "bridge": {"type": "sms", "number": "none"}}
    answer = await world.api.call("POST", "devices", bad, X_Client_Key=world.api.client_key)
    assert answer.fields == ["bridge.number"]
    assert "+491701234567" in answer.error["message"]


async def test_a_number_that_is_gone_is_taken_from_its_device(world: World) -> None:
    device, token = await world.registered()
    world.provider.next.append((404, "unknown_number", ""))
    message = await world.sent(token)
    assert (await world.stage.until(message, "failed"))[1:] == ["failed: unknown_number"]
    assert not await world.stage.has_bridge(device)


async def test_it_is_tried_again_when_the_provider_says(world: World) -> None:
    _, token = await world.registered()
    world.provider.next.append((429, "slow_down", "60"))
    message = await world.sent(token)
    await world.stage.until_settled()
    await world.stage.pass_time(50)
    await world.stage.until_settled()
    assert world.provider.taken == []
    await world.stage.pass_time(20)
    await world.stage.until(message, "bridged")


async def test_a_key_that_is_refused_suspends_it(world: World) -> None:
    given = {"api_key": "another-key", "sender": "Pushwire", "endpoint": world.provider.url}
    await world.api.call("PUT", "bridges/sms", given, key=world.api.key)
    await world.stage.look_anew()
    _, token = await world.registered()
    await world.sent(token)
    await world.stage.until_settled()
    found = (await world.api.call("GET", "bridges/sms", key=world.api.key)).json
    assert found["state"] == "suspended"
    assert found["suspended"][0]["reason"] == "401 unauthorized"


async def test_two_devices_with_one_number_are_one(world: World) -> None:
    first, _ = await world.registered()
    second, token = await world.registered()
    message = await world.sent(token)
    await world.stage.until(message, "bridged")
    assert not await world.stage.has_bridge(first)
    assert await world.stage.has_bridge(second)


def test_the_command_line_knows_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sms.install(tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main(["project", "bridge", "add", "my-app", "sms", "--help"])
    assert ended.value.code == 0
    assert "--api-key-file" in capsys.readouterr().out
