"""A connection that waited in a slow shard must not displace the one that the device made since."""

import asyncio

from gateway.process import Clock
from gateway.shard.acks import ShardLedger
from gateway.shard.dialects import discover
from gateway.shard.events import SessionLimits, Tally
from gateway.shard.probe import ProbePeer
from gateway.shard.registry import Registry
from router.model.hint import Route
from router.model.ids import ShardId, secret_hash
from router.model.mailbox import Attached, AttachResult
from router.registration import Registered
from router.store.connection import Store
from sdk_client.wire import SUBPROTOCOL_MSGPACK
from tests.contract.router_stages import Stages


async def attach(stages: Stages, device: Registered, shard: ShardId, at_ms: int) -> Attached:
    hashed = secret_hash(device.credential)
    return await stages.mailboxes.attach(device.device_id, hashed, shard, at_ms, 64)


async def test_the_later_connection_stands_though_the_earlier_one_is_carried_out_last(
    store: Store,
) -> None:
    stages = Stages(store)
    device, now_ms = await stages.register(), stages.clock.now_ms()
    newer = await attach(stages, device, await stages.shard(), now_ms)
    late = await attach(stages, device, await stages.shard(), now_ms - 1)
    assert late == Attached(AttachResult.OVERTAKEN)
    window = await stages.mailboxes.fetch(device.device_id, newer.epoch, 0, now_ms, 64)
    assert window is not None


async def test_a_repeat_of_the_same_attach_is_carried_out(store: Store) -> None:
    stages = Stages(store)
    device, now_ms = await stages.register(), stages.clock.now_ms()
    shard = await stages.shard()
    first = await attach(stages, device, shard, now_ms)
    again = await attach(stages, device, shard, now_ms)
    assert again.epoch == first.epoch + 1


async def test_clocks_that_are_far_apart_do_not_lock_a_device_out(store: Store) -> None:
    stages = Stages(store)
    device, now_ms = await stages.register(), stages.clock.now_ms()
    await attach(stages, device, await stages.shard(), now_ms)
    slow_clock = await attach(stages, device, await stages.shard(), now_ms - 60_001)
    assert slow_clock.result is AttachResult.ATTACHED


async def test_a_shard_sends_an_overtaken_connection_away_and_leaves_the_route(
    store: Store,
) -> None:
    stages = Stages(store)
    device, shard = await stages.register(), await stages.shard()
    newer = await attach(stages, device, shard, stages.clock.now_ms() + 10_000)
    async with asyncio.TaskGroup() as tasks:
        ledger = ShardLedger(stages.acks, stages.mailboxes, stages.clock.now_ms)
        registry = Registry(
            await stages.shard(),
            stages.mailboxes,
            ledger,
            stages.routing,
            stages.metrics,
            stages.clock.now_ms,
            tasks,
        )
        limits = SessionLimits(shard=registry.shard, tally=Tally())
        peer = ProbePeer(registry, discover()[SUBPROTOCOL_MSGPACK], limits, Clock())
        registry.opened(peer)
        peer.connect(device.credential)
    assert not peer.open
    assert stages.count("pushwire_disconnects_total", reason="try_again_later") == 1
    _, route = await stages.mailboxes.rotate(
        device.device_id, stages.project, "a" * 16, stages.clock.now_ms()
    )
    assert route == Route(shard, newer.epoch)
