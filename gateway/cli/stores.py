"""The store, for the time of a command."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from gateway.embedded_store import borrowed_store
from gateway.process import Clock, Entropy, tie_to_parent
from gateway.settings import Durability, Settings
from router.model.errors import PushError
from router.store.connection import Store, StoreOptions
from router.telemetry.metrics import Metrics

T = TypeVar("T")


def run_async(work: Coroutine[object, object, T]) -> T:
    """Run a command's work to its end.

    Raises:
        PushError: it failed, in a task of its own or not.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(work)
        except ExceptionGroup as group:
            failed, others = group.split(PushError)
            if failed is None or others is not None:
                raise
            raise _leaf(failed) from group


def _leaf(error: Exception) -> Exception:
    return _leaf(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error


@contextlib.asynccontextmanager
async def store_url(settings: Settings, holder: str) -> AsyncIterator[str]:
    """Give the URL of the store; start the embedded one for as long where `serve` does not run.

    Args:
        settings: where the store is.
        holder: the command's name, for whoever waits for the data directory.

    Raises:
        StoreError: it can neither be reached nor started.
    """
    if settings.store_url:
        yield settings.store_url
        return
    fsync = settings.durability is Durability.FSYNC
    tie = tie_to_parent(os.getpid())
    async with borrowed_store(settings.data_dir, fsync=fsync, holder=holder, tie=tie) as url:
        yield url


@contextlib.asynccontextmanager
async def open_store(
    settings: Settings, holder: str, *, unfit_too: bool = False
) -> AsyncIterator[Store]:
    """Connect to the store of the settings.

    Raises:
        PushError: it is away, or of no use; the latter is for the caller with `unfit_too`.
    """
    async with store_url(settings, holder) as url:
        options = StoreOptions(url, settings.durability is Durability.FSYNC)
        metrics = Metrics(CollectorRegistry())
        async with Store(options, metrics, Clock().now_ms, Entropy().bytes) as store:
            await (store.survey() if unfit_too else store.check())
            yield store


def with_url(settings: Settings, url: str) -> Settings:
    """Give the settings with another store."""
    return msgspec.structs.replace(settings, store_url=url)
