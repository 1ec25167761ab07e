"""How jobs of bridges end: once, counted once, and begun again only when somebody asks for it."""

import os
from collections.abc import AsyncIterator

import pytest

from router.model.webhook import DeadLetter
from router.store import keys
from router.store.bridge_jobs import Bridged, Failed, Job
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters
from tests.store.bridge_world import NOW, WORKER, World


@pytest.fixture
async def world(store: Store) -> AsyncIterator[World]:
    made = World(store)
    yield made
    await made.leases.partition_release(made.partition, WORKER)


async def given_up(world: World, job: Job, now_ms: int = NOW, *, buried: bool = True) -> None:
    failed = [Failed(job.kept, "exhausted: 503", now_ms, buried)]
    await world.jobs.failed(world.partition, failed)


async def test_what_was_given_up_late_is_not_tried_again_from_the_queue(world: World) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take(hold_ms=1_000)
    assert await world.ready(NOW + 1_000) == [world.lane], "its hold ended while the store was away"
    await given_up(world, job, NOW + 1_001)
    assert await world.take(NOW + 1_002) == []
    assert await world.due(NOW + 59_000) == []
    assert await world.events(sent.message) == ["accepted", "failed: exhausted: 503"]


async def test_what_was_given_up_is_tried_again_when_it_is_asked_for_and_not_twice(
    world: World,
) -> None:
    await world.register()
    sent = await world.send()
    await world.ready()
    (job,) = await world.take()
    assert not await world.jobs.again(job.kept, NOW), "it is being tried"
    await given_up(world, job)
    assert await world.jobs.again(job.kept, NOW + 1)
    assert not await world.jobs.again(job.kept, NOW + 1)
    for at in (NOW + 1, NOW + 2):
        await world.ready(at)
        (again,) = await world.take(at)
        await given_up(world, again, at)
        assert await world.jobs.again(job.kept, at + 1)
    assert await world.events(sent.message) == ["accepted", "failed: exhausted: 503"]
    await world.ready(NOW + 3)
    (last,) = await world.take(NOW + 3)
    await world.jobs.bridged(world.partition, [Bridged(last.kept, "id", NOW + 4)])
    assert (await world.events(sent.message))[-1] == "bridged: id"


@pytest.mark.parametrize("buried", [True, False])
async def test_only_may_be_tried_again_until_it_expires_where_a_letter_is_kept(
    world: World, buried: bool
) -> None:
    await world.register()
    sent = await world.send("2|o", ttl_ms=60_000)
    await world.ready()
    (job,) = await world.take()
    await given_up(world, job, buried=buried)
    assert await world.events(sent.message) == ["accepted", "failed: exhausted: 503"]
    assert await world.jobs.again(job.kept, NOW + 1) is buried
    if not buried:
        return
    await world.ready(NOW + 1)
    (again,) = await world.take(NOW + 1)
    assert again.frame == b"frame"
    await given_up(world, again, NOW + 2)
    assert not await world.jobs.again(job.kept, NOW + 60_000)
    await world.mailboxes.lapse(sent.message, NOW + 60_000)
    assert await world.events(sent.message) == ["accepted", "failed: exhausted: 503"]
    assert not await world.fields(sent.message)


async def test_only_that_failed_can_go_after_all(world: World) -> None:
    await world.register()
    sent = await world.send("2|o", ttl_ms=60_000)
    await world.ready()
    (job,) = await world.take()
    await given_up(world, job)
    await world.jobs.again(job.kept, NOW + 1)
    await world.ready(NOW + 1)
    (again,) = await world.take(NOW + 1)
    await world.jobs.bridged(world.partition, [Bridged(again.kept, "id", NOW + 2)])
    assert (await world.events(sent.message))[-1] == "bridged: id"
    assert not await world.fields(sent.message)


async def test_now_or_never_is_not_tried_again(world: World) -> None:
    await world.register()
    sent = await world.send(ttl_ms=0)
    await world.ready()
    (job,) = await world.take()
    await given_up(world, job)
    assert not await world.jobs.again(job.kept, NOW)
    assert await world.events(sent.message) == ["accepted", "failed: exhausted: 503"]


async def test_a_letter_goes_only_where_it_is_the_one_that_was_meant(store: Store) -> None:
    letters, name = DeadLetters(store, Bounds(10, 60_000)), f"br_{os.urandom(5).hex()}_apns"
    letter = letter_of_time(name, NOW)
    await letters.keep(letter)
    await letters.keep(letter_of_time(name, NOW + 5))
    assert not await letters.drop(name, letter.id, NOW)
    assert [each.died_ms for each in await letters.get(name, [letter.id])] == [NOW + 5]
    assert await letters.drop(name, letter.id, NOW + 5)
    assert await letters.ids(name) == []
    assert await letters.get(name, [letter.id]) == []
    assert not await letters.drop(name, letter.id)


async def test_letters_that_nobody_trims_end_with_their_retention(store: Store) -> None:
    letters, name = DeadLetters(store, Bounds(10, 60_000)), f"br_{os.urandom(5).hex()}_apns"
    await letters.keep(letter_of_time(name, NOW))
    for key in (keys.dead_letters(name), keys.letters(name)):
        left_ms = await store.batch.call("PTTL", key)
        assert isinstance(left_ms, int)
        assert 0 < left_ms <= 60_000


def letter_of_time(name: str, died_ms: int) -> DeadLetter:
    return DeadLetter(
        id="msg_same",
        webhook=name,
        lane=0,
        kind="bridge.push",
        receipts=0,
        created_ms=NOW,
        died_ms=died_ms,
        reason="exhausted",
        history=(),
        body=b"{}",
    )
