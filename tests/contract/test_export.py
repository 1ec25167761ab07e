"""The export of a worker over a real store, into a directory."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.model.ids import all_partitions
from router.model.receipt import Event
from tests.contract.callback_stage import CallbackStage, callback_stage
from tests.contract.router_stages import to
from tests.support.collector import Answer, collecting
from tests.support.exported import Row, files_in, once, rows_in
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"export_rotate_s": 0.2, "lease_s": 2.0}


def events_of(rows: list[Row], message: str) -> list[str]:
    return [row["event"] for row in once(rows) if row["message_id"] == message]


async def until_exported(directory: Path, messages: list[str], event: str) -> list[Row]:
    def there() -> list[Row] | None:
        rows = rows_in(directory)
        told = {row["message_id"] for row in rows if row["event"] == event}
        return rows if told >= set(messages) else None

    found = await eventually(there, 20.0)
    assert found is not None
    return found


async def groups(stage: CallbackStage) -> int:
    """How many outboxes keep events for the export."""
    return (await stage.exports.standing()).partitions


@pytest.mark.parametrize(
    ("format_", "compression", "suffix"),
    [
        ("ndjson", "auto", ".ndjson.gz"),
        ("ndjson", "zstd", ".ndjson.zst"),
        ("ndjson", "none", ".ndjson"),
        ("parquet", "auto", ".parquet"),
    ],
)
async def test_a_message_s_life_is_exported(
    fresh_store_url: str, tmp_path: Path, format_: str, compression: str, suffix: str
) -> None:
    url = tmp_path.joinpath("out").as_uri()
    async with (
        callback_stage(
            fresh_store_url,
            export_url=url,
            export_format=format_,
            export_compression=compression,
            **QUICK,
        ) as stage,
        stage.worker(),
    ):
        device = await stage.register()
        sent = await stage.delivered(device, 3)
        rows = await until_exported(tmp_path / "out", sent, "delivered")
    for message in sent:
        assert events_of(rows, message) == ["accepted", "sent", "delivered"]
    assert all(path.name.endswith(suffix) for path in files_in(tmp_path / "out"))
    (last,) = [row for row in once(rows) if row["message_id"] == sent[0]][2:]
    assert last["project"] == stage.project
    assert last["device_id"] == device.device_id
    assert last["accepted_time"] <= last["time"]
    assert last["latency_ms"] >= 0
    assert last["event_id"].startswith(last["partition"] + "-")


async def test_an_export_that_is_off_costs_no_group(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url, lease_s=2.0) as stage, stage.worker():
        device = await stage.register()
        await stage.delivered(device, 1)
        await eventually(lambda: stage.metric("pushwire_receipts_total", event="delivered"))
        assert await groups(stage) == 0


async def test_an_export_that_is_switched_off_keeps_no_events(
    fresh_store_url: str, tmp_path: Path
) -> None:
    url = tmp_path.joinpath("out").as_uri()
    async with callback_stage(fresh_store_url, export_url=url, **QUICK) as stage, stage.worker():
        device = await stage.register()
        await until_exported(tmp_path / "out", await stage.delivered(device, 1), "delivered")
        assert await groups(stage) == len(all_partitions())
    async with callback_stage(fresh_store_url, lease_s=2.0) as stage, stage.worker():

        async def closed() -> bool:
            return await groups(stage) == 0

        found: bool = await eventually(closed)
        assert found


async def test_the_cursor_moves_only_once_the_file_is_kept(fresh_store_url: str) -> None:
    release = asyncio.Event()
    async with collecting() as collector:
        collector.answer = lambda _: Answer(after=release)
        async with (
            callback_stage(fresh_store_url, export_url=collector.url, **QUICK) as stage,
            stage.worker(),
        ):
            await stage.delivered(await stage.register(), 2)
            await eventually(lambda: collector.requests)
            before = await stage.exports.standing()
            assert before.waiting >= len(collector.requests[0].rows) // 2 > 0
            release.set()

            async def all_kept() -> bool:
                standing = await stage.exports.standing()
                return not standing.waiting and standing.file is not None

            found: bool = await eventually(all_kept)
            assert found
            last = (await stage.exports.standing()).file
    assert last is not None
    assert last.name == collector.requests[-1].name
    assert last.events == len(collector.requests[-1].rows)
    assert last.bytes == len(collector.requests[-1].body)


async def test_a_file_that_fails_is_given_again_as_it_was(fresh_store_url: str) -> None:
    statuses = iter([500, 429, 503])
    async with collecting() as collector:
        collector.answer = lambda _: Answer(next(statuses, 204))
        async with (
            callback_stage(fresh_store_url, export_url=collector.url, **QUICK) as stage,
            stage.worker(),
        ):
            sent = await stage.delivered(await stage.register(), 2)

            async def failing() -> bool:
                failure = (await stage.exports.standing()).failure
                return failure is not None and failure.reason == "HTTP 500"

            found: bool = await eventually(failing)
            assert found
            await eventually(lambda: "delivered" in events_of(collector.rows, sent[1]), 20.0)

            async def well() -> bool:
                return (await stage.exports.standing()).failure is None

            found = await eventually(well)
            assert found
            assert stage.metric("pushwire_export_failures_total") == 3
    first = collector.requests[0]
    assert {(each.name, each.body) for each in collector.requests[:4]} == {(first.name, first.body)}


async def test_a_sink_that_hangs_holds_up_no_timer_and_no_callback(fresh_store_url: str) -> None:
    release = asyncio.Event()
    async with collecting() as collector, receiving() as receiver:
        collector.answer = lambda _: Answer(after=release)
        async with callback_stage(fresh_store_url, export_url=collector.url, **QUICK) as stage:
            await stage.webhook(receiver)
            async with stage.worker():
                device = await stage.register()
                sent = await stage.delivered(device, 1)
                await eventually(lambda: collector.requests)  # it hangs from here on
                for _ in range(3):
                    sent += await stage.delivered(device, 1)
                    lapsed = await stage.sender.send(stage.project, to(device, ttl_ms=1))
                    sent.append(str(lapsed))
                    told = [("delivered", sent[-2]), ("expired", sent[-1])]
                    await eventually(lambda told=told: heard(receiver) >= set(told), 20.0)  # type: ignore[misc]
                assert len(collector.requests) == 1
                assert collector.requests[0].status == 0
                release.set()
                await eventually(
                    lambda: {row["message_id"] for row in collector.rows} >= set(sent), 20.0
                )
    once(collector.rows)


def heard(receiver: Receiver) -> set[tuple[str, str]]:
    return {(receipt["event"], receipt["message_id"]) for receipt in receiver.receipts}


async def test_a_worker_that_stops_leaves_what_it_has_read_in_a_file(
    fresh_store_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    settings: dict[str, Any] = {**QUICK, "export_rotate_s": 3600.0, "export_url": out.as_uri()}
    async with callback_stage(fresh_store_url, **settings) as stage:
        async with stage.worker():
            sent = await stage.delivered(await stage.register(), 5)
            await eventually(lambda: stage.metric("pushwire_export_waiting") >= 10)
            assert not files_in(out)
        rows = rows_in(out)
        assert events_of(rows, sent[4]) == ["accepted", "sent", "delivered"]
        assert (await stage.exports.standing()).waiting == 0
        async with stage.worker():
            more = await stage.delivered(await stage.register(), 1)
            await eventually(lambda: stage.metric("pushwire_export_waiting") >= 2)
        again = rows_in(out)
        assert {row["message_id"] for row in again[len(rows) :]} == set(more)


async def test_a_directory_that_cannot_be_written_is_tried_again(
    fresh_store_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("a file stands where the directory should be")
    async with (
        callback_stage(fresh_store_url, export_url=out.as_uri(), **QUICK) as stage,
        stage.worker(),
    ):
        sent = await stage.delivered(await stage.register(), 1)

        async def failing() -> bool:
            failure = (await stage.exports.standing()).failure
            return failure is not None and failure.reason.startswith("cannot write to ")

        found: bool = await eventually(failing)
        assert found
        out.unlink()
        rows = await until_exported(out, sent, "delivered")
    assert events_of(rows, sent[0]) == ["accepted", "sent", "delivered"]


async def test_what_a_device_sends_is_exported_without_its_data(
    fresh_store_url: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with (
        callback_stage(fresh_store_url, export_url=out.as_uri(), **QUICK) as stage,
        stage.worker(),
    ):
        device = await stage.register()
        attached = await stage.attach(device, await stage.shard())
        await stage.mailboxes.upstream(
            device.device_id, attached.epoch, 'own "id"', b'{"k":"private"}', stage.clock.now_ms()
        )
        rows = await until_exported(out, ['own "id"'], Event.UPSTREAM)
    (row,) = [row for row in rows if row["event"] == Event.UPSTREAM]
    assert row["device_id"] == device.device_id
    assert "private" not in str(row)
