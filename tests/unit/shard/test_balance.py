"""Shards that hold more than their share send devices to the others, a few at a time."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.process import Entropy
from gateway.shard.balance import MOVED_SHARE, SLACK_DEVICES, Balance, surplus
from router.model.ids import ShardId
from router.store.leases import Leases
from tests.unit.shard.parts import Parts


@given(st.integers(0, 20_000), st.lists(st.integers(0, 20_000), max_size=60))
def test_no_more_go_than_a_shard_has_too_many_nor_than_the_others_can_bear(
    own: int, others: list[int]
) -> None:
    count = surplus(own, others)
    mean = (own + sum(others)) / (len(others) + 1)
    assert 0 <= count <= max(0, own - mean) + 1
    assert count <= max(SLACK_DEVICES, own * MOVED_SHARE)


def test_what_chance_makes_stays() -> None:
    assert surplus(110, [100, 95]) == 0
    assert surplus(15_400, [15_000, 14_600]) == 0
    assert surplus(500, []) == 0


def test_a_shard_that_began_anew_gets_its_share_within_rounds() -> None:
    shards = [200, 200, 200, 0]
    for _ in range(10):
        moved = [surplus(own, shards[:n] + shards[n + 1 :]) for n, own in enumerate(shards)]
        shards = [own - moved[n] + (sum(moved) - moved[n]) // 3 for n, own in enumerate(shards)]
    assert max(shards) < 1.3 * sum(shards) / 4


def lease(connections: int) -> bytes:
    return msgspec.json.encode({"probe_ms": 1, "connections": connections})


async def test_devices_are_told_to_go_and_who_stays_is_closed_a_round_later(
    parts: Parts,
) -> None:
    sockets = [(await parts.device())[1] for _ in range(45)]
    balance = Balance(parts.shard, parts.registry, Leases(parts.stages.store), Entropy())
    assert balance.look({parts.shard: lease(45)}) == 0
    assert balance.look({parts.shard: lease(45), ShardId("other"): lease(0)}) == SLACK_DEVICES
    told = [socket for socket in sockets if socket.hears("goaway")]
    assert len(told) == SLACK_DEVICES
    assert {frame["reason"] for socket in told for frame in socket.hears("goaway")} == {"balance"}
    assert balance.look({parts.shard: lease(45), ShardId("other"): lease(45)}) == 0
    for socket in told:
        assert await socket.closed() == 1001


async def test_a_shard_that_drains_sends_nobody_away_besides(parts: Parts) -> None:
    for _ in range(45):
        await parts.device()
    parts.registry.draining = True
    balance = Balance(parts.shard, parts.registry, Leases(parts.stages.store), Entropy())
    assert balance.look({ShardId("other"): lease(0)}) == 0
