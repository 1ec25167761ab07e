"""Newline-delimited JSON: every record has every field, null where it has no value."""

import importlib
import zlib
from collections.abc import Sequence
from typing import Final, Protocol, cast

import msgspec

from router.export.records import Record
from router.model.times import Times

_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3
_GZIP_WINDOW: Final = 31
"""The largest window, and a gzip header instead of zlib's; its time is 0."""


class _Line(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    time: str
    event: str
    project: str
    message_id: str | None
    device_id: str | None
    accepted_time: str | None
    latency_ms: int | None
    detail: str | None
    partition: str
    topic: str | None
    user: str | None
    group: str | None


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    """Compresses nothing."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


class _ZstdCompressor(Protocol):
    def compressobj(self) -> _Compressor: ...


class _Zstandard(Protocol):
    """What we use of the package `zstandard`."""

    def ZstdCompressor(self, level: int) -> _ZstdCompressor: ...  # noqa: N802 - its name


class NdjsonEncoder:
    """Writes one file, compressed as it grows.

    Args:
        compression: `gzip`, `zstd` or `none`.
    """

    def __init__(self, compression: str) -> None:
        self._compressor = _compressor_of(compression)
        self._encoder = msgspec.json.Encoder()
        self._times = Times()
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes so far, before compression."""
        return self._size

    def add(self, records: Sequence[Record]) -> None:
        """Write records behind those that are there."""
        lines = self._encoder.encode_lines([self._line(record) for record in records])
        self._size += len(lines)
        self._parts.append(self._compressor.compress(lines))

    def finish(self) -> bytes:
        """Give the whole file."""
        return b"".join([*self._parts, self._compressor.flush()])

    def _line(self, record: Record) -> _Line:
        accepted_ms = record.accepted_ms
        return _Line(
            record.event_id,
            self._times.of(record.time_ms),
            record.event,
            record.project,
            record.message_id,
            record.device_id,
            None if accepted_ms is None else self._times.of(accepted_ms),
            record.latency_ms,
            record.detail,
            record.partition,
            record.topic,
            record.user,
            record.group,
        )


def _compressor_of(compression: str) -> _Compressor:
    match compression:
        case "gzip":
            return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        case "zstd":
            # An extra of the package: imported only where it is wanted.
            zstandard = cast(_Zstandard, importlib.import_module("zstandard"))
            return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()
        case _:
            return _Plain()
