"""The store charges as `router.policy.rates` does, and shares a bucket among processes."""

import secrets
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.model.ids import Partition
from router.model.limits import Bucket, Limit, Rate
from router.policy.rates import SECOND_US, charge
from router.store import keys
from router.store.connection import Store
from router.store.link import fields
from router.store.rates import Rates, number
from tests.tidy.tree import ROOT

NOW_US = 1_764_000_000_123_456


def lua_charge() -> str:
    """Give a script that runs the prelude's `charge` at a time of the caller's choice."""
    prelude = (ROOT / "router" / "store" / "lua" / "prelude.lua").read_text()
    functions = [
        prelude[(start := prelude.index(f"local function {name}(")) : prelude.index("\nend", start)]
        + "\nend\n"
        for name in ("number", "charge")
    ]
    return "".join(functions) + (
        "local given, full, left, wait = charge(ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4],"
        " tonumber(ARGV[5])) return {given, number(full), left, number(wait)}"
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ahead_us=st.floats(-1e7, 1e9),
    per_s=st.floats(0.01, 1e6),
    burst=st.floats(1, 1e6),
    most=st.integers(1, 100_000),
)
async def test_the_store_charges_as_the_policy_does(
    store: Store, ahead_us: float, per_s: float, burst: float, most: int
) -> None:
    kept = NOW_US + ahead_us
    expected = charge(kept, NOW_US, Rate(per_s, burst), most)
    reply = await store.batch.call(
        "EVAL", lua_charge(), 0, number(kept), NOW_US, number(per_s), number(burst), most
    )
    granted, full, left, wait = fields(reply)
    assert (granted, left) == (expected.granted, expected.left)
    assert float(cast("bytes", full)) == expected.full_us
    assert float(cast("bytes", wait)) == expected.wait_us


def bucket(limit: Limit, per_s: float, burst: float, name: str) -> Bucket:
    key = keys.rate(Partition("07"), f"{limit.value}:{name}")
    return Bucket(limit, name, key, Rate(per_s, burst))


async def take(store: Store, most: int, *buckets: Bucket) -> tuple[int, list[int]]:
    taken, levels = Rates.charged(await Rates(store).begin_charge(buckets, most))
    return taken, [level.left for level in levels]


async def test_the_emptiest_of_several_buckets_decides(store: Store) -> None:
    name = secrets.token_hex(8)
    project, key = bucket(Limit.PROJECT, 0.001, 10, name), bucket(Limit.KEY, 0.001, 3, name)
    assert await take(store, 5, project, key) == (3, [7, 0])
    assert await take(store, 5, project, key) == (0, [7, 0])
    assert await take(store, 5, project) == (5, [2])


async def test_a_bucket_is_kept_until_it_is_full(store: Store) -> None:
    one = bucket(Limit.PROJECT, 1, 100, secrets.token_hex(8))
    await take(store, 40, one)
    assert 38_000 < cast("int", await store.batch.call("PTTL", one.key)) <= 40_001
    assert (await take(store, 100, one))[0] == 60


async def test_what_was_refused_leaves_nothing_behind(store: Store) -> None:
    name = secrets.token_hex(8)
    full, other = bucket(Limit.KEY, 0.001, 1, name), bucket(Limit.PROJECT, 1, 5, name)
    await take(store, 1, full)
    assert (await take(store, 1, full, other))[0] == 0
    assert await store.batch.call("EXISTS", other.key) == 0


async def test_the_wait_is_told(store: Store) -> None:
    one = bucket(Limit.PROJECT, 0.01, 1, secrets.token_hex(8))
    await take(store, 1, one)
    _, (level,) = Rates.charged(await Rates(store).begin_charge((one,), 1))
    assert level.wait_s == pytest.approx(100, abs=20)


async def test_a_bucket_from_the_future_is_empty_and_no_more(store: Store) -> None:
    one = bucket(Limit.PROJECT, 1, 5, secrets.token_hex(8))
    await store.batch.call("SET", one.key, str(NOW_US + 10**10 * SECOND_US))
    _, (level,) = Rates.charged(await Rates(store).begin_charge((one,), 1))
    assert level.wait_s == pytest.approx(1, abs=0.01)


async def test_a_bucket_from_the_future_fills_from_when_it_was_found(store: Store) -> None:
    one = bucket(Limit.PROJECT, 1, 5, secrets.token_hex(8))
    await store.batch.call("SET", one.key, str(NOW_US + 10**10 * SECOND_US))
    assert await take(store, 1, one) == (0, [0])
    assert 0 < cast("int", await store.batch.call("PTTL", one.key)) <= 5_001
