"""`pushwire demo`."""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from gateway.cli.api_client import ApiClient, Status
from gateway.cli.receiver import Receiver
from gateway.cli.stores import run_async
from gateway.cli.terminal import Terminal
from gateway.process import Clock
from router.model.errors import ErrorCode, PushError
from sdk_client import Device

NAME: Final = "demo"
HELP: Final = """Start everything, deliver messages, show each step, stop. Takes seconds.

    pushwire demo

It runs `pushwire serve` on free ports in a directory of its own, which it removes. Exit code 0 when
every message was delivered.
"""

_LIMIT_S: Final = 60.0
_STEP_S: Final = 20.0
_STOP_S: Final = 20.0
_ONLINE_MESSAGES: Final = 3
_OFFLINE_MESSAGES: Final = 2


class _Project(msgspec.Struct):
    project: str
    api_key: str
    client_key: str


class _Arrivals:
    """When each message reached the handler of a device, in seconds on the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._futures: dict[str, asyncio.Future[float]] = {}

    def note(self, message_id: str) -> None:
        """Tell that a message is there."""
        future = self._future(message_id)
        if not future.done():
            future.set_result(self._clock.monotonic())

    async def of(self, message_id: str) -> float:
        """Wait for a message, and give when it came."""
        try:
            async with asyncio.timeout(_STEP_S):
                return await self._future(message_id)
        except TimeoutError:
            raise _failed(f"message {message_id} was not delivered in {_STEP_S:.0f} s") from None

    def _future(self, message_id: str) -> asyncio.Future[float]:
        loop = asyncio.get_running_loop()
        return self._futures.setdefault(message_id, loop.create_future())


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments: none."""
    parser.set_defaults()


def run(_args: argparse.Namespace) -> int:
    """Show it."""
    run_async(_limited(Terminal(), Clock()))
    return 0


def _failed(what: str) -> PushError:
    return PushError(ErrorCode.INTERNAL, what)


async def _limited(terminal: Terminal, clock: Clock) -> None:
    try:
        async with asyncio.timeout(_LIMIT_S):
            with tempfile.TemporaryDirectory(prefix="pushwire-demo-") as folder:
                await _show(terminal, clock, Path(folder))
    except TimeoutError:
        raise _failed(f"the demo did not end within {_LIMIT_S:.0f} s") from None


async def _show(terminal: Terminal, clock: Clock, folder: Path) -> None:
    began = clock.monotonic()
    terminal.line("Pushwire demo", "bold")
    terminal.line()
    async with _serve(folder) as urls:
        took = clock.monotonic() - began
        terminal.mark(good=True, text=f"`pushwire serve` is up after {took:.1f} s: {urls['api']}")
        project = msgspec.json.decode(
            await _pushwire("project", "create", "demo", "--json", *_data_dir(folder)),
            type=_Project,
        )
        terminal.mark(good=True, text=f"project {project.project} made, with its keys")
        async with aiohttp.ClientSession() as session:
            client = ApiClient(session, urls["api"], project.project, project.api_key)
            register = _Registrar(urls["api"], project, folder)
            receiver = Receiver()
            async with receiver.listening():
                receiver.secret = await client.make_webhook(receiver.url)
                sent = await _to_connected(terminal, clock, client, await register("phone"))
                await _to_topic(
                    terminal, clock, client, [await register("watch"), await register("laptop")]
                )
                await _to_offline(terminal, clock, client, await register("tablet"))
                await _callback(terminal, receiver, sent)
    terminal.mark(good=True, text="everything stopped, nothing left behind")
    terminal.line()
    terminal.line(f"All delivered, in {clock.monotonic() - began:.1f} s.", "bold green")


class _Registrar:
    def __init__(self, api: str, project: _Project, folder: Path) -> None:
        self._api = api
        self._project = project
        self._folder = folder

    async def __call__(self, name: str) -> Device:
        return await Device.register(
            self._api,
            project=self._project.project,
            client_key=self._project.client_key,
            platform="python",
            state=str(self._folder / f"{name}.json"),
        )


async def _to_connected(terminal: Terminal, clock: Clock, client: ApiClient, device: Device) -> str:
    terminal.line()
    terminal.line("A device that is connected", "bold")
    terminal.mark(good=True, text=f"registered; its token is {device.token}")
    async with _listening(device, clock) as arrivals:
        message_id = ""
        for number in range(1, _ONLINE_MESSAGES + 1):
            sent = clock.monotonic()
            message_id = await client.send(_message(device.token, number))
            latency_ms = (await arrivals.of(message_id) - sent) * 1000
            terminal.mark(
                good=True, text=f"message {number}: in its handler {latency_ms:.1f} ms later"
            )
        _timeline(terminal, await _delivered(client, message_id))
    return message_id


async def _to_topic(
    terminal: Terminal, clock: Clock, client: ApiClient, devices: list[Device]
) -> None:
    terminal.line()
    terminal.line(f"A topic that {len(devices)} devices subscribe to", "bold")
    async with contextlib.AsyncExitStack() as stack:
        arrivals = [
            await stack.enter_async_context(_listening(device, clock)) for device in devices
        ]
        for device in devices:
            await device.subscribe("news")
        sent = clock.monotonic()
        message = {"topic": "news", "notification": {"title": "Hello all"}}
        message_id = await client.send(message)
        for number, each in enumerate(arrivals, 1):
            latency_ms = (await each.of(message_id) - sent) * 1000
            terminal.mark(
                good=True, text=f"device {number}: in its handler {latency_ms:.1f} ms later"
            )


async def _callback(terminal: Terminal, receiver: Receiver, message_id: str) -> None:
    terminal.line()
    terminal.line("What the app server hears", "bold")
    try:
        async with asyncio.timeout(_STEP_S):
            await receiver.heard(message_id, "delivered")
    except TimeoutError:
        raise _failed(f"no callback told that {message_id} was delivered") from None
    terminal.mark(
        good=True, text=f"a signed callback at {receiver.url}: {message_id} was delivered"
    )


async def _to_offline(terminal: Terminal, clock: Clock, client: ApiClient, device: Device) -> None:
    terminal.line()
    terminal.line("A device that is offline, and then connects", "bold")
    sent = {}
    for number in range(1, _OFFLINE_MESSAGES + 1):
        message_id = await client.send(_message(device.token, number))
        sent[message_id] = clock.monotonic()
        status, _ = await client.status(message_id)
        terminal.mark(good=True, text=f"message {number}: stored, state {status.state}")
    connecting = clock.monotonic()
    async with _listening(device, clock) as arrivals:
        for number, message_id in enumerate(sent, 1):
            arrived = await arrivals.of(message_id)
            connected_ms = (arrived - connecting) * 1000
            terminal.mark(
                good=True,
                text=f"message {number}: in its handler {connected_ms:.1f} ms after it began to "
                f"connect, {(arrived - sent[message_id]) * 1000:.1f} ms after the send",
            )
        for message_id in sent:
            _timeline(terminal, await _delivered(client, message_id))


def _message(token: str, number: int) -> dict[str, object]:
    return {
        "token": token,
        "notification": {"title": f"Hello {number}", "body": "from the demo"},
        "data": {"number": str(number)},
    }


def _timeline(terminal: Terminal, status: Status) -> None:
    events = ", ".join(f"{entry.type} {entry.time[11:23]}" for entry in status.timeline)
    terminal.mark(good=True, text=f"its status: {status.state} ({events})")


async def _delivered(client: ApiClient, message_id: str) -> Status:
    try:
        async with asyncio.timeout(_STEP_S):
            while True:
                status, _ = await client.status(message_id)
                if status.state == "delivered":
                    return status
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise _failed(f"message {message_id} has no delivered receipt") from None


@contextlib.asynccontextmanager
async def _listening(device: Device, clock: Clock) -> AsyncIterator[_Arrivals]:
    arrivals = _Arrivals(clock)

    async def listen() -> None:
        async for message in device.messages():
            arrivals.note(message.id)

    async with asyncio.TaskGroup() as group:
        listener = group.create_task(listen())
        try:
            yield arrivals
        finally:
            listener.cancel()
    await device.close()


def _data_dir(folder: Path) -> tuple[str, str]:
    return ("--data-dir", str(folder / "data"))


@contextlib.asynccontextmanager
async def _serve(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run `pushwire serve`, and give its URLs by name."""
    log_path = folder / "serve.log"
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", *_data_dir(folder)),
            *("--api-port", "0", "--device-port", "0", "--ops-port", "0", "--drain-s", "0.1"),
            *("--callback-allow-private", "true"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        line = b"" if process.stdout is None else await process.stdout.readline()
        words = line.decode().split()
        if words[:1] != ["ready"]:
            raise _failed(f"`pushwire serve` did not start:\n{_tail(log_path)}")
        yield dict(word.split("=", 1) for word in words[1:])
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise _failed(f"`pushwire serve` ended with {process.returncode}:\n{_tail(log_path)}")


async def _pushwire(*words: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, complaint = await process.communicate()
    if process.returncode:
        raise _failed(complaint.decode().strip())
    return out


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-20:])
