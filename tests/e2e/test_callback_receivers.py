"""The receivers of docs/callbacks.md, as they stand there, against a real gateway."""

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.foreign.npm import install_standardwebhooks
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "callbacks.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the specification's example


def program(language: str, port: int) -> str:
    """The one program of a language on the page, on another port."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found.count("8090") == 1
    return str(found).replace("8090", str(port))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def said(log: Path) -> str:
    return log.read_text()


@contextlib.asynccontextmanager
async def running(command: list[str], log: Path) -> AsyncIterator[None]:
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=out, stderr=out, env={**os.environ, "WEBHOOK_SECRET": SECRET}
        )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def hears(gateway: RunningGateway, url: str, log: Path) -> None:
    """A receiver prints the receipts of a message, and refuses what is not signed."""

    async def refuses() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with gateway.http.post(url, data=b"{}") as response:
                return response.status == 400
        return False

    refused: bool = await eventually(refuses, 20)
    assert refused
    body: dict[str, Any] = {"url": url, "secret": SECRET}
    status, made = await gateway.call("POST", "/webhooks", body)
    assert status == 201, made
    device = await gateway.register()
    message = await gateway.send(device["token"], data={"k": "v"})
    await gateway.call("DELETE", f"/devices/{device['device_id']}")
    await eventually(lambda: "device.unregistered" in said(log), 20)
    assert f"{message} accepted" in said(log)
    assert f"{message} dropped" in said(log)


async def test_the_receiver_in_python(tmp_path: Path) -> None:
    port = free_port()
    source, log = tmp_path / "receiver.py", tmp_path / "receiver.log"
    source.write_text(program("python", port))
    async with (
        running_gateway(tmp_path, callback_allow_private="1") as gateway,
        running([sys.executable, str(source)], log),
    ):
        await hears(gateway, f"http://127.0.0.1:{port}/hook", log)


async def test_the_receiver_in_node(tmp_path: Path) -> None:
    port = free_port()
    folder, log = tmp_path / "npm", tmp_path / "receiver.log"
    folder.mkdir()
    await asyncio.to_thread(install_standardwebhooks, folder)
    (folder / "receiver.mjs").write_text(program("js", port))
    async with (
        running_gateway(tmp_path, callback_allow_private="1") as gateway,
        running(["node", str(folder / "receiver.mjs")], log),
    ):
        await hears(gateway, f"http://127.0.0.1:{port}/hook", log)
