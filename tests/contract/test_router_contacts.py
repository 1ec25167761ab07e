"""Where bridges reach devices, over a real store: one device for each address."""

import secrets

import pytest

from router.contacts import NO_REACH, Reach
from router.model.errors import ErrorCode, PushError
from router.model.ids import DeviceId, partition_of
from router.registration import DeviceChanges, DeviceSpec, Registered
from router.store.connection import Store
from router.store.outbox import Outbox
from tests.contract.router_stages import Stages
from tests.support.leases import own

DAY_MS = 86_400_000
WORKER = "contacts-worker"
SPEC = DeviceSpec(platform="ios")


@pytest.fixture
def stages(store: Store) -> Stages:
    made = Stages(store)
    made.known.by_project[made.project] = frozenset({"apns", "fcm"})
    return made


def address() -> dict[str, object]:
    return {"type": "apns", "token": secrets.token_hex(32)}


async def register(stages: Stages, raw: dict[str, object]) -> Registered:
    reach = await stages.contacts.read(stages.project, raw)
    return await stages.registration.register(stages.project, SPEC, reach=reach)


async def bridge_of(stages: Stages, device: DeviceId) -> str:
    found = await stages.mailboxes.device(device)
    assert found is not None
    return found.bridge


async def told(stages: Stages, device: DeviceId) -> list[str]:
    """Read what the outbox tells of the end of a device's bridge."""
    partition = partition_of(device)
    outbox = Outbox(stages.store)
    await outbox.take_over(partition, f"reader-{device}")
    found = []
    while read := await outbox.read(partition, f"reader-{device}", 500):
        await outbox.advance(partition, f"reader-{device}", read[-1][0])
        found += [one for _, one in read if one.device == device and one.event == "unregistered"]
    return [one.detail for one in found]


async def test_a_device_that_registers_an_address_takes_it_from_the_former(
    stages: Stages,
) -> None:
    raw = address()
    old = await register(stages, raw)
    assert await bridge_of(stages, old.device_id) == "apns"
    new = await register(stages, {**raw, "token": str(raw["token"]).upper()})
    assert await bridge_of(stages, old.device_id) == ""
    assert await bridge_of(stages, new.device_id) == "apns"
    assert await told(stages, old.device_id) == [f"apns|replaced by {new.device_id}"]
    assert await told(stages, new.device_id) == []


async def test_who_says_its_address_again_keeps_it(stages: Stages) -> None:
    raw = address()
    device = (await register(stages, raw)).device_id
    before = await stages.mailboxes.device(device)
    stages.clock.ahead_ms += 5_000
    reach = await stages.contacts.read(stages.project, raw)
    after = await stages.registration.update(stages.project, device, DeviceChanges(), reach)
    assert before is not None
    assert after.bridge == "apns"
    assert after.bridge_since_ms > before.bridge_since_ms
    assert await told(stages, device) == []


async def test_addresses_of_other_projects_and_bridges_are_others(stages: Stages) -> None:
    raw = address()
    device = (await register(stages, raw)).device_id
    stranger = Stages(stages.store)
    stranger.known.by_project[stranger.project] = frozenset({"apns"})
    await register(stranger, raw)
    await register(stages, {"type": "fcm", "token": raw["token"]})
    assert await bridge_of(stages, device) == "apns"


async def test_a_merge_that_was_cut_short_is_done_by_the_next(stages: Stages) -> None:
    raw = address()
    old = await register(stages, raw)
    reach = await stages.contacts.read(stages.project, raw)
    ghost = DeviceId("device-never-written")
    assert await stages.contacts.claim(stages.project, ghost, reach) == [old.device_id]
    new = await register(stages, raw)
    assert await bridge_of(stages, old.device_id) == ""
    assert await stages.contacts.claim(stages.project, new.device_id, reach) == []


async def test_a_former_device_that_has_another_address_by_now_keeps_that(
    stages: Stages,
) -> None:
    raw = address()
    device = (await register(stages, raw)).device_id
    reach = await stages.contacts.read(stages.project, address())
    await stages.registration.update(stages.project, device, DeviceChanges(), reach)
    await register(stages, raw)
    assert await bridge_of(stages, device) == "apns"


async def test_a_device_that_is_registered_anew_has_the_bridge_that_it_says_then(
    stages: Stages,
) -> None:
    device = (await register(stages, address())).device_id
    spec = DeviceSpec(platform="ios", device_id=device)
    await stages.registration.register(stages.project, spec, proved=True)
    assert await bridge_of(stages, device) == ""
    reach = await stages.contacts.read(stages.project, address())
    await stages.registration.register(stages.project, spec, proved=True, reach=reach)
    assert await bridge_of(stages, device) == "apns"


async def test_a_bridge_can_be_taken_from_its_device_without_a_word(stages: Stages) -> None:
    device = (await register(stages, address())).device_id
    found = await stages.registration.update(stages.project, device, DeviceChanges(), NO_REACH)
    assert found.bridge == ""
    assert await told(stages, device) == []


async def run_timers(stages: Stages, device: DeviceId) -> None:
    partition = partition_of(device)
    await own(stages.store, partition, WORKER)
    await stages.redelivery.run_once(partition, WORKER)
    await stages.leases.partition_release(partition, WORKER)


async def test_an_address_that_nobody_says_again_is_given_up(stages: Stages) -> None:
    raw = address()
    device = (await register(stages, raw)).device_id
    stages.clock.ahead_ms += 200 * DAY_MS
    reach: Reach = await stages.contacts.read(stages.project, raw)
    await stages.registration.update(stages.project, device, DeviceChanges(), reach)
    stages.clock.ahead_ms += 200 * DAY_MS
    await run_timers(stages, device)
    assert await bridge_of(stages, device) == "apns"
    stages.clock.ahead_ms += 70 * DAY_MS + 1_000
    await run_timers(stages, device)
    assert await bridge_of(stages, device) == ""
    assert await told(stages, device) == ["apns|not registered again for 270 days"]


async def test_the_timer_of_a_device_that_went_goes_with_it(stages: Stages) -> None:
    device = (await register(stages, address())).device_id
    await stages.registration.unregister(stages.project, device)
    stages.clock.ahead_ms += 280 * DAY_MS
    due = await stages.timers.due(partition_of(device), WORKER, stages.clock.now_ms(), 128)
    assert ("stale", device) not in due


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"type": "webpush"}, "bridge.subscription"),
        ({"type": "fcm"}, "bridge.token"),
        ({"type": "pigeon"}, "bridge.type"),
        ({"token": "ab"}, "bridge.type"),
        ({"type": "apns", "token": "xyz"}, "bridge.token"),
        ({"type": "apns", "token": "ab" * 32, "more": 1}, "bridge.more"),
    ],
)
async def test_an_address_that_is_none_names_its_field(
    stages: Stages, raw: dict[str, object], field: str
) -> None:
    with pytest.raises(PushError) as caught:
        await stages.contacts.read(stages.project, raw)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert [one.field for one in caught.value.violations] == [field]
    assert "xyz" not in str(caught.value)


async def test_a_bridge_that_the_project_has_not_is_refused(stages: Stages) -> None:
    stages.known.by_project.clear()
    with pytest.raises(PushError, match=r"bridge.type: the project has no bridge apns"):
        await stages.contacts.read(stages.project, address())
