"""Every documented answer of a provider has its consequence: receipts, tries, dead letters, device.

Over a real store and the strict providers, by the tables of the bridges.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from typing_extensions import override

from router.bridge import (
    AnyBridge,
    BadAddress,
    Misconfigured,
    Outcome,
    Reauthorize,
    Rejected,
    Request,
    RetryAfter,
    Scope,
    Unregistered,
)
from router.bridges import apns, fcm, webpush
from router.bridging.letters import endpoint_of
from router.model.errors import ErrorCode, PushError
from router.policy.push_retry import ATTEMPTS
from tests.contract.bridge_stage import BridgeStage, bridge_stage
from tests.support.providers import faults
from tests.support.providers.apns import STATUS_OF as APNS_STATUS
from tests.support.providers.faults import Fault
from tests.support.valkey import running_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_store() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture
async def stage(own_store: str, tmp_path: Path) -> AsyncIterator[BridgeStage]:
    async with bridge_stage(own_store, tmp_path) as made:
        yield made


@pytest.mark.parametrize("bridge", ["apns", "fcm", "webpush"])
async def test_what_a_provider_takes_is_bridged_and_waits_for_the_devices_ack(
    stage: BridgeStage, bridge: str
) -> None:
    message = await stage.push(bridge)
    events = await stage.until(message, "bridged")
    assert events[0] == "accepted"
    assert events[1].startswith("bridged")
    taken = {
        "apns": len(stage.providers.apns.taken),
        "fcm": len(stage.providers.fcm.taken),
        "webpush": len(stage.providers.web.taken),
    }
    assert taken.pop(bridge) == 1
    assert set(taken.values()) == {0}
    assert stage.metric("pushwire_bridge_pushes_total", bridge=bridge, outcome="delivered") == 1
    await stage.pass_time(3600)
    await stage.until_settled()
    assert len(stage.providers.apns.taken) <= 1


async def check(stage: BridgeStage, bridge: str, fault: Fault, outcome: Outcome) -> None:
    """Let a push meet an answer, and look at what came of it."""
    device = await stage.device(bridge)
    stage.providers.faults(bridge).then(fault)
    message = await stage.send(device)
    await stage.due(message)
    await stage.until_settled()
    events, tries = await stage.events(message), await stage.tries(message)
    dead, has_bridge = await stage.dead(bridge), await stage.has_bridge(device)
    suspended = await stage.suspended(bridge)
    match outcome:
        case Unregistered() | BadAddress():
            assert events == ["accepted", f"failed: {outcome.reason}"]
            assert (tries, len(dead), has_bridge, suspended) == ([], 0, False, {})
        case RetryAfter():
            assert events == ["accepted"]
            assert tries == [outcome.reason]
            assert await stage.attempts(message) == 1
            assert (len(dead), has_bridge, suspended) == (0, True, {})
            await stage.pass_time(max(10.0, outcome.after_s + 1))
            assert (await stage.until(message, "bridged"))[1].startswith("bridged")
        case Rejected() | Misconfigured(suspend=False):
            assert events == ["accepted", f"failed: rejected: {outcome.reason}"]
            assert (tries, len(dead), has_bridge, suspended) == ([], 1, True, {})
            assert dead[0].reason == "rejected"
            assert dead[0].history[-1].error == outcome.reason
        case Misconfigured() | Reauthorize():
            assert events == ["accepted"]
            assert await stage.attempts(message) == 0
            assert (len(dead), has_bridge) == (0, True)
            assert [each.reason for each in suspended.values()] == [outcome.reason]
            assert stage.metric("pushwire_bridge_suspensions_total", bridge=bridge) == 1
        case _:
            raise AssertionError(outcome)


@pytest.mark.parametrize("reason", sorted(APNS_STATUS))
async def test_each_reason_of_apns_has_its_consequence(stage: BridgeStage, reason: str) -> None:
    fault = faults.answer(APNS_STATUS[reason], reason)
    await check(stage, "apns", fault, apns.REASONS[reason])


def test_the_provider_knows_every_reason_of_the_table() -> None:
    assert APNS_STATUS.keys() == apns.REASONS.keys()


@pytest.mark.parametrize("code", sorted(fcm.CODES))
async def test_each_error_code_of_fcm_has_its_consequence(stage: BridgeStage, code: str) -> None:
    await check(stage, "fcm", faults.answer(0, code), fcm.CODES[code])


@pytest.mark.parametrize("status", sorted(set(fcm.STATUSES) - {"UNAUTHENTICATED"}))
async def test_each_status_of_googles_front_has_its_consequence(
    stage: BridgeStage, status: str
) -> None:
    body = b'{"error":{"code":500,"message":"","status":"%b"}}' % status.encode()
    fault = faults.answer(500, "INTERNAL", body=body)
    await check(stage, "fcm", fault, fcm.STATUSES[status])


@pytest.mark.parametrize("status", sorted(webpush.STATUSES))
async def test_each_status_of_push_services_has_its_consequence(
    stage: BridgeStage, status: int
) -> None:
    await check(stage, "webpush", faults.answer(status, body=b""), webpush.STATUSES[status])


@pytest.mark.parametrize("reason", sorted(webpush.REASONS))
async def test_each_reason_of_apples_push_service_has_its_consequence(
    stage: BridgeStage, reason: str
) -> None:
    await check(stage, "webpush", faults.answer(403, reason), webpush.REASONS[reason])


@pytest.mark.parametrize("bridge", ["apns", "fcm", "webpush"])
@pytest.mark.parametrize("status", [302, 418, 500, 502, 503])
async def test_an_undocumented_status_is_never_a_success(
    stage: BridgeStage, bridge: str, status: int
) -> None:
    retried = status >= 500
    outcome = RetryAfter(str(status), 0.0, Scope.AUDIENCE) if retried else Rejected(str(status))
    await check(stage, bridge, faults.answer(status, body=b"<html>"), outcome)


@pytest.mark.parametrize("bridge", ["apns", "fcm", "webpush"])
@pytest.mark.parametrize(("status", "reason"), [(429, "TooManyRequests"), (503, "")])
async def test_retry_after_is_heeded(
    stage: BridgeStage, bridge: str, status: int, reason: str
) -> None:
    provider = getattr(stage.providers, "web" if bridge == "webpush" else bridge)
    body = b'{"reason":"%b"}' % reason.encode()
    provider.faults.then(faults.answer(status, "x", body=body, retry_after="120"))
    message = await stage.push(bridge)
    await stage.until_settled()
    await stage.pass_time(119)
    await stage.until_settled()
    assert await stage.events(message) == ["accepted"]
    await stage.pass_time(4)
    await stage.until(message, "bridged")


@pytest.mark.parametrize("bridge", ["apns", "fcm", "webpush"])
async def test_after_five_attempts_a_push_is_a_dead_letter_with_its_history(
    stage: BridgeStage, bridge: str
) -> None:
    provider = getattr(stage.providers, "web" if bridge == "webpush" else bridge)
    body = b'{"error":{"status":"INTERNAL"},"reason":"Shutdown"}'
    provider.faults.always = faults.answer(500, "x", body=body)
    message = await stage.push(bridge)
    for attempt in range(1, ATTEMPTS):
        await stage.until_settled()
        assert await stage.attempts(message) == attempt
        # The breaker may be open for a while.
        await stage.pass_time(400)
    events = await stage.until(message, "failed")
    assert events[-1].startswith("failed: exhausted")
    (letter,) = await stage.dead(bridge)
    assert (letter.reason, len(letter.history)) == ("exhausted", ATTEMPTS)
    assert provider.refused.total() == ATTEMPTS


async def test_a_push_that_can_not_be_tried_again_in_time_is_a_dead_letter(
    stage: BridgeStage,
) -> None:
    stage.providers.apns.faults.then(faults.answer(503, "ServiceUnavailable", retry_after="100"))
    message = await stage.push("apns", ttl_ms=60_000)
    events = await stage.until(message, "failed")
    assert events[-1] == "failed: expired: ServiceUnavailable"
    assert [letter.reason for letter in await stage.dead("apns")] == ["expired"]


async def test_a_token_that_was_registered_again_after_apples_timestamp_stays(
    stage: BridgeStage,
) -> None:
    token = "ab" * 32
    gone_ms = stage.clock.now_ms() - 60_000
    stage.providers.apns.gone[token] = ("Unregistered", gone_ms)
    address = {"type": "apns", "token": token}
    fresh = await stage.device("apns", address, age_ms=1_000)
    stale = await stage.device("apns", address, age_ms=120_000)
    messages = [await stage.send(fresh), await stage.send(stale)]
    await stage.due(*messages)
    await stage.until_settled()
    assert await stage.events(messages[0]) == ["accepted"]
    assert await stage.tries(messages[0]) == ["Unregistered"]
    assert await stage.has_bridge(fresh)
    assert await stage.events(messages[1]) == ["accepted", "failed: Unregistered"]
    assert not await stage.has_bridge(stale)
    del stage.providers.apns.gone[token]
    await stage.pass_time(10)
    await stage.until(messages[0], "bridged")


async def test_an_expired_access_token_is_renewed_and_the_push_goes(stage: BridgeStage) -> None:
    await stage.until(await stage.push("fcm"), "bridged")
    stage.providers.fcm.revoke()
    await stage.until(await stage.push("fcm"), "bridged")
    assert stage.providers.fcm.grants == 2
    assert await stage.suspended("fcm") == {}


async def test_a_token_endpoint_that_refuses_suspends_the_bridge(stage: BridgeStage) -> None:
    stage.providers.fcm.token_faults.always = faults.answer(401, "invalid_client")
    message = await stage.push("fcm")
    await stage.until_settled()
    assert await stage.events(message) == ["accepted"]
    assert [s.reason for s in (await stage.suspended("fcm")).values()] == ["401 invalid_client"]


async def test_one_bad_token_is_lost_and_many_suspend_the_bridge_instead(
    stage: BridgeStage,
) -> None:
    devices = [await stage.device("apns") for _ in range(40)]
    stage.providers.apns.faults.always = faults.answer(400, "BadDeviceToken")
    for device in devices:
        await stage.due(await stage.send(device))
    await stage.until_settled()
    kept = [await stage.has_bridge(device) for device in devices]
    assert kept.count(False) < 10
    (suspension,) = (await stage.suspended("apns")).values()
    assert suspension.reason.startswith("BadDeviceToken")
    taken = len(stage.providers.apns.taken)
    stage.providers.apns.faults.always = None
    await stage.pass_time(61)
    await stage.until_settled()
    assert len(stage.providers.apns.taken) == taken, "it is suspended"


@pytest.mark.parametrize("known", ["good before", "given long ago"])
async def test_devices_that_register_nonsense_do_not_suspend_a_bridge(
    stage: BridgeStage, known: str
) -> None:
    if known == "good before":
        await stage.until(await stage.push("apns"), "bridged")
    else:
        stage.clock.ahead_ms += 25 * 3_600_000
    junk = [await stage.device("apns") for _ in range(40)]
    stage.providers.apns.faults.then(*[faults.answer(400, "BadDeviceToken")] * 40)
    messages = [await stage.send(device) for device in junk]
    await stage.due(*messages)
    await stage.until_settled()
    assert [await stage.has_bridge(device) for device in junk].count(False) == 9
    for message in messages:
        assert await stage.events(message) == ["accepted", "failed: BadDeviceToken"]
    assert await stage.suspended("apns") == {}
    await stage.until(await stage.push("apns"), "bridged")


async def test_changed_credentials_open_a_suspended_bridge_and_what_waited_goes(
    stage: BridgeStage,
) -> None:
    await stage.setup("apns", key_id="WRONG12345")
    message = await stage.push("apns")
    await stage.until_settled()
    assert await stage.events(message) == ["accepted"]
    assert len(await stage.suspended("apns")) == 1
    await stage.setup("apns")
    await stage.pass_time(61)
    await stage.until(message, "bridged")


async def test_a_dead_letter_is_listed_and_replayed_with_new_tries(stage: BridgeStage) -> None:
    stage.providers.apns.faults.then(faults.answer(400, "BadCollapseId"))
    message = await stage.push("apns")
    await stage.until(message, "failed")
    other = await stage.dead("apns")
    letters = stage.dead_letters()
    page, more = await letters.letters(stage.project, "", None, 10)
    assert ([letter.id for letter in page], more) == ([other[0].id], False)
    name = endpoint_of(stage.project, "apns")
    assert (await letters.letters(stage.project, name, None, 10))[0] == page
    assert (await letters.letters(stage.project, "wh_other", None, 10))[0] == []
    assert await letters.letter(stage.project, page[0].id) == page[0]
    await letters.replay(stage.project, page[0].id)
    assert await stage.dead("apns") == []
    await stage.pass_time(1)
    await stage.until(message, "bridged")


async def test_a_letter_of_a_message_for_bridges_alone_is_replayed(stage: BridgeStage) -> None:
    stage.providers.apns.faults.then(faults.answer(400, "BadCollapseId"))
    message = await stage.push("apns", only=True)
    await stage.until(message, "failed")
    (letter,) = await stage.dead("apns")
    await stage.dead_letters().replay(stage.project, letter.id)
    await stage.pass_time(1)
    await stage.until(message, "bridged")


class Defect(apns.Apns):
    """A bridge with a defect."""

    @override
    def encode(self, *_args: Any) -> Request:
        raise RuntimeError("a defect")


async def test_a_push_at_which_the_gateway_fails_five_times_is_a_dead_letter(
    stage: BridgeStage,
) -> None:
    stage.engine.dispatch._attempts._bridges["apns"] = cast("AnyBridge", Defect())
    message = await stage.push("apns")
    for attempt in range(1, ATTEMPTS):
        await stage.until_settled()
        assert await stage.attempts(message) == attempt
        await stage.pass_time(61)
    events = await stage.until(message, "failed")
    assert events[-1] == "failed: exhausted: an error in the gateway"
    (letter,) = await stage.dead("apns")
    assert (letter.reason, len(letter.history)) == ("exhausted", ATTEMPTS)


async def test_a_push_whose_message_is_over_is_not_replayed(stage: BridgeStage) -> None:
    stage.providers.apns.faults.then(faults.answer(400, "BadCollapseId"))
    message = await stage.push("apns", ttl_ms=0)
    await stage.until(message, "failed")
    letters = stage.dead_letters()
    (letter,) = await stage.dead("apns")
    with pytest.raises(PushError) as refused:
        await letters.replay(stage.project, letter.id)
    assert refused.value.code is ErrorCode.FAILED_PRECONDITION
    await letters.drop(stage.project, letter.id)
    assert await stage.dead("apns") == []
    with pytest.raises(PushError) as unknown:
        await letters.replay(stage.project, letter.id)
    assert unknown.value.code is ErrorCode.NOT_FOUND


async def test_old_dead_letters_of_bridges_are_forgotten(stage: BridgeStage) -> None:
    stage.providers.apns.faults.then(faults.answer(400, "BadCollapseId"))
    await stage.until(await stage.push("apns"), "failed")
    stage.clock.ahead_ms += (stage.settings.dead_letter_retention_s + 1) * 1000
    await stage.engine.trim()
    assert await stage.dead("apns") == []
