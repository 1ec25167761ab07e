"""Endpoints that take long leave room for those that do not."""

from router.callbacks.shares import SLOW_S, Shares

MOST = 16


def crowd(shares: Shares, name: str, lanes: int, now_s: float = 0.0) -> int:
    """Begin as many lanes as are admitted, and tell how many."""
    begun = 0
    for lane in range(lanes):
        if shares.admits(name, now_s):
            shares.begin(name, lane, now_s)
            begun += 1
    return begun


def known(shares: Shares, name: str, took_s: float) -> None:
    """Make one request that took so long."""
    shares.begin(name, 99, 0.0)
    shares.answered(name, 99, took_s)
    shares.end(name, 99)


def test_alone_an_endpoint_has_all_its_lanes() -> None:
    shares = Shares(MOST)
    known(shares, "slow", SLOW_S)
    assert crowd(shares, "slow", 8) == 8


def test_slow_endpoints_have_half_and_quick_ones_the_rest() -> None:
    shares = Shares(MOST)
    known(shares, "quick", 0.1)
    for name in ("a", "b", "c"):
        known(shares, name, SLOW_S)
    assert [crowd(shares, name, 8) for name in ("a", "b", "c")] == [8, 0, 0]
    assert crowd(shares, "quick", 9) == 8
    assert not shares.admits("quick", 0.0)


def test_of_unknown_endpoints_each_has_one_place_when_it_gets_crowded() -> None:
    shares = Shares(MOST)
    known(shares, "quick", 0.1)
    begun = [crowd(shares, f"new-{n}", 8) for n in range(8)]
    assert begun == [8, 1, 1, 1, 1, 0, 0, 0]
    assert crowd(shares, "quick", 8) == 4


def test_an_endpoint_is_slow_as_soon_as_a_request_takes_long() -> None:
    shares = Shares(MOST)
    known(shares, "quick", 0.1)
    assert crowd(shares, "quick", 8) == 8
    assert shares.admits("quick", SLOW_S / 2)
    assert not shares.admits("quick", SLOW_S)
    assert shares.yields("quick", SLOW_S)
    for lane in range(8):
        shares.answered("quick", lane, SLOW_S * 2)
        shares.end("quick", lane)
    assert shares.is_slow("quick", SLOW_S * 2)
    assert not shares.yields("quick", SLOW_S * 2)
    known(shares, "quick", 0.1)
    assert not shares.is_slow("quick", SLOW_S * 2)


def test_what_is_deleted_is_forgotten() -> None:
    shares = Shares(MOST)
    known(shares, "gone", SLOW_S)
    shares.forget(set())
    assert not shares.is_slow("gone", 0.0)
