"""Rates of providers: no minute sees more than they allow."""

import pytest

from router.bridge import AnyBridge
from router.bridges import discover
from router.bridging import rates as module
from router.bridging.rates import Rates
from router.model.ids import DeviceId, ProjectId

FCM, APNS = discover()["fcm"], discover()["apns"]
NOW = 1_900_000_000_000
DEVICE, PROJECT = DeviceId("device"), ProjectId("demo")


def test_a_device_gets_no_more_than_240_a_minute() -> None:
    rates, sent = Rates(), 0
    for start in range(0, 180_000, 60_000):
        sent = sum(
            not rates.take_device(FCM, DEVICE, NOW + start + at) for at in range(0, 60_000, 50)
        )
        assert sent <= 240
    assert sent >= 170


def test_who_has_to_wait_is_told_how_long() -> None:
    rates = Rates()
    waits = [rates.take_device(FCM, DEVICE, NOW) for _ in range(61)]
    assert waits[:60] == [0] * 60
    assert 0 < waits[60] <= 334
    assert not rates.take_device(FCM, DEVICE, NOW + waits[60] + 1)
    assert not rates.take_device(FCM, DeviceId("other"), NOW)


def test_a_bridge_without_a_limit_has_none() -> None:
    rates = Rates()
    assert not any(rates.take_device(APNS, DEVICE, NOW) for _ in range(1000))
    assert rates.room(APNS, PROJECT, 1.0, NOW) is None


@pytest.mark.parametrize("bridge", [FCM, APNS])
def test_a_blocked_device_waits_until_then_and_others_do_not(bridge: AnyBridge) -> None:
    rates = Rates()
    rates.block_device(bridge, DEVICE, NOW + 5_000, NOW)
    assert rates.take_device(bridge, DEVICE, NOW) == 5_000
    assert not rates.take_device(bridge, DeviceId("other"), NOW)
    assert not rates.take_device(bridge, DEVICE, NOW + 5_000)


def test_a_project_gets_its_share_of_600_000_a_minute() -> None:
    rates, sent = Rates(), 0
    for at in range(0, 60_000, 100):
        room = rates.room(FCM, PROJECT, 0.5, NOW + at)
        assert room is not None
        rates.took(FCM, PROJECT, 0.5, room, NOW + at)
        sent += room
    assert 290_000 <= sent <= 300_000


def test_what_is_kept_of_devices_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DEVICES", 100)
    rates = Rates()
    for number in range(250):
        rates.take_device(FCM, DeviceId(str(number)), NOW)
        rates.block_device(FCM, DeviceId(str(number)), NOW + 1, NOW)
    assert len(rates._devices) <= 100
    assert len(rates._blocked) <= 100
