"""A collector of exported files on loopback: records what comes, answers as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
from aiohttp import web

from tests.support.exported import Row, read_rows


class Request(msgspec.Struct):
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    repeated: set[str] = set()
    """Headers that came more than once."""

    @property
    def name(self) -> str:
        return self.headers["pushwire-export-name"]

    @property
    def rows(self) -> list[Row]:
        return read_rows(self.name, self.body)


class Answer(msgspec.Struct):
    """What the collector answers."""

    status: int = 204
    headers: dict[str, str] = {}
    after: asyncio.Event | None = None
    """Waits for this before it answers."""


class Collector:
    """Records what comes. `answer` decides what each request is answered with."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda _: Answer()

    @property
    def rows(self) -> list[Row]:
        """The records of the files that were answered with success."""
        kept = [request for request in self.requests if request.status // 100 == 2]
        return [row for request in kept for row in request.rows]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take one request."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        taken = Request(request.method, request.raw_path, headers, body)
        taken.repeated = {name for name in headers if len(request.headers.getall(name)) > 1}
        self.requests.append(taken)
        answer = self.answer(taken)
        if answer.after is not None:
            await answer.after.wait()
        taken.status = answer.status
        return web.Response(status=answer.status, headers=answer.headers)


@contextlib.asynccontextmanager
async def collecting(collector: Collector | None = None, port: int = 0) -> AsyncIterator[Collector]:
    """Run a collector until the end of the block; `port` to come back where it was before."""
    found = collector or Collector()
    server = web.Server(found.handle, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, bound = runner.addresses[0][:2]
    found.url = f"http://{host}:{bound}/bucket"
    try:
        yield found
    finally:
        await runner.cleanup()
