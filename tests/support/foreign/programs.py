"""Devices in programs of their own: Node, and a browser on a page that the test serves."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final

import pytest
from aiohttp import web

from tests.support.foreign.sight import Order, Sight
from tests.support.waiting import eventually

_HERE: Final = Path(__file__).parent
_OS_RELEASE: Final = Path("/etc/os-release")
_DEBIANS_LIBRARY: Final = Path("/usr/share/nodejs/undici")
_REMEDY: Final = "`make system-packages` installs it as root on Debian"
_GRACE_S: Final = 5.0
_BROWSER_OPTIONS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


def _missing(what: str) -> str:
    """Skip the test, or fail it where what is missing could have been installed."""
    text = f"{what}; {_REMEDY}"
    debian = _OS_RELEASE.exists() and re.search(r"(?m)^ID=debian$", _OS_RELEASE.read_text())
    if debian and os.geteuid() == 0:
        pytest.fail(text)
    pytest.skip(text)


def find_program(*names: str) -> str:
    """Give the path of the first that is installed; skip the test, or fail it, where none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    return _missing(f"there is no {names[0]}")


def _node() -> list[str]:
    """Node, with the options that give it a WebSocket."""
    program = find_program("node")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", told))
    if major >= 22:
        return [program]
    if (major, minor) >= (20, 10):
        return [program, "--experimental-websocket"]
    if _DEBIANS_LIBRARY.exists():
        return [program]
    return [_missing(f"{program} {told.strip()} has no WebSocket")]


def _said(stderr: IO[str]) -> str:
    stderr.seek(0)
    return stderr.read()


@contextlib.asynccontextmanager
async def node_device(order: Order) -> AsyncIterator[Sight]:
    """Run a device in Node."""
    with tempfile.TemporaryFile("w+") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(*_node(), str(_HERE / "node.mjs"), json.dumps(asdict(order))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )

        sight = Sight(lambda: _said(stderr))
        assert process.stdout is not None
        lines = process.stdout

        async def listen() -> None:
            async for line in lines:
                sight.add(json.loads(line))

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            try:
                yield sight
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


class Page:
    """A page with a device in it, and what the device tells. `served_page` makes one."""

    def __init__(self) -> None:
        self.port = 0
        self.order: Order | None = None
        self.sight = Sight()

    def origin(self, host: str = "127.0.0.1") -> str:
        """The page's origin: another one for each name of this machine."""
        return f"http://{host}:{self.port}"

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/order", self._give_order),
                web.post("/events", self._take_event),
                web.get("/{name:page.html|device.mjs|msgpack.mjs}", self._give_file),
            ]
        )
        return application

    async def _give_file(self, request: web.Request) -> web.Response:
        path = _HERE / request.match_info["name"]
        kind = "text/html" if path.suffix == ".html" else "text/javascript"
        return web.Response(text=path.read_text(), content_type=kind)

    async def _give_order(self, _request: web.Request) -> web.Response:
        assert self.order is not None
        return web.json_response(asdict(self.order))

    async def _take_event(self, request: web.Request) -> web.Response:
        self.sight.add(json.loads(await request.text()))
        return web.Response()


@contextlib.asynccontextmanager
async def served_page() -> AsyncIterator[Page]:
    """Serve a page on a free port of loopback."""
    page = Page()
    runner = web.AppRunner(page.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        page.port = runner.addresses[0][1]
        yield page
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def browsing(page: Page, order: Order, host: str = "127.0.0.1") -> AsyncIterator[Sight]:
    """Look at a page with a browser, under one of this machine's names."""
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        page.order, page.sight = order, Sight(lambda: _said(stderr))
        async with running_browser(f"{page.origin(host)}/page.html", stderr=stderr):
            yield page.sight


@contextlib.asynccontextmanager
async def running_browser(url: str, *options: str, stderr: IO[str]) -> AsyncIterator[Path]:
    """Run a browser on a page, and give the folder of its profile."""
    program = find_program("chromium", "google-chrome")
    with tempfile.TemporaryDirectory(prefix="browser-") as folder:
        words = (*options, f"--user-data-dir={folder}", url)
        process = await asyncio.create_subprocess_exec(
            *(program, *_BROWSER_OPTIONS, *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=stderr,
            env={**os.environ, "HOME": folder, "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            yield Path(folder)
        finally:
            await _end_browser(process, folder)


async def _end_browser(process: asyncio.subprocess.Process, folder: str) -> None:
    """Let the browser end its helpers and itself, kill what does not, wait until none is left."""
    with contextlib.suppress(ProcessLookupError, TimeoutError):
        process.terminate()
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

    def none_left() -> bool:
        left = _processes_on(folder)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    await eventually(none_left)


def _processes_on(folder: str) -> Sequence[int]:
    """Processes that name the browser's folder among their arguments: some leave its group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if folder.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@contextlib.asynccontextmanager
async def browser_device(order: Order) -> AsyncIterator[Sight]:
    """Run a device in a browser."""
    async with served_page() as page, browsing(page, order) as sight:
        yield sight
