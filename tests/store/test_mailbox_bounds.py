"""Mailboxes beyond one window: every call stays bounded, and loops come to an end."""

import os

from router.model.device import Device
from router.model.ids import (
    ENTROPY_BYTES,
    DeviceId,
    ProjectId,
    ShardId,
    new_device_id,
    new_message_id,
    partition_of,
)
from router.model.mailbox import Ack, Envelope
from router.model.receipt import Event
from router.store import keys
from router.store.connection import Store, StoreOptions
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from tests.support.valkey import make_store

PROJECT = ProjectId("demo")
NOW = 1_800_000_000_000


async def registered(mailboxes: Mailboxes) -> DeviceId:
    device = new_device_id(os.urandom(ENTROPY_BYTES))
    assert await mailboxes.register(Device(device, PROJECT, "python"), "n" * 16, "h", 1)
    return device


def envelope(device: DeviceId, ttl_ms: int = 60_000, collapse_key: str = "") -> Envelope:
    partition = partition_of(device)
    message = new_message_id(partition, NOW, os.urandom(ENTROPY_BYTES))
    return Envelope(
        PROJECT,
        partition,
        device,
        "n" * 16,
        message,
        b"f",
        NOW,
        NOW + ttl_ms,
        collapse_key=collapse_key,
    )


async def fill(mailboxes: Mailboxes, envelopes: list[Envelope]) -> None:
    for one in envelopes:
        await mailboxes.enqueue(one)


async def test_a_big_mailbox_is_read_in_windows(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    offered = [envelope(device) for _ in range(300)]
    await fill(mailboxes, offered)
    attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 1000)
    assert attached.pending == 300
    window = attached.window
    found = [pending.message for pending in window.messages]
    assert len(found) == 128
    while window.more:
        after = window.messages[-1].seq
        fetched = await mailboxes.fetch(device, attached.epoch, after, NOW, 128)
        assert fetched is not None
        window = fetched
        found += [pending.message for pending in window.messages]
    assert found == [one.message for one in offered]
    assert window.head == 300


async def test_expiry_goes_through_a_big_mailbox_window_by_window(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    offered = [envelope(device, 100 if n % 3 == 2 else 60_000 + n) for n in range(400)]
    await fill(mailboxes, offered)
    now = NOW + 200
    calls = 0
    due: int | None = now
    while due is not None and due <= now:
        due = await mailboxes.expire(device, now)
        calls += 1
    assert calls == 4
    assert due == NOW + 60_000
    found = await mailboxes.device(device)
    assert found is not None
    assert found.pending == sum(1 for one in offered if one.expires_ms > now)


async def test_unregistering_drops_everything_and_leaves_only_statuses(store: Store) -> None:
    mailboxes, messages = Mailboxes(store), Messages(store)
    device = await registered(mailboxes)
    offered = [envelope(device) for _ in range(300)]
    await fill(mailboxes, offered)
    assert await mailboxes.unregister(device, PROJECT, NOW + 1) == (True, None, b"")
    for key in (keys.mailbox(device), keys.index(device), keys.frames(device)):
        assert await store.batch.call("EXISTS", key) == 0
    for one in (offered[0], offered[-1]):
        status = await messages.status(one.message)
        assert status is not None
        assert (status.state, status.timeline[-1].detail) == (Event.DROPPED, "unregistered")
    timers = keys.timers(partition_of(device))
    assert await store.batch.call("ZSCORE", timers, f"expire:{device}") is None


async def test_a_big_unregister_that_was_cut_short_is_finished_by_its_timer(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    await fill(mailboxes, [envelope(device) for _ in range(300)])
    assert await store.batch.call("DEL", keys.mailbox(device)) == 1
    again = Device(device, PROJECT, "python")
    assert not await mailboxes.register(again, "n" * 16, "h", 2)
    due: int | None = NOW
    while due is not None:
        due = await mailboxes.expire(device, NOW)
    assert await mailboxes.register(again, "n" * 16, "h", 2)


async def test_the_cap_spares_collapsible_messages(store_url: str) -> None:
    options = StoreOptions(url=store_url, max_pending=3)
    async with make_store(options) as store:
        mailboxes, messages = Mailboxes(store), Messages(store)
        device = await registered(mailboxes)
        offered = [
            envelope(device, collapse_key="a"),
            envelope(device),
            envelope(device, collapse_key="b|"),
            envelope(device),
            envelope(device, collapse_key="c"),
            envelope(device, collapse_key="d"),
        ]
        await fill(mailboxes, offered)
        attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)
        assert [p.message for p in attached.window.messages] == [
            offered[n].message for n in (2, 4, 5)
        ]
        assert (attached.drops_known, attached.window.dropped) == (0, 3)
        status = await messages.status(offered[1].message)
        assert status is not None
        assert (status.state, status.timeline[-1].detail) == (Event.DROPPED, "pending cap")


async def test_drops_are_known_once_the_device_has_acked_what_came_after(store_url: str) -> None:
    async with make_store(StoreOptions(url=store_url, max_pending=1)) as store:
        mailboxes = Mailboxes(store)
        device = await registered(mailboxes)
        offered = [envelope(device) for _ in range(3)]
        await fill(mailboxes, offered)
        lost = await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)
        attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)
        for each in (lost, attached):
            assert (each.drops_known, each.window.dropped) == (0, 2)
        acks = [Ack(offered[-1].message, 3, NOW)]
        await mailboxes.ack(device, lost.epoch, acks, NOW, 2)
        await mailboxes.ack(device, attached.epoch, acks, NOW, 9)
        window = await mailboxes.fetch(device, attached.epoch, 0, NOW, 10)
        assert window is not None
        assert window.dropped == 2
        attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)
        assert (attached.drops_known, attached.window.dropped) == (2, 2)


async def test_many_acks_go_in_groups(store: Store) -> None:
    mailboxes = Mailboxes(store)
    device = await registered(mailboxes)
    offered = [envelope(device) for _ in range(200)]
    await fill(mailboxes, offered)
    attached = await mailboxes.attach(device, "h", ShardId("s"), NOW, 10)
    acks = [Ack(one.message, seq, NOW) for seq, one in enumerate(offered, 1)]
    await mailboxes.ack(device, attached.epoch, acks, NOW + 1)
    await mailboxes.ack(device, attached.epoch, acks, NOW + 2)
    found = await mailboxes.device(device)
    assert found is not None
    assert found.pending == 0
    assert await store.batch.call("EXISTS", keys.frames(device)) == 0
