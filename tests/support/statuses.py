"""Wait for what the API says of a message."""

import asyncio

from tests.support.gateway import RunningGateway

DEADLINE_S = 30.0


async def until_state(gateway: RunningGateway, message: str, state: str) -> dict[str, object]:
    """Wait until a message has come to a state, and give its status."""
    async with asyncio.timeout(DEADLINE_S):
        while (found := await gateway.status(message))["state"] != state:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.05)
    return found


def timeline_of(status: dict[str, object]) -> list[dict[str, str]]:
    """The entries of a status's timeline, in order."""
    timeline = status["timeline"]
    assert isinstance(timeline, list)
    return timeline


def events_of(status: dict[str, object]) -> list[str]:
    """The events of a status's timeline, in order."""
    return [entry["type"] for entry in timeline_of(status)]
