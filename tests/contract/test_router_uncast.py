"""Cancelling messages to users and groups, against a real store: no copy is left behind."""

import pytest

from router.model.mailbox import Ack
from router.model.receipt import Event
from router.store.connection import Store
from tests.contract.cast_stage import an_envelope, casting, held, of_user, states, status
from tests.contract.router_stages import Stages


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def test_cancelling_takes_back_every_pending_copy_and_no_other(stages: Stages) -> None:
    done, waiting = [await of_user(stages) for _ in range(2)]
    message = await stages.caster.cast(stages.project, casting())
    epoch = (await stages.attach(done, await stages.shard())).epoch
    now_ms = stages.clock.now_ms()
    await stages.mailboxes.ack(done.device_id, epoch, [Ack(message, 1, 0)], now_ms)
    found = await stages.sender.cancel(stages.project, message)
    assert found is not None
    assert {copy.device: copy.state for copy in found.copies} == {
        done.device_id: Event.DELIVERED,
        waiting.device_id: Event.CANCELLED,
    }
    assert await held(stages, waiting) == []
    assert await stages.sender.cancel(type(stages.project)("p-other"), message) is None


async def test_a_copy_that_is_made_while_the_message_is_cancelled_is_taken_back(
    stages: Stages,
) -> None:
    device = await of_user(stages)
    envelope = an_envelope(stages)
    await stages.casts.begin_cast(envelope)
    now_ms = stages.clock.now_ms()
    spreading = await stages.casts.spread(envelope.message, now_ms)
    assert spreading is not None
    await stages.caster.cancel(stages.project, envelope.message)
    await stages.spreader.spread(spreading)
    assert await held(stages, device) == []
    assert await states(stages, envelope.message) == {device.device_id: Event.CANCELLED}
    assert await stages.casts.spread(envelope.message, now_ms) is None


async def test_a_worker_takes_back_what_was_cancelled_while_its_sender_died(
    stages: Stages,
) -> None:
    device = await of_user(stages)
    envelope = an_envelope(stages)
    await stages.casts.begin_cast(envelope)
    spreading = await stages.casts.spread(envelope.message, stages.clock.now_ms())
    assert spreading is not None
    await stages.caster.cancel(stages.project, envelope.message)
    await stages.spreader._put(spreading)  # and then it died
    await stages.spreader.resume(envelope.message, stages.clock.now_ms())
    assert await held(stages, device) == []
    assert not (await status(stages, envelope.message)).spreading


async def test_a_scheduled_message_can_be_cancelled(stages: Stages) -> None:
    device = await of_user(stages)
    due_ms = stages.clock.now_ms() + 1000
    message = await stages.caster.cast(stages.project, casting(send_at_ms=due_ms))
    found = await stages.caster.cancel(stages.project, message)
    assert found is not None
    assert (found.timeline[-1].event, found.is_done(0)) == (Event.CANCELLED, True)
    await stages.spreader.resume(message, due_ms)
    assert await held(stages, device) == []
