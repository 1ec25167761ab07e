"""A fleet and senders get messages through, and count them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtest import senders
from loadtest.fleet import Close, Connect, Expect, FleetProcess, Register, fleet_process
from loadtest.ledger import Ledger
from loadtest.senders import Account, Accountable, SendError
from tests.unit.loadtest.peer import REFUSED, Peer, running_peer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with running_peer() as running:
        yield running


@pytest.fixture
async def fleet() -> AsyncIterator[FleetProcess]:
    async with fleet_process() as process:
        yield process


async def connected(peer: Peer, fleet: FleetProcess, count: int) -> list[str]:
    answer = await fleet.ask(Register(peer.url, "p", "key", count, at_once=4))
    assert len(answer.tokens) == count
    await fleet.ask(Connect(peer.devices_url, count, source="127.0.0.3", at_once=4))
    return answer.tokens


async def test_every_message_is_received_and_acked(peer: Peer, fleet: FleetProcess) -> None:
    tokens = await connected(peer, fleet, 10)
    account = Account(peer.url, "p", "key")
    async with asyncio.TaskGroup() as group:
        expected = group.create_task(fleet.ask(Expect(60)))
        group.create_task(senders.send_singly(account, tokens, 20, at_once=3))
        group.create_task(senders.send_batches(account, tokens, 20, size=5, at_once=2))
        group.create_task(senders.send_steadily(account, tokens, 20, rate=1000, at_once=4))
    answer = expected.result()
    assert answer.received == len(peer.accepted) == 60
    assert answer.repeats == 0
    assert len(answer.latencies_us) == 20, "those of the steady sender say when they were due"
    async with asyncio.timeout(5):
        await fleet.ask(Close())
    assert set(peer.acked) <= set(peer.accepted)


async def test_what_does_not_come_is_not_waited_for_forever(
    peer: Peer, fleet: FleetProcess
) -> None:
    await connected(peer, fleet, 1)
    answer = await fleet.ask(Expect(1, timeout_s=0.05))
    assert answer.received == 0


async def test_a_fleet_says_what_went_wrong(peer: Peer, fleet: FleetProcess) -> None:
    with pytest.raises(ConnectionError, match="register: 404"):
        await fleet.ask(Register(peer.url, "other", "key", 1))


async def test_a_refused_message_ends_the_run(peer: Peer) -> None:
    account = Account(peer.url, "p", "key")
    with pytest.raises(ExceptionGroup) as single:
        await senders.send_singly(account, [REFUSED], 1, at_once=1)
    assert single.group_contains(SendError, match="404")
    with pytest.raises(ExceptionGroup) as batch:
        await senders.send_batches(account, [REFUSED], 2, size=2, at_once=1)
    assert batch.group_contains(SendError, match="in a batch")


async def test_an_accountable_sender_tries_again_under_the_same_key(peer: Peer) -> None:
    ledger = Ledger()
    sender = Accountable(Account(peer.url, "p", "key"), "d", {"token": "t"}, ledger)
    peer.fail_next = 2
    await sender.send(2, interval_s=0.001, offset_s=0.0)
    assert peer.keys == ["d-0", "d-0", "d-0", "d-1"]
    assert sender.retries == 2
    assert [fault.message for fault in ledger.verdict().lost] == peer.accepted


async def test_an_accountable_sender_does_not_repeat_what_is_wrong(peer: Peer) -> None:
    sender = Accountable(Account(peer.url, "p", "key"), "d", {"token": REFUSED}, Ledger())
    with pytest.raises(SendError, match="404"):
        await sender.send(1, interval_s=0.001, offset_s=0.0)


def test_a_message_has_three_hundred_bytes_of_data() -> None:
    for data in (senders.message("t")["data"], senders.message("t", due="123456789")["data"]):
        assert isinstance(data, dict)
        assert sum(len(key) + len(value) for key, value in data.items()) == 300
