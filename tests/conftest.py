"""Profiles and fixtures that every test may use."""

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from router.store.connection import Store
from tests.support.clusters import running_cluster
from tests.support.valkey import opened_store, running_server

settings.register_profile(
    "gate",
    derandomize=True,
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("soak", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """Undo `logs.configure`: its stream may be closed when the next test logs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """Run a server, or, with TEST_STORE=cluster in the environment, a cluster of three."""
    if os.environ.get("TEST_STORE") == "cluster":
        with running_cluster() as cluster:
            yield cluster.url
    else:
        with running_server() as server:
            yield server.url


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """One real server for all tests of a worker; they keep apart by their random ids."""
    with _server() as url:
        yield url


@pytest.fixture
def fresh_store_url() -> Iterator[str]:
    """Give the URL of a real server that no other test uses."""
    with _server() as url:
        yield url


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """Open a store on the shared server."""
    async with opened_store(store_url, deadline_s=20.0) as opened:
        yield opened
