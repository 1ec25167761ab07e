"""Devices that change hands, against a real store: what was sent to a user stays with the user."""

import os

import pytest

from router.groups import Groups
from router.model.audience import Audience, AudienceKind
from router.model.errors import ErrorCode, PushError
from router.model.ids import GroupName
from router.model.receipt import Event
from router.model.status import MessageStatus
from router.policy.limits import WINDOW
from router.registration import DeviceChanges, DeviceSpec
from router.store.connection import Store
from tests.contract.cast_stage import USER, an_envelope, casting, held, of_user, states, status
from tests.contract.router_stages import Stages, to

GROUP = Audience(AudienceKind.GROUP, "g")


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


def details(found: MessageStatus) -> list[tuple[str, str]]:
    return [(entry.event.value, entry.detail) for entry in found.timeline]


@pytest.mark.parametrize("user", ["bob", ""])
async def test_who_signs_in_next_gets_nothing_of_the_user_before(stages: Stages, user: str) -> None:
    moved, other = [await of_user(stages) for _ in range(2)]
    groups = Groups(stages.members, os.urandom)
    await groups.create(stages.project, GroupName(GROUP.name), [moved.token])
    to_token = await stages.sender.send(stages.project, to(moved))
    to_user = await stages.caster.cast(stages.project, casting())
    to_group = await stages.caster.cast(stages.project, casting(GROUP))
    await stages.registration.update(stages.project, moved.device_id, DeviceChanges(user=user))
    assert await held(stages, moved) == [to_token, to_group]
    assert await held(stages, other) == [to_user]
    copies = {copy.device: copy for copy in (await status(stages, to_user)).copies}
    assert details(copies[moved.device_id]) == [("accepted", ""), ("dropped", "user changed")]
    assert details(copies[other.device_id]) == [("accepted", "")]


async def test_registering_anew_for_another_user_drops_what_waits(stages: Stages) -> None:
    device = await of_user(stages)
    message = await stages.caster.cast(stages.project, casting())
    spec = DeviceSpec(platform="python", device_id=device.device_id, user="bob")
    anew = await stages.registration.register(stages.project, spec, proved=True)
    assert await held(stages, anew) == []
    assert await states(stages, message) == {device.device_id: Event.DROPPED}


async def test_a_change_that_is_none_drops_nothing(stages: Stages) -> None:
    device = await of_user(stages)
    message = await stages.caster.cast(stages.project, casting())
    for changes in (DeviceChanges(user=USER.name), DeviceChanges(language="de")):
        await stages.registration.update(stages.project, device.device_id, changes)
    assert await held(stages, device) == [message]


@pytest.mark.slow
async def test_more_than_a_window_is_dropped(stages: Stages) -> None:
    device = await of_user(stages)
    sent = await stages.caster.cast_batch(stages.project, [casting()] * (2 * WINDOW + 1))
    assert not any(isinstance(one, PushError) for one in sent)
    last = await stages.sender.send(stages.project, to(device))
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user="bob"))
    assert await held(stages, device) == [last]


@pytest.mark.parametrize("user", ["bob", ""])
async def test_a_move_that_was_cut_short_is_finished_by_a_worker(stages: Stages, user: str) -> None:
    device = await of_user(stages)
    await stages.caster.cast(stages.project, casting())
    now_ms = stages.clock.now_ms()
    await stages.members.bind(stages.project, device.device_id, user, now_ms)  # and it died
    assert len(await held(stages, device)) == 1
    await stages.bindings.settle(device.device_id, now_ms + 60_000)
    assert await held(stages, device) == []


async def test_a_group_whose_devices_have_all_unregistered_drops_the_message(
    stages: Stages,
) -> None:
    device = await stages.register()
    groups = Groups(stages.members, os.urandom)
    await groups.create(stages.project, GroupName(GROUP.name), [device.token])
    await stages.registration.unregister(stages.project, device.device_id)
    found = await status(stages, await stages.caster.cast(stages.project, casting(GROUP)))
    assert details(found) == [("accepted", ""), ("dropped", "no devices")]
    assert (found.is_done(0), found.copies) == (True, ())
    with pytest.raises(PushError) as caught:
        await stages.caster.cast(stages.project, casting(GROUP))
    assert caught.value.code is ErrorCode.UNREGISTERED


async def test_a_message_whose_only_copy_left_with_its_device_was_not_without_devices(
    stages: Stages,
) -> None:
    device = await of_user(stages)
    envelope = an_envelope(stages)
    await stages.casts.begin_cast(envelope)
    spreading = await stages.casts.spread(envelope.message, stages.clock.now_ms())
    assert spreading is not None
    assert await stages.spreader._put(spreading)  # then it died
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user="bob"))
    await stages.spreader.resume(envelope.message, stages.clock.now_ms())
    found = await status(stages, envelope.message)
    assert details(found) == [("accepted", "")]
    assert [copy.state for copy in found.copies] == [Event.DROPPED]


async def test_a_scheduled_message_needs_no_devices_yet(stages: Stages) -> None:
    later_ms = stages.clock.now_ms() + 60_000
    await stages.caster.check(stages.project, USER, later_ms)
    for at_ms in (None, stages.clock.now_ms() - 1):
        with pytest.raises(PushError) as caught:
            await stages.caster.check(stages.project, USER, at_ms)
        assert caught.value.code is ErrorCode.UNREGISTERED
