"""The registry over a real store: attaches, hints, reads, displacement, and what breaks."""

import asyncio

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from gateway.shard import registry
from gateway.shard.events import Send
from gateway.shard.handshake import Refusal
from router.model.hint import Displace, Unregister, Wake
from router.model.ids import DeviceId
from router.registration import Registered
from router.store import keys
from tests.support.valkey import Server
from tests.support.waiting import eventually
from tests.unit.shard.driver import message
from tests.unit.shard.parts import Parts, Socket


def connects(parts: Parts, result: str) -> float:
    return parts.stages.count("pushwire_connects_total", result=result)


# Attaching.


async def test_a_device_is_attached_and_its_hints_find_it(parts: Parts) -> None:
    device, socket = await parts.device()
    assert socket.heard[0]["device_id"] == device.device_id
    assert len(parts.registry) == 1
    assert parts.registry.peers() == [socket.connection]
    assert connects(parts, "ok") == 1
    assert await parts.connected(device)
    parts.deliver(device.device_id, 1, message(1))
    assert socket.messages() == [message(1)]


async def test_what_waits_comes_with_the_welcome(parts: Parts) -> None:
    device = await parts.stages.register()
    first, second = await parts.send(device), await parts.send(device)
    socket = parts.connect(device)
    welcome = await socket.hear("welcome")
    assert welcome["pending"] == 2
    assert socket.messages() == [first, second]


async def test_a_wrong_secret_and_an_unknown_device_are_refused(parts: Parts) -> None:
    device = await parts.stages.register()
    wrong = msgspec.structs.replace(device, credential=f"{device.device_id}.{'x' * 32}")
    assert await parts.connect(wrong).closed() == 4001
    unknown = msgspec.structs.replace(device, credential=f"{'u' * 16}.{'x' * 32}")
    assert await parts.connect(unknown).closed() == 4003
    assert connects(parts, "credential") == 1
    assert connects(parts, "unregistered") == 1
    assert len(parts.registry) == 0


async def test_a_socket_that_goes_while_its_device_is_attached_leaves_no_route(
    parts: Parts,
) -> None:
    device = await parts.stages.register()
    socket = parts.connect(device)
    socket.lose()
    await eventually(lambda: connects(parts, "ok"))
    await parts.ledger.flush()
    assert not await parts.connected(device)
    assert len(parts.registry) == 0


async def test_hints_that_come_while_a_device_is_attached_are_not_lost(parts: Parts) -> None:
    device = await parts.stages.register()
    epoch = await parts.epoch(device.device_id) + 1
    socket = parts.connect(device)
    parts.deliver(device.device_id, 1, message(1), epoch)
    parts.deliver(device.device_id, 1, message(9), epoch + 1)
    await socket.hear("welcome")
    assert socket.messages() == [message(1)]


async def test_hints_that_are_kept_for_an_attach_are_bounded(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_EARLY_HINTS", 2)
    device = await parts.stages.register()
    epoch = await parts.epoch(device.device_id) + 1
    socket = parts.connect(device)
    for seq in (1, 2, 3):
        parts.deliver(device.device_id, seq, message(seq), epoch)
    await socket.hear("welcome")
    assert socket.messages() == [message(1), message(2)]


async def test_two_attaches_of_one_device_keep_their_hints_apart(parts: Parts) -> None:
    device = await parts.stages.register()
    epoch = await parts.epoch(device.device_id) + 1
    first, second = parts.connect(device), parts.connect(device)
    parts.deliver(device.device_id, 1, message(1), epoch)
    parts.deliver(device.device_id, 1, message(2), epoch + 1)
    assert await first.closed() == 4002
    await second.hear("welcome")
    assert first.messages() == [message(1)]
    assert second.messages() == [message(2)]


async def test_more_attaches_than_the_shard_takes_are_told_to_come_back(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await parts.stages.register()
    monkeypatch.setattr(registry, "MAX_ATTACHES", 0)
    assert parts.registry.admit() == Refusal("busy", 2)
    monkeypatch.setattr(registry, "MAX_ATTACHES", 1)
    first, second = Socket(parts.environment), Socket(parts.environment)
    parts.connect(device, first)
    parts.connect(device, second)
    assert await second.closed() == 1013
    await first.hear("welcome")
    assert connects(parts, "busy") == 1
    assert parts.registry.admit() is None


async def test_a_shard_that_drains_admits_nobody(parts: Parts) -> None:
    parts.registry.draining = True
    assert parts.registry.admit() == Refusal("draining", 2)


# Displacement.


async def test_a_newer_session_here_displaces_the_older_one(parts: Parts) -> None:
    device, older = await parts.device()
    newer = parts.connect(device)
    await newer.hear("welcome")
    assert await older.closed() == 4002
    await parts.ledger.flush()
    assert await parts.connected(device), "the older one's end leaves the newer one's route alone"
    parts.deliver(device.device_id, 1, message(1))
    assert newer.messages() == [message(1)]
    assert parts.stages.count("pushwire_disconnects_total", reason="displaced") == 1
    assert len(parts.registry) == 1


async def test_a_newer_session_here_displaces_the_older_one_elsewhere(parts: Parts) -> None:
    device = await parts.stages.register()
    elsewhere = await parts.stages.shard()
    attached = await parts.stages.attach(device, elsewhere)
    await parts.connect(device).hear("welcome")
    hints = await parts.stages.inbox(elsewhere)
    assert hints == [Displace(device.device_id, attached.epoch)]


async def test_an_attach_that_comes_too_late_for_its_connection_tells_nobody_to_stay_away(
    parts: Parts,
) -> None:
    device = await parts.stages.register()
    elsewhere = await parts.stages.shard()
    attached = await parts.stages.attach(device, elsewhere)
    parts.connect(device).lose()
    await eventually(lambda: connects(parts, "ok"))
    hints = await parts.stages.inbox(elsewhere)
    assert hints == [Wake(device.device_id, attached.epoch)]


async def test_a_session_that_ends_gives_up_its_route(parts: Parts) -> None:
    device, socket = await parts.device()
    socket.lose()
    await parts.ledger.flush()
    assert not await parts.connected(device)
    assert len(parts.registry) == 0
    parts.deliver(device.device_id, 1, message(1), await parts.epoch(device.device_id))
    assert parts.stages.count("pushwire_disconnects_total", reason="lost") == 1


# Hints.


async def test_hints_for_devices_that_are_elsewhere_are_lost(parts: Parts) -> None:
    device, socket = await parts.device()
    parts.registry.dispatch([Unregister(DeviceId("e" * 16), 1)])
    parts.deliver(device.device_id, 1, message(1))
    assert socket.messages() == [message(1)]


async def test_a_session_that_breaks_is_dropped_and_the_others_hints_go_on(parts: Parts) -> None:
    device, socket = await parts.device()
    other, healthy = await parts.device()
    del socket.connection.session._dialect
    hints = [(device.device_id, message(1)), (other.device_id, message(2))]
    with capture_logs() as logs:
        for each, text in hints:
            parts.deliver(each, 1, text)
    assert [entry["event"] for entry in logs] == ["hint.failed"]
    assert healthy.messages() == [message(2)]
    assert socket.ends == ["abort"]
    await eventually(lambda: len(parts.registry) == 1)


# Reads.


async def test_a_gap_is_filled_from_the_mailbox(parts: Parts) -> None:
    device, socket = await parts.device()
    sent = [str(await parts.send(device)) for _ in range(3)]
    parts.deliver(device.device_id, 3, sent[2])
    await eventually(lambda: len(socket.messages()) == 3)
    assert socket.messages() == sent


async def test_a_session_whose_epoch_is_stale_ends_with_its_next_read(parts: Parts) -> None:
    device, socket = await parts.device()
    await parts.stages.attach(device, await parts.stages.shard())
    parts.wake(device.device_id)
    assert await socket.closed() == 1013
    await parts.ledger.flush()
    assert await parts.connected(device)


async def test_more_reads_than_the_shard_takes_come_a_moment_later(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, socket = await parts.device()
    sent = await parts.send(device)
    monkeypatch.setattr(registry, "MAX_FETCHES", 0)
    parts.wake(device.device_id)
    await asyncio.sleep(0)
    monkeypatch.setattr(registry, "MAX_FETCHES", 1)
    assert socket.messages() == []
    parts.tick(1_200)
    await eventually(socket.messages)
    assert socket.messages() == [sent]


async def test_what_was_acked_is_stored_before_the_mailbox_is_read_again(parts: Parts) -> None:
    limits = msgspec.structs.replace(parts.limits, settle_ms=0)
    parts.environment.limits = limits
    device, socket = await parts.device()
    sent = await parts.send(device)
    parts.deliver(device.device_id, 1, sent)
    socket.says(op="ack", ids=[sent])
    # The session remembers the ack no longer, and the store has not heard of it yet.
    parts.tick(200)
    parts.wake(device.device_id)
    await eventually(lambda: not parts.registry._fetches)
    assert socket.messages() == [sent]
    assert await parts.pending(device) == 0


# A mailbox that is broken.


async def spoil(parts: Parts, device: Registered) -> None:
    """Put a message into a mailbox whose frame cannot be read."""
    await parts.send(device)
    await parts.stages.store.batch.call("HSET", keys.frames(device.device_id), 1, b"\xc1")


async def dropped(socket: Socket, logs: list[EventDict]) -> None:
    await eventually(lambda: socket.ends)
    assert socket.ends == ["abort"]
    assert [entry["event"] for entry in logs] == ["session.failed"]


async def test_a_broken_mailbox_costs_its_own_device_the_connection_and_no_other(
    parts: Parts,
) -> None:
    device, healthy = await parts.device()
    unlucky, connected = await parts.device()
    await spoil(parts, unlucky)
    with capture_logs() as logs:
        parts.wake(unlucky.device_id)
        await dropped(connected, logs)
    with capture_logs() as logs:
        await dropped(parts.connect(unlucky), logs)
    parts.deliver(device.device_id, 1, message(1))
    assert healthy.messages() == [message(1)]
    assert len(parts.registry) == 1


# Upstream.


async def test_an_upstream_message_is_stored_and_answered(parts: Parts) -> None:
    _, socket = await parts.device()
    socket.says(op="send", id="r1", data={"a": 1})
    assert (await socket.hear("ok"))["ref"] == "r1"


async def test_an_upstream_message_of_a_displaced_session_is_refused(parts: Parts) -> None:
    device, socket = await parts.device()
    await parts.stages.attach(device, await parts.stages.shard())
    socket.says(op="send", id="r1", data={})
    error = await socket.hear("error")
    assert (error["code"], error["ref"]) == ("UNAVAILABLE", "r1")
    assert "connect again" in str(error["message"])


async def test_an_answer_to_a_device_that_left_is_dropped(parts: Parts) -> None:
    device, socket = await parts.device()
    socket.says(op="send", id="r1", data={})
    parts.wake(device.device_id)
    socket.lose()
    await parts.ledger.flush()
    assert socket.hears("ok") == []


async def test_what_is_the_connections_is_not_performed(parts: Parts) -> None:
    _, socket = await parts.device()
    with pytest.raises(TypeError, match="Send"):
        parts.registry.perform(socket.connection, Send(b""))


# A store that is away.


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_without_a_store_devices_wait_and_nothing_is_lost(
    wounded: tuple[Parts, Server],
) -> None:
    parts, server = wounded
    device, socket = await parts.device()
    stranger = await parts.stages.register()
    sent = await parts.send(device)
    server.pause()
    socket.says(op="send", id="r1", data={})
    parts.wake(device.device_id)
    assert await parts.connect(stranger).closed() == 1013
    error = await socket.hear("error")
    assert (error["code"], error["ref"]) == ("UNAVAILABLE", "r1")
    assert connects(parts, "store_away") == 1
    server.resume()
    assert socket.connection.open
    assert socket.messages() == []
    parts.tick(1_200)
    await eventually(socket.messages)
    assert socket.messages() == [sent]
