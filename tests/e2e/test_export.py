"""The export of a real gateway: its worker is killed in the middle of it, and what users see."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.exported import files_in, once, rows_in
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

MESSAGES: Final = 4_000
BATCH: Final = 100


async def send_all(gateway: RunningGateway, tokens: list[str]) -> set[str]:
    """Send to each device in turn; give the ids."""
    sent: set[str] = set()
    for start in range(0, MESSAGES, BATCH):
        messages = [
            {"token": tokens[n % len(tokens)], "data": {"n": str(n)}}
            for n in range(start, start + BATCH)
        ]
        status, body = await gateway.call("POST", "/messages:sendBatch", {"messages": messages})
        assert status == 200, body
        answers: Any = body["responses"]
        sent |= {answer["name"].rpartition("/")[2] for answer in answers}
    return sent


@pytest.mark.parametrize("format_", ["ndjson", "parquet"])
async def test_a_worker_killed_in_the_middle_loses_no_event(tmp_path: Path, format_: str) -> None:
    out = tmp_path / "out"
    settings: dict[str, object] = {
        "export_url": out.as_uri(),
        "export_format": format_,
        "export_rotate_s": 0.1,
        "export_rotate_bytes": 65_536,
        "lease_s": 1.0,
    }
    async with running_gateway(tmp_path, **settings) as gateway:
        tokens = [(await gateway.register())["token"] for _ in range(20)]
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_all(gateway, tokens))
            for _ in range(4):
                seen = len(files_in(out))
                await eventually(lambda seen=seen: len(files_in(out)) > seen, 30.0)  # type: ignore[misc]
                pid = gateway.kill("worker")
                await gateway.replaced("worker", pid)
        sent = sending.result()
        assert len(sent) == MESSAGES

        def accepted() -> set[str]:
            return {row["message_id"] for row in rows_in(out) if row["event"] == "accepted"}

        await eventually(lambda: accepted() >= sent, 60.0)
    rows = once(rows_in(out))  # repeats carry the same event_id, and say the same
    events = [row["message_id"] for row in rows if row["event"] == "accepted"]
    assert sorted(events) == sorted(sent)


async def test_status_tells_how_the_export_stands(tmp_path: Path) -> None:
    out = tmp_path / "out"
    data_dir = str(tmp_path / "data")
    settings = {"export_url": out.as_uri(), "export_rotate_s": 0.1}
    async with running_gateway(tmp_path, **settings) as gateway:
        device = await gateway.register()
        await gateway.send(device["token"], data={"n": "1"})
        await eventually(lambda: files_in(out), 20.0)

        async def told() -> str:
            _, shown, _ = await pushwire("export", "status", "--data-dir", data_dir)
            return shown if "last file" in shown else ""

        shown: str = await eventually(told, 20.0)
        assert "on, 64 partitions" in shown
        assert str(files_in(out)[-1].relative_to(out)) in shown
        code, as_json, _ = await pushwire("export", "status", "--json", "--data-dir", data_dir)
        assert code == 0
        assert json.loads(as_json)["file"]["events"] == 1
        assert await gateway.metric("pushwire_export_events_total") == 1


async def test_bad_settings_stop_the_start_and_tell_no_secret(tmp_path: Path) -> None:
    for name, value in {
        "PUSHWIRE_EXPORT_URL": "s3://bucket?sig=hidden",
        "PUSHWIRE_EXPORT_HEADERS": "hidden",
        "PUSHWIRE_EXPORT_FORMAT": "csv",
    }.items():
        environment = {"PUSHWIRE_EXPORT_URL": "https://example.com", name: value}
        words = ("serve", "--data-dir", str(tmp_path / "data"))
        code, _, err = await pushwire(*words, environment=environment)
        assert code == 2
        assert name.removeprefix("PUSHWIRE_").lower() in err.lower()
        assert "hidden" not in err


async def test_secrets_of_the_export_are_neither_shown_nor_logged(tmp_path: Path) -> None:
    environment = {
        "PUSHWIRE_EXPORT_URL": "https://example.com/in?sig=hidden",
        "PUSHWIRE_EXPORT_HEADERS": "Authorization: hidden",
    }
    code, shown, _ = await pushwire("settings", environment=environment)
    assert code == 0
    assert "https://example.com/in?…" in shown
    assert "hidden" not in shown
    headers = tmp_path / "pushwire.toml"
    headers.write_text('export_headers = "Authorization: hidden"\n')
    settings = {"export_url": "http://127.0.0.1:1/in?sig=hidden", "export_rotate_s": 0.1}
    async with running_gateway(tmp_path, config=headers, **settings) as gateway:
        await gateway.send((await gateway.register())["token"], data={"n": "1"})
        await eventually(lambda: "export.failed" in gateway.logged(), 20.0)
        assert "cannot connect" in gateway.logged()
        assert "hidden" not in gateway.logged()
