"""Wires the export of a worker; where it is off, only what is needed to end it."""

import asyncio
from collections.abc import Callable, Coroutine

import msgspec

from gateway.process import RoleContext
from gateway.settings import Settings
from router.export.checks import parse_headers
from router.export.encoder import Compression, Format, writing_of
from router.export.exporter import Exporter, Rotation
from router.export.feed import Closed, Feed
from router.export.sink import Destination, scheme_of, sink_modules
from router.partitions import OutboxReader
from router.store.connection import Store
from router.store.exports import Exports


class Export(msgspec.Struct, frozen=True):
    """The two halves: out of the outboxes, and into files."""

    feed: OutboxReader
    run: Callable[[asyncio.Event], Coroutine[None, None, None]]


def export_of(settings: Settings, context: RoleContext, store: Store, worker: str) -> Export:
    """Make the export of a worker, as the settings want it."""
    exports = Exports(store)
    if not settings.export_url:
        return Export(Closed(exports), _nothing)
    metrics, clock = context.metrics, context.clock
    destination = Destination(
        settings.export_url,
        settings.export_method,
        parse_headers(settings.export_headers) or (),
    )
    sink = sink_modules()[scheme_of(settings.export_url)].make(destination, clock.now_ms)
    feed = Feed(exports, metrics, clock.now_ms, clock.monotonic)
    exporter = Exporter(
        worker,
        feed,
        exports,
        sink,
        writing_of(Format(settings.export_format), Compression(settings.export_compression)),
        Rotation(settings.export_rotate_s, settings.export_rotate_bytes),
        metrics,
        clock.now_ms,
        clock.monotonic,
        context.entropy.uniform,
    )
    return Export(feed, exporter.run)


async def _nothing(_stopping: asyncio.Event) -> None:
    """Run no export."""
