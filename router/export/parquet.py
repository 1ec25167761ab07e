"""Parquet, by pyarrow: an extra of the package, imported when the first file begins."""

import importlib
from collections.abc import Sequence
from typing import Final, Protocol, cast

from router.export.records import Record

_STRINGS: Final = "string"
_TIMES: Final = "timestamp[ms, UTC]"
_NUMBERS: Final = "int64"
COLUMNS: Final = (
    ("event_id", _STRINGS),
    ("time", _TIMES),
    ("event", _STRINGS),
    ("project", _STRINGS),
    ("message_id", _STRINGS),
    ("device_id", _STRINGS),
    ("accepted_time", _TIMES),
    ("latency_ms", _NUMBERS),
    ("detail", _STRINGS),
    ("partition", _STRINGS),
    ("topic", _STRINGS),
    ("user", _STRINGS),
    ("group", _STRINGS),
)
"""Names and types, in order."""
REQUIRED: Final = frozenset({"event_id", "time", "event", "project", "partition"})
"""Columns that are never null."""


class _Batch(Protocol):
    @property
    def nbytes(self) -> int: ...


class _Buffer(Protocol):
    def to_pybytes(self) -> bytes: ...


class _Output(Protocol):
    def getvalue(self) -> _Buffer: ...


class _TableClass(Protocol):
    def from_batches(self, _batches: Sequence[_Batch], schema: object) -> object: ...


class _BatchClass(Protocol):
    def from_arrays(self, _arrays: Sequence[object], schema: object) -> _Batch: ...


class _Arrow(Protocol):
    """What we use of the package `pyarrow`, which has no types of its own."""

    RecordBatch: _BatchClass
    Table: _TableClass

    def array(self, _values: Sequence[object], _type: object) -> object: ...
    def string(self) -> object: ...
    def int64(self) -> object: ...
    def timestamp(self, _unit: str, _tz: str) -> object: ...
    def field(self, _name: str, _type: object, _nullable: bool) -> object: ...  # noqa: FBT001
    def schema(self, _fields: Sequence[object]) -> object: ...
    def BufferOutputStream(self) -> _Output: ...  # noqa: N802 - its name


class _ArrowParquet(Protocol):
    def write_table(self, _table: object, _where: _Output, compression: str) -> None: ...


class ParquetEncoder:
    """Writes one file: in memory as Arrow columns, until it is finished.

    Args:
        compression: of the pages: `gzip`, `zstd` or `none`.
    """

    def __init__(self, compression: str) -> None:
        self._arrow = cast(_Arrow, importlib.import_module("pyarrow"))
        self._parquet = cast(_ArrowParquet, importlib.import_module("pyarrow.parquet"))
        self._compression = compression
        kinds = {
            _STRINGS: self._arrow.string(),
            _TIMES: self._arrow.timestamp("ms", "UTC"),
            _NUMBERS: self._arrow.int64(),
        }
        self._types = [kinds[kind] for _, kind in COLUMNS]
        self._schema = self._arrow.schema(
            [self._arrow.field(name, kinds[kind], name not in REQUIRED) for name, kind in COLUMNS]
        )
        self._batches: list[_Batch] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes so far, before compression."""
        return self._size

    def add(self, records: Sequence[Record]) -> None:
        """Write records behind those that are there."""
        columns: tuple[Sequence[object], ...] = (
            [record.event_id for record in records],
            [record.time_ms for record in records],
            [record.event for record in records],
            [record.project for record in records],
            [record.message_id for record in records],
            [record.device_id for record in records],
            [record.accepted_ms for record in records],
            [record.latency_ms for record in records],
            [record.detail for record in records],
            [record.partition for record in records],
            [record.topic for record in records],
            [record.user for record in records],
            [record.group for record in records],
        )
        arrays = [
            self._arrow.array(values, kind)
            for values, kind in zip(columns, self._types, strict=True)
        ]
        batch = self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._batches.append(batch)
        self._size += batch.nbytes

    def finish(self) -> bytes:
        """Give the whole file."""
        table = self._arrow.Table.from_batches(self._batches, schema=self._schema)
        output = self._arrow.BufferOutputStream()
        self._parquet.write_table(table, output, compression=self._compression)
        return output.getvalue().to_pybytes()
