"""Parts of a shard over a real store, sound or wounded."""

from collections.abc import AsyncIterator

import pytest

from router.store.connection import Store, StoreOptions
from tests.support.valkey import Server, make_store, running_server
from tests.unit.shard.parts import Parts, open_parts


@pytest.fixture
async def parts(store: Store) -> AsyncIterator[Parts]:
    async with open_parts(store) as opened:
        yield opened


@pytest.fixture
async def wounded() -> AsyncIterator[tuple[Parts, Server]]:
    """Parts whose store of their own can be paused, and is not waited for long."""
    with running_server() as server:
        async with (
            make_store(StoreOptions(url=server.url, deadline_s=0.2)) as store,
            open_parts(store) as opened,
        ):
            yield opened, server
            server.resume()
