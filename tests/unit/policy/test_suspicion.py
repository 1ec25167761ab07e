"""Bad addresses: one by one they are the devices' fault, in bulk the credentials'."""

import pytest

from router.policy.suspicion import BULK, NEW_MS, SHARE, WINDOW_MS, Fault, Suspicion

NOW = 10 * NEW_MS


def bad(suspicion: Suspicion, count: int, now_ms: int = NOW, given_ms: int = NOW) -> list[Fault]:
    return [suspicion.bad(f"{now_ms}-{number}", now_ms, given_ms) for number in range(count)]


def test_a_few_are_the_devices_fault() -> None:
    assert bad(Suspicion(), BULK - 1) == [Fault.DEVICE] * (BULK - 1)


def test_many_and_no_good_one_are_the_fault_of_new_credentials() -> None:
    assert bad(Suspicion(), BULK + 1)[-2:] == [Fault.CREDENTIALS] * 2


@pytest.mark.parametrize("given_ms", [NOW - NEW_MS, 0])
def test_credentials_that_were_given_long_ago_are_not_found_wrong(given_ms: int) -> None:
    assert bad(Suspicion(), BULK + 1, given_ms=given_ms)[-2:] == [Fault.UNKNOWN] * 2


def test_credentials_that_were_good_once_are_not_found_wrong() -> None:
    suspicion = Suspicion()
    suspicion.good(NOW)
    assert bad(suspicion, BULK + 1)[-2:] == [Fault.UNKNOWN] * 2
    assert bad(suspicion, BULK, NOW + 2 * WINDOW_MS)[-2:] == [Fault.DEVICE, Fault.UNKNOWN]


def test_many_among_good_ones_are_the_devices_fault() -> None:
    suspicion = Suspicion()
    for _ in range(BULK // SHARE + 1):
        suspicion.good(NOW)
    assert set(bad(suspicion, 5 * BULK)) == {Fault.DEVICE}


def test_the_same_address_counts_once() -> None:
    suspicion = Suspicion()
    told = {suspicion.bad("same", NOW, NOW) for _ in range(2 * BULK)}
    assert told == {Fault.DEVICE}


def test_what_is_long_ago_does_not_count_once_something_was_good() -> None:
    suspicion = Suspicion()
    suspicion.good(NOW)
    bad(suspicion, BULK - 1)
    assert suspicion.bad("one more", NOW + WINDOW_MS, NOW) is Fault.DEVICE


def test_wrong_credentials_take_nine_addresses_however_slowly_they_are_found_out() -> None:
    suspicion = Suspicion()
    told = [suspicion.bad(str(number), NOW + number * WINDOW_MS, NOW) for number in range(BULK)]
    assert told == [Fault.DEVICE] * (BULK - 1) + [Fault.CREDENTIALS]
