"""Callbacks: the worker as its process wires it, a real store, a real endpoint on loopback."""

import asyncio

import pytest

from router.model.errors import PushError
from router.model.ids import all_partitions, partition_of
from router.model.webhook import Kind, lane_of, partition_of_webhook
from router.policy.callbacks import LAST_MS
from router.registration import DeviceSpec
from router.store import keys
from tests.contract.callback_stage import callback_stage, until_receipts
from tests.contract.router_stages import to
from tests.support.receiver import Reply, Taken, receiving
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow


async def test_what_became_of_messages_is_told_in_order_and_verifies(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        await stage.webhook(receiver)
        devices = [await stage.register() for _ in range(4)]
        sent = {device.device_id: await stage.delivered(device, 30) for device in devices}
        await until_receipts(receiver, 4 * 30 * 3)
        receiver.check()
        for device, messages in sent.items():
            mine = [r for r in receiver.receipts if r["device_id"] == device]
            assert [r["message_id"] for r in mine if r["event"] == "accepted"] == messages
            for message in messages:
                events = [r["event"] for r in mine if r["message_id"] == message]
                assert events == ["accepted", "sent", "delivered"]
        first = receiver.taken[0]
        assert first.json["data"]["project"] == stage.project
        assert first.headers["content-type"] == "application/json"
        assert all(1 <= len(t.json["data"]["receipts"]) <= 100 for t in receiver.taken)
        assert len(receiver.taken) < 4 * 30
        assert len({taken.id for taken in receiver.taken}) == len(receiver.taken)
        await eventually(lambda: stage.metric("pushwire_callback_receipts_total") == 360)


async def test_receipts_name_the_user_of_their_device(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        await stage.webhook(receiver)
        spec = DeviceSpec(platform="python", user='a"b')
        owned = await stage.registration.register(stage.project, spec)
        nobodys = await stage.register()
        for device in (owned, nobodys):
            await stage.delivered(device, 2)
        await until_receipts(receiver, 2 * 2 * 3)
        receiver.check()
        whose = {(r["device_id"], r.get("user")) for r in receiver.receipts}
        assert whose == {(owned.device_id, 'a"b'), (nobodys.device_id, None)}


async def test_a_message_from_a_device_and_the_end_of_a_device_are_told(
    fresh_store_url: str,
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        await stage.webhook(receiver)
        device = await stage.register()
        attached = await stage.attach(device, await stage.shard())
        assert await stage.mailboxes.upstream(
            device.device_id, attached.epoch, 'ref|"1"', b'{"temperature":21}', 1_764_000_000_123
        )
        await stage.sender.send(stage.project, to(device))
        await stage.registration.unregister(stage.project, device.device_id)
        await eventually(lambda: receiver.of_type("device.unregistered"))
        assert receiver.of_type("device.message") == [
            {
                "project": stage.project,
                "device_id": device.device_id,
                "message_id": 'ref|"1"',
                "data": {"temperature": 21},
            }
        ]
        (message,) = [t for t in receiver.once if t.json["type"] == "device.message"]
        assert message.json["timestamp"] == "2025-11-24T16:00:00.123Z"
        assert receiver.of_type("device.unregistered") == [
            {"project": stage.project, "device_id": device.device_id}
        ]
        dropped = [r for r in receiver.receipts if r["event"] == "dropped"]
        assert [r["error"] for r in dropped] == ["unregistered"]
        order = [taken.json["type"] for taken in receiver.once]
        assert (order[0], order[-1]) == ("device.message", "device.unregistered")
        assert set(order[1:-1]) == {"message.receipts"}
        receiver.check()


async def test_a_webhook_hears_only_what_it_asked_for(fresh_store_url: str) -> None:
    async with (
        callback_stage(fresh_store_url) as stage,
        receiving() as everything,
        receiving() as endings,
        stage.worker(),
    ):
        await stage.webhook(everything)
        await stage.webhook(endings, Kind.UNREGISTERED)
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        await stage.registration.unregister(stage.project, device.device_id)
        await eventually(lambda: everything.of_type("device.unregistered") and endings.taken)
        assert [taken.json["type"] for taken in endings.taken] == ["device.unregistered"]
        assert everything.receipts


async def test_an_endpoint_that_comes_back_gets_all_in_order_with_the_same_ids(
    fresh_store_url: str,
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        receiver.answer = lambda _: Reply(503)
        device = await stage.register()
        first = await stage.delivered(device, 5)
        await stage.until_failing(webhook)
        later = [await stage.sender.send(stage.project, to(device)) for _ in range(5)]
        receiver.answer = lambda _: Reply()
        stage.process_clock.ahead_ms += 10_000
        await until_receipts(receiver, 20)
        receiver.check()
        accepted = [r["message_id"] for r in receiver.receipts if r["event"] == "accepted"]
        assert accepted == first + later
        assert receiver.taken[0].id == receiver.delivered[0].id

        async def well() -> bool:
            _, health = await stage.endpoints.get(stage.project, webhook.id)
            assert health.error == "HTTP 503"
            return health.success_ms > 0 and not health.failing_since_ms

        found: bool = await eventually(well)
        assert found


async def test_retry_after_is_heeded(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        receiver.answer = lambda _: Reply(429, {"Retry-After": "3600"})
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        failed_ms = (await stage.until_failing(webhook)).failure_ms
        due = keys.callbacks_due(partition_of_webhook(webhook.id))
        lane = f"{webhook.id}:{lane_of(partition_of(device.device_id))}"
        score = await stage.store.batch.call("ZSCORE", due, lane)
        assert isinstance(score, bytes)
        assert int(score) - failed_ms >= 3_600_000
        receiver.answer = lambda _: Reply()
        stage.process_clock.ahead_ms = 3_700_000
        await until_receipts(receiver, 1)


async def test_after_a_day_a_callback_is_a_dead_letter_and_can_be_sent_again(
    fresh_store_url: str,
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        receiver.answer = lambda _: Reply(500)
        device = await stage.register()
        message = await stage.sender.send(stage.project, to(device))
        await stage.until_failing(webhook)
        stage.process_clock.ahead_ms += LAST_MS + 10_000
        await eventually(lambda: stage.metric("pushwire_callbacks_dead_total", reason="exhausted"))
        (letter,), more = await stage.endpoints.letters(stage.project, "", None, 10)
        assert not more
        assert (letter.reason, letter.receipts, letter.kind) == ("exhausted", 1, "message.receipts")
        assert [attempt.error for attempt in letter.history] == ["HTTP 500", "HTTP 500"]
        receiver.answer = lambda _: Reply()
        await stage.endpoints.replay(stage.project, letter.id)
        # The message expired meanwhile, which is told by a callback of its own.
        await eventually(lambda: letter.id in {taken.id for taken in receiver.delivered})
        accepted = [r["message_id"] for r in receiver.receipts if r["event"] == "accepted"]
        assert accepted == [message]
        receiver.check()
        with pytest.raises(PushError):
            await stage.endpoints.replay(stage.project, letter.id)


async def test_410_disables_the_endpoint_and_what_waits_becomes_dead_letters(
    fresh_store_url: str,
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        receiver.answer = lambda _: Reply(410)
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        await eventually(lambda: stage.metric("pushwire_callbacks_dead_total", reason="disabled"))
        found, _ = await stage.endpoints.get(stage.project, webhook.id)
        assert found.disabled_ms
        assert "410" in found.disabled_reason
        receiver.answer = lambda _: Reply()
        await stage.endpoints.change(stage.project, webhook.id, None, None, disabled=False)
        taken = len(receiver.taken)
        await stage.until_heard(device, lambda: len(receiver.taken) > taken)


async def test_what_waits_for_a_webhook_that_is_disabled_becomes_dead_letters(
    fresh_store_url: str,
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        receiver.answer = lambda _: Reply(500, {"Retry-After": "7200"})
        device = await stage.register()
        await stage.delivered(device, 5)
        await stage.until_failing(webhook)
        await stage.sender.send(stage.project, to(device))
        await stage.endpoints.change(stage.project, webhook.id, None, None, disabled=True)
        await eventually(lambda: stage.metric("pushwire_callbacks_dead_total", reason="disabled"))
        (letter, *_), _ = await stage.endpoints.letters(stage.project, webhook.id, None, 10)
        assert letter.reason == "disabled"
        assert len(receiver.taken) == 1


async def test_a_slow_endpoint_slows_nobody_and_gets_no_more_requests_than_its_cap(
    fresh_store_url: str,
) -> None:
    async with (
        callback_stage(fresh_store_url, callback_timeout_s=30.0) as stage,
        receiving() as slow,
        receiving() as quick,
        stage.worker(),
    ):
        released = asyncio.Event()
        slow.answer = lambda _: Reply(after=released)
        await stage.webhook(slow)
        await stage.webhook(quick)
        devices = [await stage.register() for _ in range(20)]
        for device in devices:
            await stage.sender.send(stage.project, to(device))
        await until_receipts(quick, 20)
        for device in devices:
            await stage.sender.send(stage.project, to(device))
        await until_receipts(quick, 40)
        assert 1 <= slow.most_at_once <= 8
        assert len(quick.connections) <= 8
        released.set()
        await until_receipts(slow, 40)
        slow.check()


async def test_without_a_webhook_no_outbox_is_read_for_callbacks(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver:
        webhook = await stage.webhook(receiver)
        async with stage.worker():
            device = await stage.register()
            await stage.sender.send(stage.project, to(device))
            await until_receipts(receiver, 1)

            async def groups() -> int:
                found = 0
                for partition in all_partitions():
                    reply = await stage.store.batch.call("XINFO", "GROUPS", keys.outbox(partition))
                    found += "callbacks" in str(reply)
                return found

            assert await groups() == len(all_partitions())
            await stage.endpoints.remove(stage.project, webhook.id)

            async def closed() -> bool:
                return await groups() == 0

            found: bool = await eventually(closed)
            assert found
        assert await stage.store.batch.call("KEYS", "*:cb*") == []


async def test_what_finds_no_room_is_a_dead_letter(fresh_store_url: str) -> None:
    async with (
        callback_stage(fresh_store_url, callback_backlog_bytes=65_536) as stage,
        receiving() as receiver,
        stage.worker(),
    ):
        receiver.answer = lambda _: Reply(500)
        await stage.webhook(receiver)
        device = await stage.register()
        await stage.delivered(device, 60)
        await eventually(lambda: receiver.taken)
        await stage.delivered(device, 60)
        await stage.until_heard(
            device, lambda: stage.metric("pushwire_callbacks_dead_total", reason="overflow") > 0
        )
        page, _ = await stage.endpoints.letters(stage.project, "", None, 100)
        assert {letter.reason for letter in page} == {"overflow"}
        assert all(0 < letter.receipts <= 100 for letter in page)
        assert all(letter.body.count(b"message_id") == letter.receipts for letter in page)


async def test_a_redirect_is_not_followed_and_a_flood_is_not_read(fresh_store_url: str) -> None:
    async with (
        callback_stage(fresh_store_url) as stage,
        receiving() as receiver,
        receiving() as elsewhere,
        stage.worker(),
    ):
        webhook = await stage.webhook(receiver)

        def answer(_: Taken) -> Reply:
            if not receiver.taken:
                return Reply(302, {"Location": elsewhere.url})
            return Reply(200, body=b"x" * 5_000_000)

        receiver.answer = answer
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        health = await stage.until_failing(webhook)
        assert health.error == "HTTP 302: redirects are not followed"
        stage.process_clock.ahead_ms += 10_000
        await until_receipts(receiver, 1)
        assert not elsewhere.taken


async def test_a_private_address_is_refused_at_the_time_of_the_request(
    fresh_store_url: str,
) -> None:
    async with (
        callback_stage(fresh_store_url, callback_allow_private=False) as stage,
        receiving() as receiver,
        stage.worker(),
    ):
        literal = await stage.webhook(receiver)
        receiver.url = receiver.url.replace("127.0.0.1", "localhost")
        named = await stage.webhook(receiver)
        device = await stage.register()
        await stage.sender.send(stage.project, to(device))
        for webhook in (literal, named):
            health = await stage.until_failing(webhook)
            assert "not public" in health.error
        assert stage.metric("pushwire_callbacks_total", result="refused") >= 2
        assert not receiver.taken


async def test_both_secrets_sign_while_a_rotation_lasts(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        webhook = await stage.webhook(receiver)
        rotated = await stage.endpoints.rotate(stage.project, webhook.id, "", 3600)
        device = await stage.register()

        def doubled() -> bool:
            last = receiver.taken[-1:]
            return bool(last) and len(last[0].headers["webhook-signature"].split()) == 2

        await stage.until_heard(device, doubled)
        receiver.check()
        receiver.taken.clear()
        receiver.secrets.append(rotated.secrets[0].value)
        await stage.until_heard(device, doubled)
        receiver.check()
