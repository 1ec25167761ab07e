"""The lanes of an inbox: what is urgent overtakes what is queued, and order within a lane stays."""

import asyncio
from collections.abc import Sequence

from gateway.shard.inbox import read_inbox
from router.model.hint import AnyHint, Deliver
from router.model.ids import DeviceId, MessageId
from router.model.lane import Lane
from router.model.message import Message, Priority
from tests.support.waiting import eventually
from tests.unit.shard.parts import Parts

BULK = 100_000
ENTRY = 250
_LAST_FIRST = (Priority.NORMAL, Priority.HIGH, Priority.CRITICAL)


def bulk(lane: Lane) -> list[Deliver]:
    """An entry of messages to devices that are not here: the work is to be done all the same."""
    return [
        Deliver(DeviceId(f"{n:016}"), 1, 1, MessageId("bulk"), 1 << 60, b"f" * 100, lane)
        for n in range(ENTRY)
    ]


async def test_a_critical_message_overtakes_a_full_inbox(parts: Parts) -> None:
    """One of the bulk's own priority does not: order tells, not time."""
    stages, dispatch = parts.stages, parts.registry.dispatch
    arrived: list[str] = []
    done = 0

    def watch(hints: Sequence[AnyHint]) -> None:
        nonlocal done
        for hint in hints:
            if isinstance(hint, Deliver) and hint.message == "bulk":
                done += 1
            elif isinstance(hint, Deliver):
                arrived.append(f"{hint.lane.label} {done}")
        dispatch(hints)

    parts.registry.dispatch = watch  # type: ignore[method-assign, assignment]
    devices = [await parts.device() for _ in _LAST_FIRST]
    for _ in range(BULK // ENTRY):
        await stages.inboxes.append(parts.shard, bulk(Lane.NORMAL))

    async def send(priority: Priority, number: int) -> MessageId:
        message = Message(token=devices[number][0].token, priority=priority, ttl_ms=60_000)
        return await stages.sender.send(stages.project, message)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(
            read_inbox(stages.inboxes, parts.registry, stages.metrics, stages.clock.now_ms)
        )
        await eventually(lambda: done > 0)
        sent = [await send(priority, at) for at, priority in enumerate(_LAST_FIRST)]
        await eventually(lambda: len(arrived) == len(_LAST_FIRST))
        reading.cancel()
    at = {name: int(count) for name, count in (one.split() for one in arrived)}
    assert at["critical"] < BULK // 4
    assert at["high"] < BULK // 4
    assert at["normal"] == BULK, "its lane is read in order"
    for (_, socket), message in zip(devices, sent, strict=True):
        assert socket.messages() == [message]


async def test_order_of_one_mailbox_holds_whatever_overtakes(parts: Parts) -> None:
    """The hint of the last message comes first: the session reads those before it."""
    stages = parts.stages
    device, socket = await parts.device()
    priorities = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.CRITICAL]
    sent = [
        await stages.sender.send(
            stages.project, Message(token=device.token, priority=priority, ttl_ms=60_000)
        )
        for priority in priorities
    ]
    await stages.routing.flush()
    for lane in Lane:
        async for _, hints in stages.inboxes.reader(parts.shard, lane):
            parts.registry.dispatch(hints)
            break
    await eventually(lambda: len(socket.messages()) == len(sent))
    assert socket.messages() == sent
