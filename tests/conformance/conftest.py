"""The conformance suite runs on the loop that the product runs on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from tests.conformance.door import Door, open_door


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door(max_frame_bytes=1_048_576) as opened:
        yield opened
