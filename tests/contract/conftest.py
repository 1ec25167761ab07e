"""Fixtures of the API's contract."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.api_server import Api, running_api


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    """Run the API on the shared store."""
    async with running_api(store_url) as running:
        yield running
