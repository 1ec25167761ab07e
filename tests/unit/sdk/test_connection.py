"""The SDK's connection: whatever keeps it from connecting, the app hears of it."""

import asyncio
import logging
from pathlib import Path

import pytest

from sdk_client import ConnectionState, Device
from sdk_client.state import Registration, StateFile


def state_with(path: Path, device_url: str) -> Path:
    kept = StateFile.read(path)
    kept.save(
        Registration(
            url="http://127.0.0.1:1",
            project="demo",
            device_id="d" * 16,
            token="local.00.t",  # noqa: S106 - none
            credential="c",
            device_url=device_url,
        )
    )
    kept.close()
    return path


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://127.0.0.1:0", "http://127.0.0.1:1"])
def test_a_url_that_is_none_is_refused_at_once(tmp_path: Path, url: str) -> None:
    path = state_with(tmp_path / "device.json", url)
    with pytest.raises(ValueError, match=r"port|not a URL|Port"):
        Device.load(path)


async def test_whatever_goes_wrong_is_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reports: list[str] = []
    tried_again = asyncio.Event()

    def on_state(state: ConnectionState, detail: str) -> None:
        reports.append(detail)
        if state is ConnectionState.CONNECTING and len(reports) > 1:
            tried_again.set()

    path = state_with(tmp_path / "device.json", "ws://no..host:1")
    with caplog.at_level(logging.ERROR, "pushwire"):
        async with asyncio.timeout(10), Device.load(path, on_state=on_state) as device:
            waiting = asyncio.ensure_future(anext(device.messages()))
            await tried_again.wait()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert "cannot connect: UnicodeError" in reports[1]
    assert "connection.failed" in caplog.messages
