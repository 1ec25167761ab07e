"""Open-loop senders number their messages, never give one up, and say what became of each."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtest.run.account import Sent
from loadtest.run.app_servers import AppServers, Sender
from loadtest.run.member import MemberError
from loadtest.run.protocol import Dismiss, Done, Halt, Load, Place
from loadtest.run.spec import parse
from tests.unit.loadtest.peer import REFUSED, Peer, running_peer

TOKENS = ["a", "b", "c"]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with running_peer() as running:
        yield running


def load(url: str, *overrides: str, tokens: list[str] = TOKENS, tell_ids: bool = False) -> Load:
    fields = ("arrivals=constant", "rate=200", "duration=0.1", "connections=4", *overrides)
    spec = parse(f"devices = {len(tokens)}", fields)
    place = Place(url, "", "p", "key", "client")
    return Load(place, spec, "run", tokens, tell_ids=tell_ids)


def numbered(done: Done) -> int:
    return sum(sent.last for sent in done.sent.values())


async def test_every_message_is_sent_once_and_known_by_its_number(peer: Peer) -> None:
    sender = Sender(load(peer.url, tell_ids=True))
    done = await sender.run()
    tick = sender.tick()
    assert tick.due == tick.accepted == tick.expected == numbered(done) == 20
    assert len(peer.keys) == len(set(peer.keys)) == 20
    assert set(done.sent) <= {"token 0", "token 1", "token 2"}
    assert sorted(sender.ids([(name, number) for name, number, _ in tick.ids])) == sorted(
        peer.accepted
    )
    assert sender.ids([("token 0", 99), ("nobody", 1)]) == ["", ""]
    assert tick.backlog == 0
    assert tick.answer
    assert tick.lag


async def test_a_message_without_success_is_sent_again_under_its_key(peer: Peer) -> None:
    peer.fail_next = 3
    sender = Sender(load(peer.url, "connections=1", "duration=0.02"))
    done = await sender.run()
    assert sender.tick().errors == {"503": 3}
    assert peer.keys[0] == peer.keys[1] == peer.keys[2] == peer.keys[3] != peer.keys[4]
    assert numbered(done) == len(peer.accepted) == 4


async def test_a_message_that_is_refused_is_not_sent_again(peer: Peer) -> None:
    sender = Sender(load(peer.url, "duration=0.01", tokens=[REFUSED]))
    done = await sender.run()
    assert done.sent == {"token 0": Sent(last=2, refused=[1, 2])}
    assert sender.tick().errors == {"404": 2}
    assert len(peer.keys) == 2
    assert sender.ids([("token 0", 1)]) == [""]


async def test_batches_carry_one_message_of_a_stream(peer: Peer) -> None:
    sender = Sender(load(peer.url, "batch=10", "connections=1", "rate=5000", "duration=0.02"))
    done = await sender.run()
    assert numbered(done) == len(peer.accepted) == 100
    assert len(set(peer.accepted)) == 100


async def test_a_repeat_that_is_answered_with_another_id_is_told(peer: Peer) -> None:
    sender = Sender(load(peer.url, "duplicates=1.0", "duration=0.01"))
    done = await sender.run()
    assert sender.tick().duplicates == 2
    assert len(done.conflicts) == 2, "this peer knows no idempotency"
    assert len(peer.keys) == 2 * len(set(peer.keys))


async def test_the_sending_may_be_ended_early(peer: Peer) -> None:
    sender = Sender(load(peer.url, "duration=600"))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(sender.run())
        while not peer.accepted:  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0.01)
        sender.halt(now=False)
    done = running.result()
    assert numbered(done) == len(peer.accepted)
    assert not any(sent.unknown for sent in done.sent.values())


async def test_what_has_no_answer_in_the_end_is_unknown(peer: Peer) -> None:
    peer.fail_next = 10_000
    sender = Sender(load(peer.url, "duration=600"))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(sender.run())
        while len(peer.keys) < 3:  # noqa: ASYNC110 - the peer tells nobody
            await asyncio.sleep(0.01)
        sender.halt(now=False)
        sender.halt(now=True)
    done = running.result()
    assert done.sent
    assert all(sent == Sent(last=1, unknown=[1]) for sent in done.sent.values())


async def test_a_rate_of_nothing_lets_the_time_pass(peer: Peer) -> None:
    done = await Sender(load(peer.url, "rate=0", "duration=0.05")).run()
    assert not done.sent
    assert not peer.keys


async def test_a_gateway_that_never_answers_is_not_waited_for_forever(peer: Peer) -> None:
    peer.fail_next = 10_000
    done = await Sender(load(peer.url, "duration=0.05", "settle=0.05")).run()
    assert all(sent == Sent(last=1, unknown=[1]) for sent in done.sent.values())


async def test_a_halt_before_the_load_counts_too(peer: Peer) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        app_servers = AppServers(tasks)
        await app_servers.carry_out(Halt())
        done = await app_servers.carry_out(load(peer.url, "duration=600"))
    assert not done.sent
    with pytest.raises(MemberError):
        await app_servers.carry_out(Dismiss(unregister=False))
