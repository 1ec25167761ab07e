"""Debian's nats-server: JetStream with file storage, durable push consumers, explicit acks.

A device has two consumers, as one has one filter (NATS 2.9): in the stream of the topic, whose
messages stay for an hour, and in the stream of single messages, which are gone when acked.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from typing_extensions import override

from loadtest import nats
from loadtest.child import child, find_binary, first_line, free_port
from loadtest.fleet import each_of
from loadtest.peer import TOPIC, Admitted, Guarantees, Peer, Received, Sender, Server

_BINARY: Final = "nats-server"
_SETTINGS: Final = """\
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{folder}" }}
"""
_HOUR_S: Final = 3600
_AT_ONCE: Final = 16


class Nats:
    """See `loadtest.peer.Peer`."""

    name: Final = "nats"
    batches: Final = True
    guarantees: Final = Guarantees(
        accepted="in the stream's file, which is synced every two minutes",
        killed="nothing with the server; up to two minutes with the machine",
        delivered="ack of each device for each message (explicit)",
        away="all that its streams still have: a topic's of the last hour, its own until acked",
        told="nothing (advisories can tell of acks that failed)",
    )

    def missing(self) -> str:
        """Say whether the server is not installed."""
        return "" if find_binary(_BINARY) else "not installed (Debian: nats-server)"

    @contextlib.asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[Server]:
        """Start a server with the two streams."""
        binary = find_binary(_BINARY) or _BINARY
        port = free_port()
        settings = folder / "nats.conf"
        settings.write_text(_SETTINGS.format(port=port, folder=folder / "jetstream"))
        version = (await first_line([binary, "--version"])).rpartition(" ")[2].removeprefix("v")
        async with (
            child([binary, "-c", str(settings)], port, folder / "nats.log") as pid,
            nats.client(("127.0.0.1", port)) as client,
        ):
            await client.create_stream("topics", TOPIC, "limits", _HOUR_S)
            await client.create_stream("devices", "devices.*", "workqueue", _HOUR_S)
            yield _Server(version, port, pid, client)

    def device(self, name: str, received: Received, done: asyncio.Future[None]) -> asyncio.Protocol:
        """Make a client of what both consumers push."""
        return nats.LeanSubscriber(_inbox(name), received, done)


class _Server:
    def __init__(self, version: str, port: int, pid: int, client: nats.Client) -> None:
        self.version: Final = version
        self.target: Final = ("127.0.0.1", port)
        self._pid = pid
        self._client = client
        self._numbers = itertools.count()

    def pids(self) -> dict[str, list[int]]:
        return {"server": [self._pid]}

    async def admit(self, count: int) -> list[Admitted]:
        names = [f"device-{number}" for number in itertools.islice(self._numbers, count)]
        waiting = iter(names)

        async def one(_slot: int) -> None:
            name = next(waiting)
            await self._client.create_consumer("topics", name, TOPIC, _inbox(name))
            await self._client.create_consumer("devices", name, _subject(name), _inbox(name))

        await each_of(count, range(_AT_ONCE), one)
        return [Admitted(name, _subject(name)) for name in names]

    @contextlib.asynccontextmanager
    async def sender(self, at_once: int) -> AsyncIterator[Sender]:
        del at_once  # one connection has as many under way as there are
        async with nats.client(self.target) as client:
            yield _Sender(client)


class _Sender(Sender):
    def __init__(self, client: nats.Client) -> None:
        self._client = client

    @override
    async def publish(self, payloads: Sequence[bytes]) -> None:
        await self._client.publish([(TOPIC, payload) for payload in payloads])

    @override
    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        await self._client.publish(messages)


def _subject(name: str) -> str:
    """Where messages to one device are published."""
    return f"devices.{name}"


def _inbox(name: str) -> str:
    """Where the consumers of one device push."""
    return f"to.{name}"


PEER: Final[Peer] = Nats()
