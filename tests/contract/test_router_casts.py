"""Messages to users and groups, against a real store: accepted once, a copy for each device."""

import os

import msgspec
import pytest

from router.cast import Caster, Casting
from router.groups import Groups
from router.model.audience import Audience, AudienceKind
from router.model.errors import ErrorCode, PushError
from router.model.hint import Deliver
from router.model.ids import GroupName, Partition, UserName, kept_as
from router.model.mailbox import Ack
from router.model.message import Message
from router.model.receipt import Event
from router.registration import DeviceChanges, DeviceSpec
from router.store import keys
from router.store.connection import Store
from tests.contract.cast_stage import USER, an_envelope, casting, held, of_user, states, status
from tests.contract.router_stages import Stages, to
from tests.support.valkey import opened_store


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def test_each_device_of_a_user_has_a_copy_and_acks_it_by_the_messages_id(
    stages: Stages,
) -> None:
    shard = await stages.shard()
    online, offline, other = [await of_user(stages) for _ in range(2)] + [await stages.register()]
    epoch = (await stages.attach(online, shard)).epoch
    message = await stages.caster.cast(stages.project, casting())
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.device, hint.message, hint.seq) == (online.device_id, message, 1)
    assert await held(stages, other) == []
    assert await held(stages, offline) == [message]
    await stages.mailboxes.ack(
        online.device_id, epoch, [Ack(message, 1, stages.clock.now_ms())], stages.clock.now_ms()
    )
    assert await states(stages, message) == {
        online.device_id: Event.DELIVERED,
        offline.device_id: Event.ACCEPTED,
    }
    found = await status(stages, message)
    assert (found.target, found.is_done(0), found.spreading) == ("user", False, False)
    assert await stages.timers.due(USER.partition(stages.project), "nobody", 2**45, 9) == []


async def test_an_ack_of_another_session_and_a_nack_find_the_copy(stages: Stages) -> None:
    device = await of_user(stages)
    shard = await stages.shard()
    message = await stages.caster.cast(stages.project, casting())
    attached = await stages.attach(device, shard)
    now_ms = stages.clock.now_ms()
    await stages.mailboxes.nack(
        device.device_id, attached.epoch, message, 0, "busy", now_ms + 1, now_ms
    )
    assert Event.NACKED in {e.event for e in (await status(stages, message)).copies[0].timeline}
    await stages.mailboxes.ack(device.device_id, attached.epoch, [Ack(message, 0, 0)], now_ms)
    assert await states(stages, message) == {device.device_id: Event.DELIVERED}
    assert await stages.mailboxes.engage(
        device.device_id, message, Event.OPENED, now_ms, "", now_ms
    )
    assert await states(stages, message) == {device.device_id: Event.OPENED}


async def test_messages_to_token_user_and_group_share_the_mailboxes_order(stages: Stages) -> None:
    device = await of_user(stages)
    groups = Groups(stages.members, os.urandom)
    await groups.create(stages.project, GroupName("g"), [device.token])
    sent = []
    for _ in range(3):
        sent += [
            await stages.sender.send(stages.project, to(device)),
            await stages.caster.cast(stages.project, casting()),
            await stages.caster.cast(stages.project, casting(Audience(AudienceKind.GROUP, "g"))),
        ]
    assert await held(stages, device) == sent


async def test_a_collapse_key_counts_for_all_kinds_of_messages(stages: Stages) -> None:
    device = await of_user(stages)
    first = await stages.sender.send(
        stages.project, Message(token=device.token, data={"k": "v"}, collapse_key="c")
    )
    message = Message(token="", audience=USER, data={"k": "v"}, collapse_key="c")
    last = await stages.caster.cast(stages.project, Casting(USER, message))
    assert await held(stages, device) == [last]
    assert await stages.events(first) == ["accepted", "collapsed"]


async def test_what_a_dead_process_accepted_a_worker_spreads_once(stages: Stages) -> None:
    devices = [await of_user(stages) for _ in range(3)]
    envelope = an_envelope(stages)
    accepted = stages.casts.accepted(envelope, await stages.casts.begin_cast(envelope))
    assert {member.device for member in accepted.members} == {one.device_id for one in devices}
    assert (await status(stages, envelope.message)).spreading
    # It had made one copy when it died, and that one was delivered.
    spreading = await stages.casts.spread(envelope.message, stages.clock.now_ms())
    assert spreading is not None
    one = next(m for m in spreading.members if m.device == devices[0].device_id)
    await stages.spreader._put(msgspec.structs.replace(spreading, members=(one,)))
    assert await held(stages, devices[0]) == [envelope.message]
    attached = await stages.attach(devices[0], await stages.shard())
    now_ms = stages.clock.now_ms()
    await stages.mailboxes.ack(
        devices[0].device_id, attached.epoch, [Ack(envelope.message, 1, 0)], now_ms
    )
    for _ in range(2):  # two workers may overlap
        await stages.spreader.resume(envelope.message, now_ms)
    assert [await held(stages, one) for one in devices] == [
        [],
        [envelope.message],
        [envelope.message],
    ]
    found = await status(stages, envelope.message)
    assert not found.spreading
    assert sorted(copy.state for copy in found.copies) == ["accepted", "accepted", "delivered"]


async def test_a_worker_runs_the_timer_of_a_message_that_was_cut_short(
    fresh_store_url: str,
) -> None:
    async with opened_store(fresh_store_url) as store:
        stages = Stages(store)
        device = await of_user(stages)
        envelope = an_envelope(stages)
        await stages.casts.begin_cast(envelope)
        partition = USER.partition(stages.project)
        await stages.leases.partition_acquire(partition, "w", 60_000)
        assert await stages.timers.due(partition, "w", stages.clock.now_ms(), 100) == []
        stages.clock.ahead_ms = 20_000
        await stages.redelivery.run_once(partition, "w")
        assert await held(stages, device) == [envelope.message]
        kinds = [kind for kind, _ in await stages.timers.due(partition, "w", 2**45, 100)]
        assert "spread" not in kinds


async def test_a_scheduled_message_goes_to_the_devices_that_are_the_users_when_it_is_due(
    stages: Stages,
) -> None:
    device = await of_user(stages)
    due_ms = stages.clock.now_ms() + 3_600_000
    message = await stages.caster.cast(stages.project, casting(send_at_ms=due_ms))
    found = await status(stages, message)
    assert (found.timeline[0].event, found.copies, found.is_done(0)) == (Event.SCHEDULED, (), False)
    later = await of_user(stages)
    await stages.registration.unregister(stages.project, device.device_id)
    stages.clock.ahead_ms = 3_600_001
    await stages.spreader.resume(message, stages.clock.now_ms())
    assert await held(stages, later) == [message]
    assert await states(stages, message) == {later.device_id: Event.ACCEPTED}


async def test_a_scheduled_message_to_nobody_is_dropped_when_it_is_due(stages: Stages) -> None:
    due_ms = stages.clock.now_ms() + 1000
    message = await stages.caster.cast(stages.project, casting(send_at_ms=due_ms))
    await stages.spreader.resume(message, due_ms)
    found = await status(stages, message)
    assert (found.timeline[-1].event, found.timeline[-1].detail) == (Event.DROPPED, "no devices")
    assert found.is_done(0)
    await stages.spreader.resume(message, due_ms)
    assert len((await status(stages, message)).timeline) == 2


async def test_a_ttl_of_zero_reaches_who_is_connected_and_is_stored_for_nobody(
    stages: Stages,
) -> None:
    online, offline = [await of_user(stages) for _ in range(2)]
    shard = await stages.shard()
    await stages.attach(online, shard)
    message = await stages.caster.cast(stages.project, casting(ttl_ms=0))
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.seq, hint.message) == (0, message)
    assert (await states(stages, message))[offline.device_id] is Event.EXPIRED
    await stages.mailboxes.lapse(kept_as(message, online.device_id), stages.clock.now_ms())
    assert set((await states(stages, message)).values()) == {Event.EXPIRED}
    assert (await status(stages, message)).is_done(0)


async def test_a_device_that_changed_its_user_gets_nothing_of_the_one_before(
    stages: Stages,
) -> None:
    stays, leaves = [await of_user(stages) for _ in range(2)]
    listed = await stages.members.listed(stages.project, USER)
    assert listed is not None
    await stages.registration.update(stages.project, leaves.device_id, DeviceChanges(user="other"))
    # As if the list had not been put right: the entry of before.
    for member in listed:
        await stages.members.add_to_user(stages.project, UserName(USER.name), member, 0)
    message = await stages.caster.cast(stages.project, casting())
    assert await held(stages, leaves) == []
    assert await states(stages, message) == {stays.device_id: Event.ACCEPTED}
    listed = await stages.members.listed(stages.project, USER)
    assert listed is not None
    assert [member.device for member in listed] == [stays.device_id]


async def test_a_device_that_registers_anew_with_its_id_has_left_its_groups(
    stages: Stages,
) -> None:
    group = Audience(AudienceKind.GROUP, "g")
    groups = Groups(stages.members, os.urandom)
    stays, leaves = [await stages.register() for _ in range(2)]
    await groups.create(stages.project, GroupName("g"), [stays.token, leaves.token])
    await stages.registration.unregister(stages.project, leaves.device_id)
    stages.clock.ahead_ms = 5
    spec = DeviceSpec(platform="python", device_id=leaves.device_id)
    anew = await stages.registration.register(stages.project, spec)
    message = await stages.caster.cast(stages.project, casting(group))
    assert await states(stages, message) == {stays.device_id: Event.ACCEPTED}
    assert await held(stages, anew) == []
    assert await groups.devices(stages.project, GroupName("g")) == [stays.device_id]


async def test_an_idempotency_key_gives_the_first_message(stages: Stages) -> None:
    device = await of_user(stages)
    first = await stages.caster.cast(stages.project, casting(key="k"))
    assert await stages.caster.cast(stages.project, casting(key="k")) == first
    assert await held(stages, device) == [first]
    other = Casting(USER, casting().message, "k", "other")
    with pytest.raises(PushError) as caught:
        await stages.caster.cast(stages.project, other)
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED


@pytest.mark.parametrize(
    ("audience", "code"),
    [
        (Audience(AudienceKind.USER, "nobody"), ErrorCode.UNREGISTERED),
        (Audience(AudienceKind.GROUP, "none"), ErrorCode.NOT_FOUND),
        (Audience(AudienceKind.GROUP, "empty"), ErrorCode.UNREGISTERED),
    ],
)
async def test_what_reaches_nobody_is_refused(
    stages: Stages, audience: Audience, code: ErrorCode
) -> None:
    await Groups(stages.members, os.urandom).create(stages.project, GroupName("empty"), [])
    for attempt in (
        stages.caster.cast(stages.project, casting(audience)),
        stages.caster.check(stages.project, audience),
    ):
        with pytest.raises(PushError, match=f"message.{audience.kind}") as caught:
            await attempt
        assert caught.value.code is code


async def test_a_batch_keeps_its_order_and_refuses_each_for_itself(stages: Stages) -> None:
    device = await of_user(stages)
    nobody = casting(Audience(AudienceKind.USER, "nobody"))
    batch = [casting(), nobody, casting()]
    first, refused, last = await stages.caster.cast_batch(stages.project, batch)
    assert isinstance(refused, PushError)
    assert await held(stages, device) == [first, last]


async def test_the_outbox_tells_of_copies_by_the_messages_id(stages: Stages) -> None:
    device = await of_user(stages)
    message = await stages.caster.cast(stages.project, casting())
    partition = keys.outbox(Partition(device.token.split(".")[1]))
    entries = await stages.store.batch.call("XRANGE", partition, "-", "+")
    assert f"|{message}|{device.device_id}|accepted|" in repr(entries)
    assert f"{message}.{device.device_id}" not in repr(entries)


async def test_the_status_is_kept_as_long_as_a_mailbox_holds_a_copy(stages: Stages) -> None:
    device = await of_user(stages)
    retention_ms = stages.store.options.retention_ms
    message = await stages.caster.cast(stages.project, casting(ttl_ms=10 * retention_ms))

    async def left_ms() -> int:
        reply = await stages.store.batch.call("PTTL", keys.message(message))
        assert isinstance(reply, int)
        return reply

    async def looked_at() -> bool:
        partition = USER.partition(stages.project)
        name = f"keep:{message}"
        return await stages.store.batch.call("ZSCORE", keys.timers(partition), name) is not None

    assert await left_ms() <= 2 * retention_ms
    await stages.store.batch.call("PEXPIRE", keys.message(message), retention_ms)
    await stages.spreader.keep(message, stages.clock.now_ms())
    assert retention_ms < await left_ms() <= 2 * retention_ms
    assert await looked_at()
    attached = await stages.attach(device, await stages.shard())
    now_ms = stages.clock.now_ms()
    await stages.mailboxes.ack(device.device_id, attached.epoch, [Ack(message, 1, 0)], now_ms)
    await stages.spreader.keep(message, now_ms)
    assert not await looked_at()
    await stages.store.batch.call("DEL", keys.message(message))
    await stages.spreader.keep(message, now_ms)
    assert await left_ms() < 0


async def test_a_message_that_is_short_lived_needs_no_second_look(stages: Stages) -> None:
    await of_user(stages)
    message = await stages.caster.cast(stages.project, casting())
    timers = keys.timers(USER.partition(stages.project))
    assert await stages.store.batch.call("ZSCORE", timers, f"keep:{message}") is None


async def test_a_request_makes_a_bounded_number_of_copies(stages: Stages) -> None:
    devices = [await of_user(stages) for _ in range(2)]
    caster = Caster(
        stages.casts,
        stages.members,
        stages.spreader,
        stages.clock.now_ms,
        os.urandom,
        stages.sender.withdraw,
        max_copies=13,
    )
    later = casting(send_at_ms=stages.clock.now_ms() + 60_000)
    outcomes = await caster.cast_batch(stages.project, [later, *[casting()] * 6, casting(), later])
    refused = [one for one in outcomes if isinstance(one, PushError)]
    assert [isinstance(one, PushError) for one in outcomes] == [False] * 7 + [True] * 2
    assert {one.code for one in refused} == {ErrorCode.INVALID_ARGUMENT}
    assert {one.violations[0].field for one in refused} == {"message.user"}
    assert "13 devices" in refused[0].message
    assert [await held(stages, one) for one in devices] == [outcomes[1:7]] * 2
