"""Web Push goes to hosts that devices name: whatever one answers, it harms its own push alone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.bridge_stage import BridgeStage, bridge_stage
from tests.support.valkey import running_server

pytestmark = pytest.mark.slow

MAX_TOLD_CHARS = 300


@pytest.fixture(scope="module")
def own_store() -> Iterator[str]:
    with running_server() as server:
        yield server.url


@pytest.fixture
async def stage(own_store: str, tmp_path: Path) -> AsyncIterator[BridgeStage]:
    async with bridge_stage(own_store, tmp_path, bridge_timeout_s=2.0) as made:
        yield made


@contextlib.asynccontextmanager
async def host(answer: bytes) -> AsyncIterator[str]:
    """Answer every request with these bytes, and close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(status: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    lines = (b"HTTP/1.1 " + status, *headers, b"Content-Length: %d" % len(body), b"", body)
    return b"\r\n".join(lines)


BRIDGED = "bridged"
ODD = {
    "an id in no encoding": (answering(b"201 Created", b"Location: /\xff\xfe"), BRIDGED),
    "a huge id": (answering(b"201 Created", b"Location: /" + b"x" * 8_000), BRIDGED),
    "a body without end": (b"HTTP/1.1 201 Created\r\n\r\n" + b"x" * 300_000, BRIDGED),
    "a redirect inside": (answering(b"307 x", b"Location: http://127.0.0.1:1/"), "rejected: 307"),
    "half a surrogate pair": (answering(b"418 x", body=b'{"reason":"\\ud800"}'), "rejected: 418"),
    "a reason in no encoding": (answering(b"418 x", body=b'{"reason":"\xff"}'), "rejected: 418"),
    "a deep reason": (answering(b"418 x", body=b'{"a":' + b"[" * 60_000), "rejected: 418"),
    "a line of noise": (b"HTTP/1.1 \xff\xfe\xed\xa0\x80\r\n\r\n", "ClientResponseError"),
    "a phrase of noise": (answering(b"500 \xff\xed\xa0\x80"), "500"),
    "a header of noise": (
        answering(b"201 Created", b"\xff\xfe: \xed\xa0\x80"),
        "ClientResponseError",
    ),
    "noise": (bytes(range(256)) * 64, "ClientResponseError"),
    "two lengths": (answering(b"201 Created", b"Content-Length: 9"), "ClientResponseError"),
    "a wait of nothing known": (answering(b"503 x", b"Retry-After: nan"), "503"),
    "a wait without end": (answering(b"429 x", b"Retry-After: " + b"9" * 4_000), "expired: 429"),
    "nothing": (b"", "ServerDisconnectedError"),
}


@pytest.mark.parametrize(("answer", "becomes"), ODD.values(), ids=ODD)
async def test_an_odd_answer_of_one_host_concerns_its_own_push_alone(
    stage: BridgeStage, answer: bytes, becomes: str
) -> None:
    async with host(answer) as url:
        await stage.setup("webpush", endpoint=url, ca="")
        message = await stage.push("webpush")
        await stage.until_settled()
    await stage.until(await stage.push("apns"), "bridged")
    events, tries = await stage.events(message), await stage.tries(message)
    assert becomes in " ".join([*events[1:], *tries])
    assert await stage.attempts(message) == len(tries)
    told = " ".join([*events, *tries])
    assert "/push/" not in told, "who knows a subscription's URL may push to it"
    assert len(told) < MAX_TOLD_CHARS
