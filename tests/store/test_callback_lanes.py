"""Lanes and dead letters: what is repeated changes nothing, what was given out stays as it is."""

import os
from collections.abc import Sequence

import pytest

from router.callbacks.endpoints import new_callback_id
from router.model.ids import Partition
from router.model.webhook import Attempt, Callback, DeadLetter, partition_of_webhook
from router.store import keys
from router.store.callbacks import FULL, Lanes, Source, element
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters

NOW = 1_764_000_000_000
PARTITION = Partition("0a")
LANE = 2
AROUND = (b'{"receipts":[', b"]}")


def new_id() -> str:
    return new_callback_id(os.urandom)


@pytest.fixture
def webhook() -> str:
    return f"wh_{new_id()}"


async def push(
    store: Store, webhook: str, first: str, last: str, bodies: Sequence[str], kind: str = "r"
) -> str:
    elements = [element(kind, NOW, body.encode()) for body in bodies]
    source = Source(PARTITION, first, last)
    return await Lanes(store).push(webhook, source, NOW, 200, 10_000, elements)


async def take(store: Store, webhook: str, now_ms: int = NOW + 200) -> Callback | None:
    return await Lanes(store).take(webhook, LANE, new_id(), now_ms, 5_000, AROUND)


async def due(store: Store, webhook: str) -> int | None:
    name = keys.callbacks_due(partition_of_webhook(webhook))
    score = await store.batch.call("ZSCORE", name, f"{webhook}:{LANE}")
    return int(score) if isinstance(score, bytes) else None


async def test_an_entry_enters_a_lane_once(store: Store, webhook: str) -> None:
    assert await push(store, webhook, "5-1", "7-0", ["1", "2"]) == ""
    assert await push(store, webhook, "5-1", "9-0", ["1", "2", "3"]) == "7-0"
    assert await push(store, webhook, "7-0", "7-0", ["2"]) == "7-0"
    assert await push(store, webhook, "7-1", "10-0", ["3"]) == ""
    callback = await take(store, webhook)
    assert callback is not None
    assert callback.body == b'{"receipts":[1,2,3]}'
    assert callback.receipts == 3


async def test_a_lane_waits_for_more_receipts_and_not_for_a_hundred(
    store: Store, webhook: str
) -> None:
    await push(store, webhook, "1-0", "1-0", ["1"])
    assert await due(store, webhook) == NOW + 200
    assert await take(store, webhook, NOW + 199) is None
    await push(store, webhook, "2-0", "2-0", [str(number) for number in range(120)])
    assert await due(store, webhook) == NOW
    callback = await take(store, webhook, NOW)
    assert callback is not None
    assert callback.receipts == 100
    assert await due(store, webhook) == NOW + 5_000


async def test_what_was_given_out_keeps_its_id_and_content(store: Store, webhook: str) -> None:
    await push(store, webhook, "1-0", "1-0", ["1"])
    first = await take(store, webhook)
    assert first is not None
    await push(store, webhook, "2-0", "2-0", ["2"])
    history = (Attempt(NOW, 500, "HTTP 500"),)
    await Lanes(store).failed(webhook, LANE, first.id, NOW + 60_000, history)
    assert await due(store, webhook) == NOW + 60_000
    again = await take(store, webhook, NOW + 60_000)
    assert again is not None
    assert (again.id, again.body, again.created_ms) == (first.id, first.body, first.created_ms)
    assert again.history == history
    assert not await Lanes(store).done(webhook, LANE, "msg_other", NOW)
    assert await Lanes(store).done(webhook, LANE, first.id, NOW)
    assert not await Lanes(store).done(webhook, LANE, first.id, NOW)
    following = await take(store, webhook, NOW + 60_000)
    assert following is not None
    assert following.body == b'{"receipts":[2]}'
    assert following.id != first.id


async def test_other_kinds_go_alone_and_in_their_place(store: Store, webhook: str) -> None:
    await push(store, webhook, "1-0", "1-0", ["1", "2"])
    await push(store, webhook, "2-0", "2-0", ["whole"], kind="c")
    await push(store, webhook, "3-0", "3-0", ["3"])
    bodies = []
    while (callback := await take(store, webhook)) is not None:
        bodies.append((callback.body, callback.receipts))
        await Lanes(store).done(webhook, LANE, callback.id, NOW)
    assert bodies == [(b'{"receipts":[1,2]}', 2), (b"whole", 0), (b'{"receipts":[3]}', 1)]
    assert await due(store, webhook) is None


async def test_a_full_lane_takes_nothing_until_it_was_emptied(store: Store, webhook: str) -> None:
    assert await push(store, webhook, "1-0", "1-0", ["x" * 20_000]) == ""
    assert await push(store, webhook, "2-0", "2-0", ["y"]) == FULL
    callback = await take(store, webhook)
    assert callback is not None
    assert await push(store, webhook, "2-0", "2-0", ["y"]) == ""


def letter(webhook: str, identifier: str, died_ms: int = NOW) -> DeadLetter:
    return DeadLetter(
        identifier, webhook, LANE, "message.receipts", 1, NOW, died_ms, "overflow", (), b"{}"
    )


async def test_burying_again_changes_nothing(store: Store, webhook: str) -> None:
    letters = DeadLetters(store, Bounds(10, 1_000))
    await push(store, webhook, "1-0", "1-0", ["1"])
    callback = await take(store, webhook)
    assert callback is not None
    assert await letters.bury(letter(webhook, callback.id)) == 0
    assert await letters.bury(letter(webhook, callback.id)) is None
    assert await take(store, webhook) is None
    assert await letters.bury(letter(webhook, "msg_b"), PARTITION, "2-0") == 0
    assert await letters.bury(letter(webhook, "msg_c"), PARTITION, "2-0") is None
    assert await push(store, webhook, "2-0", "2-0", ["2"]) == "2-0"
    assert {name for _, name in await letters.ids(webhook)} == {callback.id, "msg_b"}


async def test_dead_letters_are_bounded_and_expire(store: Store, webhook: str) -> None:
    letters = DeadLetters(store, Bounds(3, 1_000))
    for number in range(1, 6):
        died_ms = NOW + number
        lost = await letters.bury(
            letter(webhook, f"msg_{number}", died_ms), PARTITION, f"{number}-0"
        )
        assert lost == (number > 3)
    assert [name for _, name in await letters.ids(webhook)] == ["msg_3", "msg_4", "msg_5"]
    assert await letters.extent(webhook) == (3, NOW + 3)
    assert await letters.trim(webhook, NOW + 1_004) == 2
    assert await letters.trim(webhook, NOW + 9_000) == 1
    assert await letters.extent(webhook) == (0, 0)
    assert await store.batch.call("EXISTS", keys.letters(webhook)) == 0


async def test_a_replay_is_queued_once_with_its_id_and_body(store: Store, webhook: str) -> None:
    letters = DeadLetters(store, Bounds(10, 1_000))
    dead = letter(webhook, "msg_a")
    await letters.bury(dead, PARTITION, "1-0")
    assert await letters.replay(dead, NOW, 10_000) == 1
    assert await letters.replay(dead, NOW, 10_000) == 0
    callback = await take(store, webhook)
    assert callback is not None
    assert (callback.id, callback.body, callback.receipts) == ("msg_a", b"{}", 1)
    await Lanes(store).done(webhook, LANE, "msg_a", NOW)
    assert await take(store, webhook) is None


async def test_a_replay_into_a_full_lane_stays_a_dead_letter(store: Store, webhook: str) -> None:
    letters = DeadLetters(store, Bounds(10, 1_000))
    dead = letter(webhook, "msg_a")
    await letters.bury(dead, PARTITION, "1-0")
    await push(store, webhook, "2-0", "2-0", ["x" * 20_000])
    assert await letters.replay(dead, NOW, 10_000) == -1
    assert await letters.get(webhook, ["msg_a"]) == [dead]
