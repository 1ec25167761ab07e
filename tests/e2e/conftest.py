"""Gateways for all tests that do not hurt them: starting one takes seconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests.support.gateway import RunningGateway, running_gateway


@contextlib.contextmanager
def kept_running(context: AbstractAsyncContextManager[RunningGateway]) -> Iterator[RunningGateway]:
    """Run a gateway in an event loop of its own, which outlives the tests' loops."""
    with asyncio.Runner() as runner:
        found = runner.run(context.__aenter__())
        try:
            yield found
        finally:
            runner.run(context.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def seen_from_here(served: RunningGateway) -> AsyncIterator[RunningGateway]:
    """Give a kept gateway an HTTP client in the running loop."""
    here = RunningGateway(served.data_dir, served.process, served.log)
    for name in ("api", "devices", "ops", "project", "api_key", "client_key"):
        setattr(here, name, getattr(served, name))
    async with here:
        yield here


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """One plain gateway for all."""
    with kept_running(running_gateway(tmp_path_factory.mktemp("gateway"))) as found:
        yield found


@pytest_asyncio.fixture
async def gateway(served: RunningGateway) -> AsyncIterator[RunningGateway]:
    """The shared gateway. Do not stop or kill it."""
    async with seen_from_here(served) as here:
        yield here
