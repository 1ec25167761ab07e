"""The engine of bridges under faults: nothing is lost, and doubled only what may not have gone."""

import asyncio
import statistics
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.model.ids import MessageId
from router.model.message import Priority
from router.model.push import push_uuid
from router.policy.apns_token import TOKEN_S
from router.policy.breaker import PROBES
from tests.contract.bridge_stage import BridgeStage, bridge_stage
from tests.support.providers import faults
from tests.support.providers.faults import Fault
from tests.support.valkey import running_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

REFUSED_UNREAD = (faults.GOAWAY_UNREAD, faults.GOAWAY_READ, faults.REFUSE)


@pytest.fixture(scope="module")
def own_store() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture
async def stage(own_store: str, tmp_path: Path) -> AsyncIterator[BridgeStage]:
    async with bridge_stage(own_store, tmp_path, bridge_timeout_s=3.0) as made:
        yield made


async def sent(stage: BridgeStage, bridge: str, count: int, **fields: Any) -> list[MessageId]:
    """Send to so many devices."""
    devices = [await stage.device(bridge) for _ in range(count)]
    fields.setdefault("ttl_ms", 86_400_000)
    messages = [await stage.send(device, **fields) for device in devices]
    await stage.due(*messages)
    return messages


async def bridged(stage: BridgeStage, messages: list[MessageId]) -> int:
    """Count those that a provider took."""
    found = [await stage.events(message) for message in messages]
    return sum(any(event.startswith("bridged") for event in events) for events in found)


async def drained(stage: BridgeStage, messages: list[MessageId], rounds: int = 12) -> None:
    """Let time pass until all are bridged."""
    for _ in range(rounds):
        await stage.until_settled()
        if await bridged(stage, messages) == len(messages):
            return
        await stage.pass_time(40)
    raise AssertionError(f"{await bridged(stage, messages)} of {len(messages)}")


@pytest.mark.parametrize("fault", REFUSED_UNREAD, ids=lambda fault: fault.kind.name)
async def test_what_was_not_looked_at_goes_again_at_once_and_nothing_twice(
    stage: BridgeStage, fault: Fault
) -> None:
    messages: list[MessageId] = []
    # One after the other: who meets both, and the end of a connection in between, is out of tries.
    for _ in range(2):
        stage.providers.apns.faults.then(*[None] * 40, fault)
        messages += await sent(stage, "apns", 60)
        await stage.until_settled()
    assert await bridged(stage, messages) == 120
    assert set(stage.providers.apns.ids.values()) == {1}
    assert len(stage.providers.apns.ids) == 120
    assert await stage.attempts(messages[0]) == 0


@pytest.mark.parametrize("fault", [faults.CUT_READ, faults.CUT_UNREAD, faults.NEVER],
                         ids=lambda fault: fault.kind.name)  # fmt: skip
@pytest.mark.parametrize("bridge", ["apns", "fcm", "webpush"])
async def test_what_is_of_unknown_outcome_goes_again_with_the_same_id(
    stage: BridgeStage, bridge: str, fault: Fault
) -> None:
    provider = getattr(stage.providers, "web" if bridge == "webpush" else bridge)
    provider.faults.then(*[None] * 10, fault, *[None] * 10, fault)
    messages = await sent(stage, bridge, 40)
    await drained(stage, messages)
    ids = identities(stage, bridge)
    assert len(ids) == 40
    assert max(ids.values()) <= 3, "each of the two faults costs a push one more, at most"
    for message in messages:
        times = ids[identity(await stage.status_device(message), message, bridge)]
        # One that failed as a probe of the breaker has not used up a try, but it is told.
        assert times - 1 <= len(await stage.tries(message))
        assert await stage.attempts(message) <= 2
    if fault is not faults.CUT_UNREAD:
        assert ids.total() > 40


def identities(stage: BridgeStage, bridge: str) -> Counter[str]:
    """What each push that was taken is known by."""
    if bridge == "apns":
        return stage.providers.apns.ids
    if bridge == "fcm":
        return Counter(push.message["data"]["pushwire_id"] for push in stage.providers.fcm.taken)
    return Counter(push.payload["pushwire_id"] for push in stage.providers.web.taken)


def identity(device: Any, message: MessageId, bridge: str) -> str:
    return push_uuid(message, device) if bridge == "apns" else message


async def test_a_slow_answer_is_waited_for(stage: BridgeStage) -> None:
    stage.providers.apns.faults.always = faults.slow(0.3)
    messages = await sent(stage, "apns", 20)
    await stage.until_settled()
    assert await bridged(stage, messages) == 20
    assert set(stage.providers.apns.ids.values()) == {1}


async def test_while_a_provider_is_down_the_backlog_stays_and_then_goes_by_priority(
    stage: BridgeStage,
) -> None:
    stage.providers.apns.faults.always = faults.answer(503, "ServiceUnavailable")
    first = await sent(stage, "apns", 10)
    await stage.until_settled()
    assert stage.metric("pushwire_bridge_pushes_total", bridge="apns", outcome="retry") <= 10
    low = await sent(stage, "apns", 20, priority=Priority.LOW)
    expiring = await sent(stage, "apns", 5, ttl_ms=1_800_000, priority=Priority.CRITICAL)
    normal = await sent(stage, "apns", 20)
    critical = await sent(stage, "apns", 20, priority=Priority.CRITICAL)
    for _ in range(30):
        await stage.pass_time(120)
        await stage.until_settled()
    asked = stage.providers.apns.refused["ServiceUnavailable"]
    assert asked <= 10 + 31 * PROBES, "only probes go while it is down"
    for message in [*first, *low, *normal, *critical]:
        assert await stage.events(message) == ["accepted"]
        assert await stage.attempts(message) <= 1, "probes do not count"
    stage.providers.apns.faults.always = None
    await drained(stage, [*first, *low, *normal, *critical])
    assert not await bridged(stage, expiring)
    order = [push.payload["pushwire_id"] for push in stage.providers.apns.taken]
    place = {name: index for index, name in enumerate(order)}
    # Pushes that were used as probes wait for their next try, so a few come later.
    means = [statistics.mean(map(place.__getitem__, some)) for some in (critical, normal, low)]
    assert means == sorted(means)
    assert sum(place[message] < 30 for message in critical) >= 12
    assert sum(place[message] >= 40 for message in low) >= 12


async def test_nobody_listening_opens_the_breaker_and_loses_nothing(stage: BridgeStage) -> None:
    await stage.setup("apns", endpoint="https://127.0.0.1:1")
    messages = await sent(stage, "apns", 30)
    await stage.until_settled()
    assert await bridged(stage, messages) == 0
    await stage.setup("apns")
    await drained(stage, messages)
    assert set(stage.providers.apns.ids.values()) == {1}


@pytest.mark.parametrize("fault", [faults.CUT_READ, faults.CUT_UNREAD],
                         ids=lambda fault: fault.kind.name)  # fmt: skip
async def test_a_provider_that_cuts_every_connection_uses_up_no_tries(
    stage: BridgeStage, fault: Fault
) -> None:
    stage.providers.apns.faults.always = fault
    messages = await sent(stage, "apns", 10)
    for _ in range(8):
        await stage.until_settled()
        await stage.pass_time(120)
    for message in messages:
        assert await stage.events(message) == ["accepted"]
        assert await stage.attempts(message) <= 1
    stage.providers.apns.faults.always = None
    await drained(stage, messages)


async def test_a_token_that_was_begun_late_in_its_time_is_kept_as_long_as_apple_wants(
    stage: BridgeStage,
) -> None:
    pass_next_s = TOKEN_S + 61 - stage.clock.now_ms() // 1000 % TOKEN_S
    await stage.pass_time(pass_next_s + TOKEN_S - 120)
    for _ in range(15):
        await stage.until(await stage.push("apns"), "bridged")
        await stage.pass_time(120)
    assert not stage.providers.apns.refused


async def test_one_projects_dead_provider_does_not_hold_up_anothers(
    own_store: str, tmp_path: Path
) -> None:
    async with bridge_stage(
        own_store, tmp_path, bridge_timeout_s=30.0, bridge_concurrency=40
    ) as stage:
        stage.providers.apns.faults.always = faults.NEVER
        await sent(stage, "apns", 100)
        await eventually(lambda: len(stage.providers.apns.taken) >= 20)
        message = await stage.push("fcm")
        await stage.until(message, "bridged")


async def test_no_more_is_under_way_than_the_settings_say_and_memory_stays_flat(
    own_store: str, tmp_path: Path
) -> None:
    async with bridge_stage(
        own_store, tmp_path, bridge_timeout_s=60.0, bridge_project_concurrency=50
    ) as stage:
        stage.providers.apns.faults.always = faults.NEVER
        await sent(stage, "apns", 100)
        await eventually(lambda: len(stage.providers.apns.taken) == 50)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await sent(stage, "apns", 1000)
        await asyncio.sleep(0)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(stage.providers.apns.taken) == 50
        assert len(stage.engine.dispatch._held) == 50
        assert after - before < 1000 * 400, "a thousand jobs that wait cost the worker nothing"


async def test_a_device_gets_no_more_than_its_provider_allows(stage: BridgeStage) -> None:
    device = await stage.device("fcm")
    messages = [await stage.send(device) for _ in range(100)]
    await stage.due(*messages)
    await stage.until_settled()
    assert 60 <= len(stage.providers.fcm.taken) <= 75
    await drained(stage, messages)
    assert await stage.attempts(messages[-1]) == 0


async def test_a_provider_that_limits_a_device_is_heeded_for_all_its_messages(
    stage: BridgeStage,
) -> None:
    device = await stage.device("apns")
    limited = faults.answer(429, "TooManyRequests", retry_after="60")
    stage.providers.apns.faults.then(limited)
    first = await stage.send(device)
    await stage.due(first)
    await stage.until_settled()
    second = await stage.send(device)
    await stage.due(second)
    await stage.until_settled()
    assert stage.providers.apns.refused["TooManyRequests"] == 1
    assert await stage.tries(second) == ["the device's rate"]
    other = await stage.push("apns")
    await stage.until(other, "bridged")
    await drained(stage, [first, second])


async def test_a_message_without_a_mailbox_ends_with_its_push(stage: BridgeStage) -> None:
    message = await stage.push("apns", only=True)
    await stage.until(message, "bridged")
    assert (await stage.status(message)).state.value == "bridged"
    stage.providers.apns.faults.then(faults.answer(400, "BadCollapseId"))
    refused = await stage.push("apns", only=True)
    await stage.until(refused, "failed")
    assert (await stage.status(refused)).state.value == "failed"


async def test_now_or_never_is_pushed_now_or_given_up(stage: BridgeStage) -> None:
    message = await stage.push("apns", ttl_ms=0)
    await stage.until(message, "bridged")
    assert stage.providers.apns.taken[0].headers["apns-expiration"] == "0"
    stage.providers.apns.faults.then(faults.answer(503, "ServiceUnavailable", retry_after="20"))
    late = await stage.push("apns", ttl_ms=0)
    await stage.until(late, "failed")


async def test_a_removed_bridge_ends_its_pushes(stage: BridgeStage) -> None:
    device = await stage.device("apns")
    assert await stage.kept.remove(stage.project, "apns")
    await stage.look_anew()
    message = await stage.send(device)
    await stage.due(message)
    events = await stage.until(message, "failed")
    assert events[-1] == "failed: the project has no bridge apns"


async def test_what_is_under_way_when_a_worker_stops_is_tried_again_with_the_same_id(
    own_store: str, tmp_path: Path
) -> None:
    async with bridge_stage(own_store, tmp_path, bridge_timeout_s=60.0) as stage:
        stage.providers.apns.faults.then(faults.NEVER)
        message = await stage.push("apns")
        await eventually(lambda: len(stage.providers.apns.taken) == 1)
        await stage.restart()
        await stage.pass_time(1)
        await stage.until(message, "bridged")
        assert set(stage.providers.apns.ids.values()) == {2}
        assert await stage.attempts(message) == 0


async def test_the_store_away_loses_no_result(tmp_path: Path) -> None:
    with running_server() as server:
        async with bridge_stage(server.url, tmp_path) as stage:
            stage.providers.apns.faults.always = faults.slow(0.4)
            messages = await sent(stage, "apns", 20)
            await eventually(lambda: len(stage.providers.apns.taken) == 20)
            server.pause()
            await asyncio.sleep(1.0)
            server.resume()
            await stage.until_settled()
            assert await bridged(stage, messages) == 20
            assert set(stage.providers.apns.ids.values()) == {1}


async def test_a_device_that_names_a_private_host_loses_its_bridge(
    own_store: str, tmp_path: Path
) -> None:
    async with bridge_stage(
        own_store, tmp_path, bridges=["apns"], callback_allow_private=False
    ) as stage:
        await stage.setup("webpush", endpoint="", ca="")
        device = await stage.device("webpush")
        message = await stage.send(device)
        await stage.due(message)
        events = await stage.until(message, "failed")
        assert "its addresses are not public" in events[-1]
        assert not stage.providers.web.taken
        assert not await stage.has_bridge(device)
