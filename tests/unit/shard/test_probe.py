"""The probe goes the whole way of a message, notices what is broken on it, and recovers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from gateway.process import Clock, Entropy
from gateway.shard import probe as module
from gateway.shard.dialects import discover
from gateway.shard.inbox import read_inbox
from gateway.shard.probe import PROJECT, Probe, ProbePeer
from router.model.hint import Displace
from router.model.lane import Lane
from router.store import keys
from sdk_client.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from tests.support.valkey import Server
from tests.support.waiting import eventually
from tests.unit.shard.parts import Parts


def make(parts: Parts) -> Probe:
    stages = parts.stages
    return Probe(
        parts.registry,
        stages.mailboxes,
        stages.routing,
        stages.metrics,
        Clock(),
        Entropy(),
        (discover()[SUBPROTOCOL_MSGPACK], parts.limits),
    )


@contextlib.asynccontextmanager
async def reading(parts: Parts) -> AsyncIterator[None]:
    stages = parts.stages
    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(
            read_inbox(stages.inboxes, parts.registry, stages.metrics, stages.clock.now_ms)
        )
        yield
        reader.cancel()


@contextlib.asynccontextmanager
async def running(probe: Probe) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(probe.run())
        yield
        task.cancel()
        await probe.stop()


def outcome(parts: Parts) -> float:
    return parts.stages.count("pushwire_probe_ok", role="shard")


async def leftovers(parts: Parts, probe: Probe) -> list[object]:
    """What the store holds of a probe's device."""
    batch = parts.stages.store.batch
    names = [key(probe._device) for key in (keys.mailbox, keys.index, keys.frames)]
    return [await batch.call("EXISTS", name) for name in names]


async def test_a_message_that_comes_through_is_told(parts: Parts) -> None:
    probe = make(parts)
    async with reading(parts), running(probe):
        await eventually(lambda: probe.probe_ms)
        assert outcome(parts) == 1
        assert parts.stages.count("pushwire_hints_total") == 1
        assert len(parts.registry) == 0, "it is no device of anybody"
    assert not any(await leftovers(parts, probe))


async def test_the_probe_passes_a_fan_out(parts: Parts) -> None:
    probe, stages = make(parts), parts.stages
    shard = parts.registry.shard
    before = {lane: await stages.inboxes.length(shard, lane) for lane in Lane}
    async with running(probe):
        await eventually(lambda: stages.count("pushwire_hints_total"))
        after = {lane: await stages.inboxes.length(shard, lane) for lane in Lane}
        assert after == {**before, Lane.CRITICAL: before[Lane.CRITICAL] + 1}
        async with reading(parts):
            await eventually(lambda: probe.probe_ms)


async def test_the_device_of_a_shard_that_is_killed_ends_by_itself(parts: Parts) -> None:
    probe = make(parts)
    async with reading(parts), running(probe):
        await eventually(lambda: probe.probe_ms)
        left_ms = await parts.stages.store.batch.call("PTTL", keys.mailbox(probe._device))
        assert isinstance(left_ms, int)
        assert 0 < left_ms <= module.KEPT_MS


@pytest.mark.slow
async def test_a_broken_way_is_told_once_and_so_is_its_repair(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    probe = make(parts)
    with capture_logs() as logs:
        async with running(probe):
            # Nobody reads the inbox.
            await eventually(lambda: logs)
            before = parts.stages.count("pushwire_hints_total")
            await eventually(lambda: parts.stages.count("pushwire_hints_total") > before + 1)
            assert (probe.probe_ms, outcome(parts)) == (0, 0)
            async with reading(parts):
                await eventually(lambda: probe.probe_ms)
                assert outcome(parts) == 1
    assert [(entry["event"], entry.get("reason")) for entry in logs] == [
        ("probe.failed", "time-out"),
        ("probe.recovered", None),
    ]


@pytest.mark.slow
async def test_a_store_that_lost_the_probes_device_is_given_it_again(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    probe = make(parts)
    async with reading(parts), running(probe):
        await eventually(lambda: probe.probe_ms)
        await parts.stages.store.batch.call("DEL", keys.mailbox(probe._device))
        await eventually(lambda: outcome(parts) == 0)
        await eventually(lambda: outcome(parts) == 1)


@pytest.mark.parametrize("displaced", [False, True])
async def test_a_session_that_ended_is_replaced(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, displaced: bool
) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    probe = make(parts)
    async with reading(parts), running(probe):
        await eventually(lambda: probe.probe_ms)
        first = probe._peer
        assert first is not None
        if displaced:
            parts.registry.dispatch([Displace(probe._device, first.session.epoch)])
        else:
            first.abort()
        assert not first.open
        await eventually(lambda: probe._peer is not first)
        await eventually(lambda: outcome(parts) == 1)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_a_store_that_is_away_is_told_and_stopping_does_not_hang(
    wounded: tuple[Parts, Server],
) -> None:
    parts, server = wounded
    probe = make(parts)
    server.pause()
    with capture_logs() as logs:
        async with running(probe):
            await eventually(lambda: logs)
    assert [entry["event"] for entry in logs] == ["probe.failed"]
    assert "store is away" in logs[0]["reason"]


async def test_a_probe_that_never_ran_can_be_stopped(parts: Parts) -> None:
    probe = make(parts)
    await probe.stop()
    assert await parts.stages.mailboxes.device(probe._device) is None


# Its device.


async def test_the_probes_device_ticks_acks_and_closes_once(parts: Parts) -> None:
    device = await parts.stages.register()
    peer = ProbePeer(parts.registry, discover()[SUBPROTOCOL_MSGPACK], parts.limits, Clock())
    peer.connect(device.credential)
    await peer.welcomed.wait()
    sent = await parts.send(device)
    parts.deliver(device.device_id, 1, sent)
    await peer.heard(sent)
    await parts.ledger.flush()
    assert await parts.pending(device) == 0
    peer.session.deadline_ms = 0
    peer.tick()
    assert peer.session.deadline_ms > 0
    peer.close("going_away")
    peer.close("again")
    await parts.ledger.flush()
    assert not await parts.connected(device)
    assert parts.stages.count("pushwire_disconnects_total", reason="going_away") == 0


async def test_text_is_nothing_to_the_probes_device(parts: Parts) -> None:
    peer = ProbePeer(parts.registry, discover()[SUBPROTOCOL_JSON], parts.limits, Clock())
    peer._hear('{"op":"welcome"}')
    assert not peer.welcomed.is_set()


def test_no_project_can_have_the_probes_name() -> None:
    assert PROJECT.startswith("_")
