"""A browser that a test drives: the DevTools protocol over its WebSocket."""

import asyncio
import contextlib
import itertools
import json
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.support.foreign.programs import running_browser
from tests.support.waiting import eventually

_ANSWER_S = 20.0


class Tab:
    """One page of the browser: `call` its methods, look at what it has told."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.events: list[dict[str, Any]] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if waiting := self._waiting.pop(said.get("id", 0), None):
                waiting.set_result(said)
            else:
                self.events.append(said)

    async def call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(_ANSWER_S):
            answer = await self._waiting[number]
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def run(self, script: str) -> Any:
        """Give the value of an expression in the page; a promise is waited for."""
        result = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")


@contextlib.asynccontextmanager
async def driven_browser() -> AsyncIterator[Tab]:
    """Run a browser with an empty page."""
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        options = ("--remote-debugging-port=0",)
        async with (
            running_browser("about:blank", *options, stderr=stderr) as folder,
            aiohttp.ClientSession() as http,
        ):
            told = folder / "DevToolsActivePort"
            await eventually(lambda: told.exists() and told.read_text().count("\n"), 30.0)
            origin = f"http://127.0.0.1:{told.read_text().split()[0]}"

            async def pages() -> list[dict[str, Any]]:
                async with http.get(f"{origin}/json/list") as answer:
                    return [each for each in await answer.json() if each["type"] == "page"]

            found: list[dict[str, Any]] = await eventually(pages)
            async with http.ws_connect(found[0]["webSocketDebuggerUrl"]) as socket:
                tab = Tab(socket)
                async with asyncio.TaskGroup() as tasks:
                    listening = tasks.create_task(tab.listen())
                    try:
                        yield tab
                    finally:
                        listening.cancel()
