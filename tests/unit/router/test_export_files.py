"""Whatever happened: a file, read by others, holds the same records."""

import gzip
import importlib.util

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.export.encoder import Compression, Format, missing, writing_of
from router.export.parquet import COLUMNS, REQUIRED
from router.export.records import Record
from router.model.times import Times
from tests.support.exported import Row, read_rows

FORMS = [(format_, compression) for format_ in Format for compression in Compression]
LAST_MS = 253_402_300_799_999

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
found = st.builds(
    Record,
    event_id=texts,
    time_ms=st.integers(0, LAST_MS),
    event=texts,
    project=texts,
    message_id=st.none() | texts,
    device_id=st.none() | texts,
    accepted_ms=st.none() | st.integers(0, LAST_MS),
    latency_ms=st.none() | st.integers(0, 2**62),
    detail=st.none() | texts,
    partition=texts,
    topic=st.none() | texts,
    user=st.none() | texts,
    group=st.none() | texts,
)


def row_of(record: Record) -> Row:
    """What docs/export.md says of a record."""
    time = Times().of
    return {
        "event_id": record.event_id,
        "time": time(record.time_ms),
        "event": record.event,
        "project": record.project,
        "message_id": record.message_id,
        "device_id": record.device_id,
        "accepted_time": None if record.accepted_ms is None else time(record.accepted_ms),
        "latency_ms": record.latency_ms,
        "detail": record.detail,
        "partition": record.partition,
        "topic": record.topic,
        "user": record.user,
        "group": record.group,
    }


def written(format_: Format, compression: Compression, parts: list[list[Record]]) -> bytes:
    writer = writing_of(format_, compression).encoder()
    for part in parts:
        writer.add(part)
    return writer.finish()


@pytest.mark.slow
@pytest.mark.parametrize(("format_", "compression"), FORMS)
@given(parts=st.lists(st.lists(found, max_size=3), max_size=3))
def test_a_file_holds_the_records_in_order(
    format_: Format, compression: Compression, parts: list[list[Record]]
) -> None:
    data = written(format_, compression, parts)
    suffix = writing_of(format_, compression).suffix
    assert read_rows("a" + suffix, data) == [row_of(record) for part in parts for record in part]


RECORD = Record("2a-1-0", 1, "sent", "demo", "m1", None, None, None, None, "2a")


def test_the_columns_of_parquet_are_those_that_are_promised() -> None:
    schema = pq.read_schema(pa.BufferReader(written(Format.PARQUET, Compression.AUTO, [[RECORD]])))
    assert [(field.name, str(field.type).replace("tz=", "")) for field in schema] == list(COLUMNS)
    assert {field.name for field in schema if not field.nullable} == REQUIRED
    assert list(row_of(RECORD)) == [name for name, _ in COLUMNS]


@pytest.mark.parametrize(
    ("compression", "codec"),
    [
        (Compression.AUTO, "ZSTD"),
        (Compression.ZSTD, "ZSTD"),
        (Compression.GZIP, "GZIP"),
        (Compression.NONE, "UNCOMPRESSED"),
    ],
)
def test_the_pages_of_parquet_are_compressed_as_asked(compression: Compression, codec: str) -> None:
    data = written(Format.PARQUET, compression, [[RECORD]])
    group = pq.read_metadata(pa.BufferReader(data)).row_group(0)
    assert {group.column(index).compression for index in range(len(COLUMNS))} == {codec}


def test_the_same_records_make_the_same_bytes() -> None:
    first, again = (written(Format.NDJSON, Compression.GZIP, [[RECORD]]) for _ in range(2))
    assert first == again
    assert gzip.decompress(first).endswith(b"\n")


@pytest.mark.parametrize("format_", Format)
def test_the_size_grows_with_the_records(format_: Format) -> None:
    writer = writing_of(format_, Compression.AUTO).encoder()
    assert writer.size == 0
    writer.add([RECORD] * 100)
    assert 100 * 30 < writer.size < 100 * 400


@pytest.mark.parametrize(
    ("format_", "compression", "package"),
    [
        (Format.PARQUET, Compression.AUTO, "pyarrow"),
        (Format.NDJSON, Compression.ZSTD, "zstandard"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, format_: Format, compression: Compression, package: str
) -> None:
    assert missing(format_, compression) == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    extra = {"pyarrow": "parquet", "zstandard": "zstd"}[package]
    assert f"needs {package}" in missing(format_, compression)
    assert f"pushwire[{extra}]" in missing(format_, compression)
    assert missing(Format.NDJSON, Compression.AUTO) == ""
