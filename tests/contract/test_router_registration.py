"""Registrations over a real store."""

import pytest

from router.model.errors import ErrorCode, PushError
from router.model.hint import Readdress, Unregister
from router.model.ids import DeviceId, parse_token, partition_of, secret_hash
from router.model.mailbox import AttachResult
from router.model.message import Message
from router.registration import DeviceChanges, DeviceSpec
from router.store.connection import Store
from tests.contract.router_stages import Stages, to


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


def own_id(stages: Stages) -> str:
    return f"own-{stages.project}"


async def test_a_device_is_stored_as_it_said(stages: Stages) -> None:
    spec = DeviceSpec(
        platform="android",
        app_version="1.2",
        language="de-CH",
        timezone="Europe/Zurich",
        region="CH",
        attributes={"tier": "gold"},
        user="u1",
    )
    registered = await stages.registration.register(stages.project, spec)
    token = parse_token(registered.token)
    assert token is not None
    assert (token.region, token.device) == ("local", registered.device_id)
    assert token.partition == partition_of(registered.device_id)
    device = await stages.mailboxes.device(registered.device_id)
    assert device is not None
    assert (device.platform, device.app_version, device.language) == ("android", "1.2", "de-CH")
    assert (device.timezone, device.region, device.user) == ("Europe/Zurich", "CH", "u1")
    assert device.attributes == {"tier": "gold"}
    assert device.project == stages.project
    attached = await stages.attach(registered, await stages.shard())
    assert attached.result is AttachResult.ATTACHED


async def test_an_id_of_its_own_is_kept_and_taken_once(stages: Stages) -> None:
    spec = DeviceSpec(platform="python", device_id=own_id(stages))
    registered = await stages.registration.register(stages.project, spec)
    assert registered.device_id == spec.device_id
    with pytest.raises(PushError) as caught:
        await stages.registration.register(stages.project, spec)
    assert caught.value.code is ErrorCode.ALREADY_EXISTS


async def test_a_proved_repeat_gives_new_secrets_and_voids_the_old(stages: Stages) -> None:
    spec = DeviceSpec(platform="python", device_id=own_id(stages), language="de")
    first = await stages.registration.register(stages.project, spec)
    shard = await stages.shard()
    attached = await stages.attach(first, shard)
    again = DeviceSpec(platform="ios", device_id=own_id(stages))
    second = await stages.registration.register(stages.project, again, proved=True)
    assert second.device_id == first.device_id
    with pytest.raises(PushError):
        await stages.sender.send(stages.project, to(first))
    await stages.sender.send(stages.project, to(second))
    hints = await stages.inbox(shard)
    assert hints[0] == Unregister(first.device_id, attached.epoch)
    assert (await stages.attach(first, shard)).result is AttachResult.BAD_CREDENTIAL
    assert (await stages.attach(second, shard)).result is AttachResult.ATTACHED
    device = await stages.mailboxes.device(first.device_id)
    assert device is not None
    assert (device.platform, device.language) == ("ios", "")


async def test_nobody_takes_over_a_device_of_another_project(stages: Stages, store: Store) -> None:
    spec = DeviceSpec(platform="python", device_id=own_id(stages))
    first = await stages.registration.register(stages.project, spec)
    other = Stages(store)
    with pytest.raises(PushError) as caught:
        await other.registration.register(other.project, spec, proved=True)
    assert caught.value.code is ErrorCode.ALREADY_EXISTS
    assert await stages.mailboxes.credential_of(first.device_id) == secret_hash(first.credential)


async def test_every_bad_field_is_named_at_once(stages: Stages) -> None:
    spec = DeviceSpec(
        platform="",
        device_id="short",
        app_version="\x00",
        language="-",
        timezone="Mars/Olympus",
        region="!",
        attributes={"": ""},
        user="\n",
    )
    with pytest.raises(PushError) as caught:
        await stages.registration.register(stages.project, spec)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert {violation.field for violation in caught.value.violations} == {
        "platform",
        "device_id",
        "app_version",
        "language",
        "timezone",
        "region",
        "attributes",
        "user",
    }


async def test_a_change_keeps_what_it_does_not_name(stages: Stages) -> None:
    spec = DeviceSpec(platform="python", language="de", region="DE", attributes={"a": "1"})
    registered = await stages.registration.register(stages.project, spec)
    changes = DeviceChanges(language="", attributes={"b": "2"})
    device = await stages.registration.update(stages.project, registered.device_id, changes)
    assert (device.platform, device.language, device.region) == ("python", "", "DE")
    assert device.attributes == {"b": "2"}


async def test_a_bad_change_changes_nothing(stages: Stages) -> None:
    registered = await stages.register()
    changes = DeviceChanges(platform="Bad One", language="de")
    with pytest.raises(PushError):
        await stages.registration.update(stages.project, registered.device_id, changes)
    device = await stages.mailboxes.device(registered.device_id)
    assert device is not None
    assert device.language == ""


async def test_a_rotation_tells_the_session(stages: Stages) -> None:
    registered, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(registered, shard)
    token = await stages.registration.rotate_token(stages.project, registered.device_id)
    assert await stages.inbox(shard) == [Readdress(registered.device_id, attached.epoch, token)]


async def test_an_unregistered_device_is_gone_with_its_messages(stages: Stages) -> None:
    registered, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(registered, shard)
    sent = await stages.sender.send(stages.project, Message(token=registered.token))
    await stages.registration.unregister(stages.project, registered.device_id)
    hints = await stages.inbox(shard)
    assert hints[-1] == Unregister(registered.device_id, attached.epoch)
    assert await stages.mailboxes.device(registered.device_id) is None
    assert await stages.events(sent) == ["accepted", "dropped"]


async def test_a_device_that_is_not_there_is_not_found(stages: Stages) -> None:
    nobody = DeviceId("nobody-nobody-nobody")
    registration, project = stages.registration, stages.project
    calls = (
        registration.update(project, nobody, DeviceChanges(language="de")),
        registration.rotate_token(project, nobody),
        registration.unregister(project, nobody),
    )
    for call in calls:
        with pytest.raises(PushError) as caught:
            await call
        assert caught.value.code is ErrorCode.NOT_FOUND
