"""Reads exported files back, with nothing of ours."""

import gzip
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Row = dict[str, Any]


def read_rows(name: str, data: bytes) -> list[Row]:
    """Give the records of a file; times as NDJSON has them."""
    if name.endswith(".parquet"):
        return [_as_text(row) for row in pq.read_table(pa.BufferReader(data)).to_pylist()]
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    elif name.endswith(".zst"):
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def files_in(directory: Path) -> list[Path]:
    """List the finished files below a directory, by name."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(path for path in found if path.parent.name != ".unfinished")


def rows_in(directory: Path) -> list[Row]:
    """Give the records of all finished files, in the order of their names."""
    return [row for path in files_in(directory) for row in read_rows(path.name, path.read_bytes())]


def once(rows: Iterable[Row]) -> list[Row]:
    """Drop repeats by `event_id`, and check that they are repeats indeed."""
    seen: dict[str, Row] = {}
    for row in rows:
        assert seen.setdefault(row["event_id"], row) == row
    return list(seen.values())


def _as_text(row: Row) -> Row:
    return {
        name: _time(value) if isinstance(value, datetime) else value for name, value in row.items()
    }


def _time(value: datetime) -> str:
    assert value.utcoffset() is not None
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
