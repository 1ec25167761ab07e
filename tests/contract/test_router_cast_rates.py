"""Copies of messages to users and groups pay at their devices, against a real store."""

import asyncio
import os

import pytest

from router.cast import Casting
from router.groups import Groups
from router.model.audience import Audience, AudienceKind
from router.model.errors import PushError, QuotaExceededError
from router.model.hint import Deliver
from router.model.ids import GroupName, MessageId
from router.model.limits import Rate
from router.model.message import Message
from router.model.status import MessageStatus
from router.registration import Registered
from router.send import Item
from router.store.connection import Store
from tests.contract.cast_stage import USER, held, of_user, status
from tests.contract.router_stages import Stages, to

GROUP = Audience(AudienceKind.GROUP, "g")
# So slow that no test sees it fill.
RATE = Rate(1e-6, 2.0)


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


def paying(audience: Audience = USER, *, ttl_ms: int = 60_000, send_at_ms: int = 0) -> Casting:
    message = Message(
        token="", audience=audience, data={"k": "v"}, ttl_ms=ttl_ms, send_at_ms=send_at_ms or None
    )
    return Casting(audience, message, rate=RATE)


def of(found: MessageStatus, device: Registered) -> list[tuple[str, str]]:
    (copy,) = [copy for copy in found.copies if copy.device == device.device_id]
    return [(entry.event.value, entry.detail) for entry in copy.timeline]


async def cast(stages: Stages, casting: Casting) -> MessageId:
    return await stages.caster.cast(stages.project, casting)


async def test_copies_pay_as_messages_to_the_token_do(stages: Stages) -> None:
    device, other = [await of_user(stages) for _ in range(2)]
    groups = Groups(stages.members, os.urandom)
    await groups.create(stages.project, GroupName(GROUP.name), [device.token])
    shard = await stages.shard()
    await stages.attach(device, shard)
    taken = [await cast(stages, paying()), await cast(stages, paying(GROUP))]
    refused = await cast(stages, paying())
    hints = [one.message for one in await stages.inbox(shard) if isinstance(one, Deliver)]
    assert hints == taken
    found = await status(stages, refused)
    assert of(found, device) == [("accepted", ""), ("dropped", "device rate")]
    # The group is not the other's, so that has room still.
    assert of(found, other) == [("accepted", "")]
    assert await held(stages, other) == [taken[0], refused]
    assert stages.count("pushwire_limit_refusals_total", limit="device") == 1
    with pytest.raises(QuotaExceededError):
        await stages.sender.send_item(stages.project, Item(to(device), rate=RATE))


async def test_a_copy_that_a_device_did_not_take_stays_away_when_it_is_made_again(
    stages: Stages,
) -> None:
    device = await of_user(stages)
    shard = await stages.shard()
    await stages.attach(device, shard)
    taken = [await cast(stages, paying()) for _ in range(2)]
    envelope = stages.caster._envelope(stages.project, paying())
    await stages.casts.begin_cast(envelope)
    spreading = await stages.casts.spread(envelope.message, stages.clock.now_ms())
    assert spreading is not None
    await stages.spreader._put(spreading)  # and the process died
    # By then the device has room again.
    await stages.store.batch.call(
        "HDEL", f"{{{device.token.split('.')[1]}}}:d:{device.device_id}", "rt"
    )
    await stages.spreader.resume(envelope.message, stages.clock.now_ms())
    assert await held(stages, device) == taken
    hints = [one.message for one in await stages.inbox(shard) if isinstance(one, Deliver)]
    assert hints == taken
    found = await status(stages, envelope.message)
    assert of(found, device) == [("accepted", ""), ("dropped", "device rate")]


async def test_a_scheduled_message_pays_when_its_copies_are_made(stages: Stages) -> None:
    device = await of_user(stages)
    later_ms = stages.clock.now_ms() + 60_000
    scheduled = [await cast(stages, paying(send_at_ms=later_ms)) for _ in range(2)]
    now = await cast(stages, paying())
    for one in scheduled:
        await stages.spreader.resume(one, later_ms)
    assert await held(stages, device) == [now, scheduled[0]]
    assert of(await status(stages, scheduled[1]), device)[-1] == ("dropped", "device rate")


async def test_now_or_never_pays_too(stages: Stages) -> None:
    device = await of_user(stages)
    shard = await stages.shard()
    await stages.attach(device, shard)
    sent = [await cast(stages, paying(ttl_ms=0)) for _ in range(3)]
    hints = [one.message for one in await stages.inbox(shard) if isinstance(one, Deliver)]
    assert hints == sent[:2]
    assert of(await status(stages, sent[2]), device)[-1] == ("dropped", "device rate")


async def test_many_at_once_take_no_more_than_the_bucket_holds(stages: Stages) -> None:
    device = await of_user(stages)
    outcomes = await asyncio.gather(
        *(stages.caster.cast_batch(stages.project, [paying()] * 3) for _ in range(3))
    )
    assert not any(isinstance(one, PushError) for outcome in outcomes for one in outcome)
    assert len(await held(stages, device)) == 2
