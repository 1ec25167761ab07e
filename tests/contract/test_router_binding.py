"""Whose device it is, against a real store: lists and mailboxes agree, whatever is cut short."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.binding import Bindings
from router.model.audience import Audience, AudienceKind
from router.model.cast import Member
from router.model.errors import ErrorCode, PushError
from router.model.ids import DeviceId, UserName
from router.registration import DeviceChanges, DeviceSpec, Registered
from router.store.connection import Store
from tests.contract.router_stages import Stages
from tests.support.valkey import opened_store

USERS = ("ann", "bob")
DEVICES = 3


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def registered(stages: Stages, user: str = "", device: str = "") -> Registered:
    spec = DeviceSpec(platform="python", user=user, device_id=device)
    return await stages.registration.register(stages.project, spec, proved=True)


async def listed(stages: Stages, user: str) -> set[str]:
    """The list as it stands, stale entries too."""
    audience = Audience(AudienceKind.USER, user)
    return {one.device for one in await stages.members.listed(stages.project, audience) or []}


async def test_a_device_is_listed_for_its_user_alone(stages: Stages) -> None:
    device = await registered(stages, "ann")
    assert await listed(stages, "ann") == {device.device_id}
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user="bob"))
    assert (await listed(stages, "ann"), await listed(stages, "bob")) == (set(), {device.device_id})
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(language="de"))
    assert await listed(stages, "bob") == {device.device_id}
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user=""))
    assert await listed(stages, "bob") == set()


async def test_unregistering_and_registering_anew_keep_the_lists_right(stages: Stages) -> None:
    device = await registered(stages, "ann")
    await registered(stages, "bob", device.device_id)
    assert (await listed(stages, "ann"), await listed(stages, "bob")) == (set(), {device.device_id})
    await registered(stages, "", device.device_id)
    assert await listed(stages, "bob") == set()
    await registered(stages, "ann", device.device_id)
    await stages.registration.unregister(stages.project, device.device_id)
    assert await listed(stages, "ann") == set()


async def test_a_user_has_a_limited_number_of_devices_that_are_really_his(stages: Stages) -> None:
    bindings = Bindings(stages.members, stages.clock.now_ms, os.urandom, limit=2)
    stages.registration._bindings = bindings
    first, second = [await registered(stages, "ann") for _ in range(2)]
    other = await registered(stages)
    with pytest.raises(PushError, match="TOO_MANY_DEVICES: a user has 2") as caught:
        await registered(stages, "ann")
    assert caught.value.code is ErrorCode.QUOTA_EXCEEDED
    with pytest.raises(PushError, match="TOO_MANY_DEVICES"):
        await stages.registration.update(stages.project, other.device_id, DeviceChanges(user="ann"))
    assert await bindings.user_of(other.device_id) == ""
    await registered(stages, "ann", first.device_id)  # his already
    # Stale entries take no place.
    await stages.mailboxes.unregister(second.device_id, stages.project, stages.clock.now_ms())
    await stages.registration.update(stages.project, other.device_id, DeviceChanges(user="ann"))
    assert await listed(stages, "ann") == {first.device_id, other.device_id}


async def test_what_is_refused_takes_no_place_of_the_user(stages: Stages) -> None:
    stages.registration._bindings = Bindings(
        stages.members, stages.clock.now_ms, os.urandom, limit=1
    )
    bobs = await registered(stages, "bob")
    spec = DeviceSpec(platform="python", user="ann", device_id=bobs.device_id)
    with pytest.raises(PushError) as caught:
        await stages.registration.register(stages.project, spec)
    assert caught.value.code is ErrorCode.ALREADY_EXISTS
    elsewhere = Stages(stages.store)
    with pytest.raises(PushError) as caught:
        await elsewhere.registration.register(elsewhere.project, spec, proved=True)
    assert caught.value.code is ErrorCode.ALREADY_EXISTS
    with pytest.raises(PushError) as caught:
        await stages.registration.update(
            stages.project, DeviceId("d" * 16), DeviceChanges(user="ann")
        )
    assert caught.value.code is ErrorCode.NOT_FOUND
    assert (await listed(stages, "ann"), await listed(elsewhere, "ann")) == (set(), set())
    # A full list of another user is no reason to hide that the id is taken.
    await registered(stages, "ann")
    with pytest.raises(PushError) as caught:
        await stages.registration.register(stages.project, spec)
    assert caught.value.code is ErrorCode.ALREADY_EXISTS


async def test_one_of_two_registrations_with_an_id_gives_its_place_back(stages: Stages) -> None:
    device = f"device-{os.urandom(8).hex()}"
    specs = [DeviceSpec(platform="python", user=user, device_id=device) for user in ("ann", "bob")]
    outcomes = await asyncio.gather(
        *(stages.registration.register(stages.project, spec) for spec in specs),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, PushError) for one in outcomes) == [False, True]
    winner = "ann" if isinstance(outcomes[1], PushError) else "bob"
    for user in ("ann", "bob"):
        assert await listed(stages, user) == ({device} if user == winner else set())


async def test_a_change_that_was_cut_short_is_finished_by_a_worker(stages: Stages) -> None:
    device = await registered(stages, "ann")
    now_ms = stages.clock.now_ms()
    await stages.members.bind(stages.project, device.device_id, "bob", now_ms)  # and it died
    assert await listed(stages, "bob") == set()
    await stages.bindings.settle(device.device_id, now_ms + 60_000)
    assert await listed(stages, "bob") == {device.device_id}
    assert await stages.bindings.devices(stages.project, "ann") == []
    assert await listed(stages, "ann") == set()
    await stages.bindings.settle(DeviceId("d" * 16), now_ms)  # it has unregistered since


async def test_an_entry_that_was_made_anew_is_not_removed_as_stale(stages: Stages) -> None:
    device = await registered(stages, "ann")
    audience = Audience(AudienceKind.USER, "ann")
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user="bob"))
    stale = Member(device.device_id, "old stamp")
    await stages.members.add_to_user(stages.project, UserName("ann"), stale, 0)
    await stages.registration.update(stages.project, device.device_id, DeviceChanges(user="ann"))
    await stages.members.remove(stages.project, audience, [stale])
    assert await listed(stages, "ann") == {device.device_id}


_steps = st.tuples(
    st.sampled_from(["register", "user", "unregister", "list", "cut", "settle"]),
    st.integers(0, DEVICES - 1),
    st.sampled_from(["", *USERS]),
)


@pytest.mark.slow
@given(st.lists(st.lists(_steps, min_size=1, max_size=3), max_size=8))
def test_lists_agree_with_a_model_after_any_changes_at_once(
    store_url: str, rounds: list[list[tuple[str, int, str]]]
) -> None:
    """Steps of a round overlap. After the timers every list holds just the user's devices."""

    async def play() -> None:
        async with opened_store(store_url) as store:
            stages = Stages(store)
            names = [f"device-{index:012d}-{os.urandom(6).hex()}" for index in range(DEVICES)]
            for steps in rounds:
                async with asyncio.TaskGroup() as tasks:
                    for step, index, user in steps:
                        tasks.create_task(_play(stages, step, names[index], user))
            await _check(stages, names)

    asyncio.run(play())


async def _play(stages: Stages, step: str, name: str, user: str) -> None:
    device, project = DeviceId(name), stages.project
    try:
        if step == "register":
            await registered(stages, user, name)
        elif step == "user":
            await stages.registration.update(project, device, DeviceChanges(user=user))
        elif step == "unregister":
            await stages.registration.unregister(project, device)
        elif step == "list":
            for each in USERS:
                await stages.bindings.devices(project, each)
        elif step == "cut":
            await stages.members.bind(project, device, user, stages.clock.now_ms())
        else:
            await stages.bindings.settle(name, stages.clock.now_ms() + 60_000)
    except PushError as error:
        assert error.code in {ErrorCode.NOT_FOUND, ErrorCode.ALREADY_EXISTS}  # noqa: PT017


async def _check(stages: Stages, names: list[str]) -> None:
    owners = {name: await stages.bindings.user_of(DeviceId(name)) for name in names}
    for name in names:
        await stages.bindings.settle(name, stages.clock.now_ms() + 60_000)
    for user in USERS:
        true = {name for name, owner in owners.items() if owner == user}
        assert true <= await listed(stages, user)
        assert set(await stages.bindings.devices(stages.project, user)) == true
        assert await listed(stages, user) == true
