"""The interface of encoders, and which settings choose which."""

import enum
import importlib.util
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec

from router.export.ndjson import NdjsonEncoder
from router.export.parquet import ParquetEncoder
from router.export.records import Record


class Format(enum.StrEnum):
    """What a file holds."""

    NDJSON = "ndjson"
    PARQUET = "parquet"


class Compression(enum.StrEnum):
    """How it is compressed. `auto` is gzip for NDJSON, as everything reads it; zstd for Parquet."""

    AUTO = "auto"
    GZIP = "gzip"
    ZSTD = "zstd"
    NONE = "none"


class Encoder(Protocol):
    """Writes the records of one file. Called in a thread, by one caller at a time."""

    @property
    def size(self) -> int:
        """Bytes so far, before compression."""

    def add(self, records: Sequence[Record]) -> None:
        """Write records behind those that are there."""

    def finish(self) -> bytes:
        """Give the whole file; nothing can be added afterwards."""


class Writing(msgspec.Struct, frozen=True):
    """How files are written."""

    suffix: str
    """Of their names."""
    media: str
    """What they hold, as a media type, before `coding`."""
    coding: str
    """How they are compressed as a whole, as HTTP names it; empty where they are not."""
    encoder: Callable[[], Encoder]


_SUFFIXES: Final = {Compression.GZIP: ".gz", Compression.ZSTD: ".zst", Compression.NONE: ""}
_NEEDS: Final = {
    (Format.PARQUET, None): ("pyarrow", "parquet"),
    (Format.NDJSON, Compression.ZSTD): ("zstandard", "zstd"),
}


def missing(format_: Format, compression: Compression) -> str:
    """Say which package a choice needs that is not installed; empty where nothing is missing."""
    for wanted in ((format_, None), (format_, compression)):
        package, extra = _NEEDS.get(wanted, ("", ""))
        if package and importlib.util.find_spec(package) is None:
            return f"needs {package}, which is not installed: pip install 'pushwire[{extra}]'"
    return ""


def writing_of(format_: Format, compression: Compression) -> Writing:
    """Choose how files are written."""
    if format_ is Format.PARQUET:
        codec = Compression.ZSTD if compression is Compression.AUTO else compression
        return Writing(
            ".parquet", "application/vnd.apache.parquet", "", lambda: ParquetEncoder(codec.value)
        )
    codec = Compression.GZIP if compression is Compression.AUTO else compression
    return Writing(
        f".ndjson{_SUFFIXES[codec]}",
        "application/x-ndjson",
        "" if codec is Compression.NONE else codec.value,
        lambda: NdjsonEncoder(codec.value),
    )
