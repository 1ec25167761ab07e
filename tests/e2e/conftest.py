"""One plain gateway for all tests that do not hurt it: starting one takes seconds."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.gateway import RunningGateway, running_gateway


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """The gateway process, in an event loop of its own that outlives the tests' loops."""
    context = running_gateway(tmp_path_factory.mktemp("gateway"))
    with asyncio.Runner() as runner:
        found = runner.run(context.__aenter__())
        try:
            yield found
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest_asyncio.fixture
async def gateway(served: RunningGateway) -> AsyncIterator[RunningGateway]:
    """The shared gateway, with an HTTP client in the test's own loop. Do not stop or kill it."""
    here = RunningGateway(served.data_dir, served.process, served.log)
    for name in ("api", "devices", "ops", "project", "api_key", "client_key"):
        setattr(here, name, getattr(served, name))
    async with here:
        yield here
