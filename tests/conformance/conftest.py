"""The conformance suite runs on the loop that the product runs on."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.conformance.door import Door, open_door


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    # The floods here are meant to meet the other bounds.
    async with open_door(max_frame_bytes=1_048_576, device_frames_per_s=0.0) as opened:
        yield opened
