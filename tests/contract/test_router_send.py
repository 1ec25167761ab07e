"""From send to inbox, over a real store."""

import asyncio
import hashlib

import msgpack
import pytest

from router.model.errors import ErrorCode, PushError
from router.model.hint import Deliver
from router.model.ids import MessageId
from router.model.message import Message, Notification
from router.send import Item
from router.store.connection import Store
from tests.contract.router_stages import Stages, to


@pytest.fixture
def stages(store: Store) -> Stages:
    return Stages(store)


async def refusal(stages: Stages, message: Message) -> ErrorCode:
    with pytest.raises(PushError) as caught:
        await stages.sender.send(stages.project, message)
    return caught.value.code


async def test_a_message_to_a_connected_device_reaches_its_shards_inbox(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    attached = await stages.attach(device, shard)
    message = Message(
        token=device.token,
        notification=Notification(title="Hello"),
        data={"k": "v"},
        collapse_key="c",
        ttl_ms=60_000,
    )
    sent = await stages.sender.send(stages.project, message)
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.device, hint.epoch, hint.seq) == (device.device_id, attached.epoch, 1)
    assert hint.message == sent
    frame = msgpack.unpackb(hint.frame)
    assert frame == {
        "op": "message",
        "id": sent,
        "sent_at": hint.expires_ms - 60_000,
        "expires_at": hint.expires_ms,
        "priority": "normal",
        "collapse_key": "c",
        "notification": {"title": "Hello"},
        "data": {"k": "v"},
    }
    window = await stages.mailboxes.fetch(
        device.device_id, attached.epoch, 0, stages.clock.now_ms(), 10
    )
    assert window is not None
    assert [pending.frame for pending in window.messages] == [hint.frame]
    assert await stages.events(sent) == ["accepted"]


async def test_a_message_to_an_offline_device_waits(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device))
    attached = await stages.attach(device, await stages.shard())
    assert [pending.message for pending in attached.window.messages] == [sent]


async def test_a_rotated_token_is_unregistered(stages: Stages) -> None:
    device = await stages.register()
    token = await stages.registration.rotate_token(stages.project, device.device_id)
    assert await refusal(stages, to(device)) is ErrorCode.UNREGISTERED
    await stages.sender.send(stages.project, Message(token=token))


@pytest.mark.parametrize("token", ["", "x", "local.00.aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaa"])
async def test_a_token_of_no_device_is_unregistered(stages: Stages, token: str) -> None:
    assert await refusal(stages, Message(token=token)) is ErrorCode.UNREGISTERED


async def test_a_token_of_another_project_is_a_mismatch(stages: Stages, store: Store) -> None:
    foreign = await Stages(store).register()
    assert await refusal(stages, to(foreign)) is ErrorCode.SENDER_ID_MISMATCH


async def test_the_same_idempotency_key_gives_the_first_result(stages: Stages) -> None:
    device = await stages.register()
    digest = hashlib.sha256(b"one").hexdigest()

    async def send(seen: str) -> MessageId:
        return await stages.sender.send(
            stages.project, to(device), idempotency_key="key", digest=seen
        )

    first = await send(digest)
    assert await send(digest) == first
    with pytest.raises(PushError) as caught:
        await send("another")
    assert caught.value.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 1


async def test_now_or_never_reaches_a_connected_device_and_is_not_stored(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=0))
    (hint,) = await stages.inbox(shard)
    assert isinstance(hint, Deliver)
    assert (hint.message, hint.seq) == (sent, 0)
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 0


async def test_now_or_never_to_an_offline_device_expires_at_once(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device, ttl_ms=0))
    status = await stages.messages.status(sent)
    assert status is not None
    assert status.state == "expired"
    assert status.timeline[-1].detail == "not connected"


async def test_a_batch_answers_each_item_in_order_and_leaves_as_one_entry(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    items = [Item(to(device, n=str(number))) for number in range(20)]
    items[3] = Item(Message(token=str(None)))
    items[5] = Item(Message(token=device.token, data={"k": "v" * 4096}))
    results = await stages.sender.send_batch(stages.project, items)
    errors = {index: r.code for index, r in enumerate(results) if isinstance(r, PushError)}
    assert errors == {3: ErrorCode.UNREGISTERED, 5: ErrorCode.INVALID_ARGUMENT}
    hints = await stages.inbox(shard)
    assert [hint.message for hint in hints if isinstance(hint, Deliver)] == [
        result for result in results if not isinstance(result, PushError)
    ]
    # One entry made the inbox; the whole batch is another.
    assert await stages.store.batch.call("XLEN", f"shard:{shard}") == 2


async def test_a_batch_of_nothing_gives_nothing(stages: Stages) -> None:
    assert await stages.sender.send_batch(stages.project, []) == []


def _sized(total: int) -> dict[str, str]:
    return {"k": "v" * (total - len('{"k":""}'))}


async def test_a_payload_of_4096_bytes_is_sent_and_one_more_is_refused(stages: Stages) -> None:
    device = await stages.register()
    await stages.sender.send(stages.project, Message(token=device.token, data=_sized(4096)))
    over = Message(token=device.token, data=_sized(4097))
    assert await refusal(stages, over) is ErrorCode.INVALID_ARGUMENT


async def test_escapes_count_as_json_writes_them(stages: Stages) -> None:
    device = await stages.register()
    over = Message(token=device.token, data={"k": "\x01" * 683})
    assert await refusal(stages, over) is ErrorCode.INVALID_ARGUMENT


async def test_half_a_surrogate_pair_is_refused(stages: Stages) -> None:
    device = await stages.register()
    half = Message(token=device.token, data={"k": "\ud800"})
    assert await refusal(stages, half) is ErrorCode.INVALID_ARGUMENT


async def test_a_message_too_far_ahead_is_refused(stages: Stages) -> None:
    device = await stages.register()
    far = stages.clock.now_ms() + 29 * 24 * 3600 * 1000
    message = Message(token=device.token, send_at_ms=far)
    assert await refusal(stages, message) is ErrorCode.INVALID_ARGUMENT


async def test_a_cancelled_message_no_longer_waits(stages: Stages) -> None:
    device = await stages.register()
    sent = await stages.sender.send(stages.project, to(device))
    status = await stages.sender.cancel(stages.project, sent)
    assert status is not None
    assert status.state == "cancelled"
    attached = await stages.attach(device, await stages.shard())
    assert attached.window.messages == ()


async def test_order_in_the_inbox_is_order_of_acceptance(stages: Stages) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    async with asyncio.TaskGroup() as tasks:
        for number in range(300):
            tasks.create_task(stages.sender.send(stages.project, to(device, n=str(number))))
    seqs = [hint.seq for hint in await stages.inbox(shard) if isinstance(hint, Deliver)]
    assert seqs == list(range(1, 301))
    assert stages.count("pushwire_hints_total") == 300


async def test_a_hint_to_a_shard_that_is_gone_is_counted_and_the_message_kept(
    stages: Stages,
) -> None:
    device, shard = await stages.register(), await stages.shard()
    await stages.attach(device, shard)
    await stages.inboxes.close(shard)
    await stages.sender.send(stages.project, to(device))
    await stages.routing.flush()
    assert stages.count("pushwire_hints_dropped_total", reason="gone") == 1
    known = await stages.mailboxes.device(device.device_id)
    assert known is not None
    assert known.pending == 1
