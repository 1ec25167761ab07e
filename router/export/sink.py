"""The interface of sinks. A new one is one new file in `sinks`, and no other line."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Final, Protocol, Self, cast
from urllib.parse import urlsplit

import msgspec

_SINKS: Final = "router.export.sinks"


class File(msgspec.Struct, frozen=True, gc=False):
    """A finished file. Given again after a failure, it has the same name and content."""

    name: str
    """Path below the destination, with `/` between its parts."""
    data: bytes
    media: str
    """What it holds, as a media type, before `coding`."""
    coding: str
    """How it is compressed as a whole, as HTTP names it; empty where it is not."""


class SinkError(Exception):
    """A sink did not take a file for good; it will be given again.

    Args:
        reason: why, for the log: no URL, no header.
        retry_after_s: how long the destination asked us to wait.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Destination(msgspec.Struct, frozen=True):
    """Where files go, as the settings say it."""

    url: str
    method: str = "PUT"
    headers: tuple[tuple[str, str], ...] = ()


class Sink(Protocol):
    """Takes files: `async with sink`."""

    async def __aenter__(self) -> Self:
        """Open it; nothing is asked of the destination yet."""

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""

    async def put(self, file: File) -> None:
        """Keep a file for good, under its name; one that is there already is replaced.

        Raises:
            SinkError: it is not sure that the file is kept.
        """


class SinkModule(Protocol):
    """What a module in `sinks` holds."""

    SCHEMES: tuple[str, ...]
    """Of the URLs that it takes."""

    def violation(self, url: str) -> str:
        """Say what is accepted where this URL is not; empty where it is."""

    def make(self, destination: Destination, now_ms: Callable[[], int]) -> Sink:
        """Make a sink of a URL without a violation."""


def sink_modules() -> dict[str, SinkModule]:
    """Find every sink, by the scheme of its URLs."""
    package = importlib.import_module(_SINKS)
    found: dict[str, SinkModule] = {}
    for each in pkgutil.iter_modules(package.__path__):
        module = cast("SinkModule", importlib.import_module(f"{_SINKS}.{each.name}"))
        found.update(dict.fromkeys(module.SCHEMES, module))
    return found


def scheme_of(url: str) -> str:
    """Name the scheme of a URL; empty where it has none."""
    return urlsplit(url).scheme if "://" in url else ""
