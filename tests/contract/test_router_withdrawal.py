"""A send answered with 503 accepted nothing, whatever the store had done by then."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from router.cast import Casting
from router.model.audience import Audience, AudienceKind
from router.model.errors import StoreOutcomeUnknownError, StoreUnavailableError
from router.model.hint import Deliver, Hint, Route, Wake
from router.model.ids import DeviceId, MessageId
from router.model.message import Message
from router.registration import DeviceSpec
from router.routing import MAX_ENTRY, Routing
from router.send import Item, Sender
from router.store import keys
from router.store.connection import StoreOptions
from tests.contract.router_stages import Stages, to
from tests.support.valkey import Server, make_store, running_server
from tests.support.waiting import eventually


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def stages(server: Server) -> AsyncIterator[Stages]:
    async with make_store(StoreOptions(url=server.url, deadline_s=0.2)) as store:
        yield Stages(store)


@asynccontextmanager
async def withdrawing(sender: Sender) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(sender.run())
        yield
        task.cancel()


async def test_a_message_of_unknown_outcome_is_withdrawn(stages: Stages, server: Server) -> None:
    device = await stages.register()
    async with withdrawing(stages.sender):
        server.pause()
        with pytest.raises(StoreOutcomeUnknownError):
            await stages.sender.send(stages.project, to(device))
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="retried") > 0)
        server.resume()
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="done") == 1)
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 0


async def test_a_message_with_an_idempotency_key_stays_for_its_repeat(
    stages: Stages, server: Server
) -> None:
    device = await stages.register()
    async with withdrawing(stages.sender):
        server.pause()
        with pytest.raises(StoreUnavailableError):
            await stages.sender.send(stages.project, to(device), idempotency_key="k", digest="d")
        server.resume()
        await eventually(lambda: stages.store.connected)
        sent = await stages.sender.send(stages.project, to(device), idempotency_key="k", digest="d")
    assert await stages.events(sent) == ["accepted"]
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 1


async def test_a_message_to_a_user_of_unknown_outcome_is_withdrawn(
    stages: Stages, server: Server
) -> None:
    spec = DeviceSpec(platform="python", user="anna")
    device = await stages.registration.register(stages.project, spec)
    audience = Audience(AudienceKind.USER, "anna")
    casting = Casting(audience, Message(token="", audience=audience, data={"k": "v"}))
    async with withdrawing(stages.sender):
        server.pause()
        with pytest.raises(StoreOutcomeUnknownError):
            await stages.caster.cast(stages.project, casting)
        server.resume()
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="done") == 1)
    timers = keys.timers(audience.partition(stages.project))
    names = await stages.store.batch.call("ZRANGE", timers, 0, -1)
    assert isinstance(names, list)
    for name in names:
        assert isinstance(name, bytes)
        await stages.spreader.resume(name.decode().partition(":")[2], stages.clock.now_ms())
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 0


async def test_a_batch_answers_503_for_each_item(stages: Stages, server: Server) -> None:
    device = await stages.register()
    async with withdrawing(stages.sender):
        server.pause()
        results = await stages.sender.send_batch(stages.project, [Item(to(device))] * 3)
        assert [type(result) for result in results] == [StoreOutcomeUnknownError] * 3
        server.resume()
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="done") == 3)
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 0


async def test_hints_are_dropped_not_kept_while_the_store_is_away(
    stages: Stages, server: Server
) -> None:
    device, shard = await stages.register(), await stages.shard()
    server.pause()
    for _ in range(3):
        stages.routing.hint(Route(shard, 1), Wake(device.device_id, 1))
    await stages.routing.flush()
    server.resume()
    assert stages.count("pushwire_hints_dropped_total", reason="store") == 3


async def test_where_too_many_messages_wait_their_devices_are_woken(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    routing = Routing(stages.inboxes, stages.metrics, limit=2)
    messages = [
        Deliver(device.device_id, 1, seq, MessageId(f"m{seq}"), 10, b"frame") for seq in range(1, 7)
    ]
    for message in messages:
        routing.hint(Route(shard, 1), message)
    await routing.flush()
    assert stages.count("pushwire_hints_dropped_total", reason="shortened") == 4
    assert await stages.inbox(shard) == [*messages[:2], Wake(device.device_id, 1)]


async def test_a_full_buffer_drops_what_cannot_be_shortened(stages: Stages) -> None:
    shard = await stages.shard()
    routing = Routing(stages.inboxes, stages.metrics, limit=2)
    live = [Deliver(DeviceId(f"d{n}"), 1, 0, MessageId(f"m{n}"), 10, b"") for n in range(3)]
    wakes = [Wake(DeviceId(f"d{n}"), 1) for n in range(3)]
    hints: list[Hint] = [*live, *wakes]
    for hint in hints:
        routing.hint(Route(shard, 1), hint)
    await routing.flush()
    assert stages.count("pushwire_hints_dropped_total", reason="full") == 2
    assert await stages.inbox(shard) == [*live[:2], *wakes[:2]]


async def test_many_hints_leave_together_and_in_order(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    sent = [Wake(device.device_id, epoch) for epoch in range(3 * MAX_ENTRY + 1)]
    for hint in sent:
        stages.routing.hint(Route(shard, 1), hint)
    assert await stages.inbox(shard) == sent


async def test_what_cannot_be_withdrawn_does_not_stop_the_others(
    stages: Stages, server: Server
) -> None:
    broken, sound = await stages.register(), await stages.register()
    async with withdrawing(stages.sender):
        server.pause()
        items = [Item(to(device)) for device in (broken, sound)]
        await stages.sender.send_batch(stages.project, items)
        spoil = stages.store.batch.call(
            "SET", keys.index(broken.device_id), "not a sorted set", deadline_s=5.0
        )
        server.resume()
        await spoil
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="done") == 1)
    assert stages.count("pushwire_withdrawals_total", result="failed") == 1


async def test_the_oldest_doubt_goes_when_too_many_wait(stages: Stages, server: Server) -> None:
    device = await stages.register()
    sender = Sender(
        stages.mailboxes,
        stages.routing,
        stages.metrics,
        stages.clock.now_ms,
        os.urandom,
        max_withdrawals=2,
    )
    server.pause()
    await sender.send_batch(stages.project, [Item(to(device))] * 3)
    server.resume()
    assert stages.count("pushwire_withdrawals_total", result="dropped") == 1
    async with withdrawing(sender):
        await eventually(lambda: stages.count("pushwire_withdrawals_total", result="done") == 2)
