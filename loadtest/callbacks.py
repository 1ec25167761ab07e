"""What callbacks cost: a case of `make bench`."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from loadtest import senders
from loadtest.cases import BATCH_SIZE, BATCHES_AT_ONCE, Say, Scale
from loadtest.fleet import Connect, Expect, Register, fleet_process
from loadtest.gateway import create_project, serve
from loadtest.http import encode_request, open_connection
from loadtest.processes import CpuMeter
from loadtest.recorder import Figure, percentile
from loadtest.senders import Account

TARGET_US: Final = 100.0
"""10,000 receipts in a second of the worker's CPU."""
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1, "callback_allow_private": "true"}
_RECEIPTS: Final = 3
"""Of each message: accepted, sent, delivered."""
_LIMIT_S: Final = 120.0
_CREATED: Final = 201
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


Send = Callable[[], Awaitable[None]]
"""Sends the messages of a run, and waits until they are delivered."""


class Endpoint:
    """An app server that counts receipts and answers 204."""

    def __init__(self) -> None:
        self.receipts = self.requests = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    async def until(self, receipts: int) -> None:
        """Wait until so many receipts are here.

        Raises:
            TimeoutError: they do not come.
        """
        self._wanted = receipts
        self._reached.clear()
        self._look()
        async with asyncio.timeout(_LIMIT_S):
            await self._reached.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                body = await reader.readexactly(int(length))
                self.requests += 1
                self.receipts += body.count(b'"message_id"')
                self._look()
                writer.write(_ANSWER)
        writer.close()

    def _look(self) -> None:
        if self.receipts >= self._wanted:
            self._reached.set()


async def callbacks(scale: Scale, say: Say) -> list[Figure]:
    """Deliver messages with a webhook that hears of everything: the worker's CPU per receipt."""
    runs: list[float] = []
    sizes: list[float] = []
    async with _told(scale) as (pids, endpoint, send):
        for run in range(scale.runs + 1):
            meter = CpuMeter(pids)
            before, requests = endpoint.receipts, endpoint.requests
            begun = asyncio.get_running_loop().time()
            expected = scale.messages * _RECEIPTS
            async with asyncio.TaskGroup() as group:
                group.create_task(endpoint.until(before + expected))
                group.create_task(_coroutine(send()))
            seconds = asyncio.get_running_loop().time() - begun
            cpu_us = 1e6 * meter.spent_s()["worker"] / expected
            size = expected / (endpoint.requests - requests)
            say(
                f"{expected / seconds:.0f} receipts/s, {size:.0f} a request, "
                f"{cpu_us:.1f} µs of the worker each: {1e6 / cpu_us:.0f} a CPU second"
            )
            if run > 0:  # the first one warms up
                runs.append(cpu_us)
                sizes.append(size)
    note = (
        f"all that a worker does, {scale.devices} devices, one endpoint, "
        f"{percentile(sizes, 0.5):.0f} receipts a request"
    )
    return [
        Figure(
            name="worker CPU per receipt told by a callback",
            unit="µs",
            runs=tuple(runs),
            target=TARGET_US,
            note=note,
        )
    ]


@contextlib.asynccontextmanager
async def _told(scale: Scale) -> AsyncIterator[tuple[dict[str, list[int]], Endpoint, Send]]:
    """Run a gateway with connected devices and a webhook."""
    endpoint = Endpoint()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-"))
        gateway = await stack.enter_async_context(serve(Path(folder, "data"), flags=_FLAGS))
        fleet = await stack.enter_async_context(fleet_process())
        server = await stack.enter_async_context(
            await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
        )
        project = await create_project(gateway.data_dir, "bench")
        registered = await fleet.ask(
            Register(gateway.api, project.project, project.client_key, scale.devices)
        )
        await fleet.ask(Connect(gateway.devices, scale.devices, source="127.0.0.2"))
        account = Account(gateway.api, project.project, project.api_key)
        host, port = server.sockets[0].getsockname()[:2]
        await make_webhook(account, f"http://{host}:{port}/")

        async def send() -> None:
            tokens, count = registered.tokens, scale.messages
            async with asyncio.TaskGroup() as group:
                group.create_task(fleet.ask(Expect(count)))
                group.create_task(_batches(account, tokens, count))

        yield gateway.pids(), endpoint, send


async def _batches(account: Account, tokens: list[str], count: int) -> None:
    await senders.send_batches(account, tokens, count, BATCH_SIZE, BATCHES_AT_ONCE)


async def _coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


async def make_webhook(account: Account, url: str) -> None:
    """Have a project's callbacks sent to a URL.

    Raises:
        ConnectionError: the gateway refused.
    """
    connection = await open_connection(account.api)
    request = encode_request(
        "POST",
        account.api,
        f"/v1/projects/{account.project}/webhooks",
        msgspec.json.encode({"url": url}),
        Authorization=f"Bearer {account.api_key}",
    )
    response = await connection.request(request)
    connection.close()
    if response.status != _CREATED:
        raise ConnectionError(f"no webhook: {response.body.decode()}")
