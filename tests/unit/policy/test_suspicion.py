"""Bad addresses: one by one they are the devices' fault, in bulk the credentials'."""

from router.policy.suspicion import BULK, SHARE, WINDOW_MS, Suspicion

NOW = 10 * WINDOW_MS


def bad(suspicion: Suspicion, count: int, now_ms: int = NOW) -> list[bool]:
    return [suspicion.bad(f"{now_ms}-{number}", now_ms) for number in range(count)]


def test_a_few_are_the_devices_fault() -> None:
    assert bad(Suspicion(), BULK - 1) == [False] * (BULK - 1)


def test_many_and_hardly_a_good_one_are_the_credentials_fault() -> None:
    suspicion = Suspicion()
    suspicion.good(NOW)
    assert bad(suspicion, BULK + 1)[-2:] == [True, True]


def test_many_among_good_ones_are_the_devices_fault() -> None:
    suspicion = Suspicion()
    for _ in range(BULK // SHARE + 1):
        suspicion.good(NOW)
    assert not any(bad(suspicion, 5 * BULK))


def test_the_same_address_counts_once() -> None:
    suspicion = Suspicion()
    assert not any(suspicion.bad("same", NOW) for _ in range(2 * BULK))


def test_what_is_long_ago_does_not_count() -> None:
    suspicion = Suspicion()
    bad(suspicion, BULK - 1)
    assert not suspicion.bad("one more", NOW + WINDOW_MS)
