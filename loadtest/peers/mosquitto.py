"""Debian's mosquitto: MQTT 3.1.1 with QoS 1 and sessions that persist."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from typing_extensions import override

from loadtest import mqtt
from loadtest.child import child, find_binary, first_line, free_port
from loadtest.peer import TOPIC, Admitted, Guarantees, Peer, Received, Sender, Server

_BINARY: Final = "mosquitto"
# As root it would otherwise become a user that cannot write there.
_SETTINGS: Final = """\
listener {port} 127.0.0.1
user root
allow_anonymous true
set_tcp_nodelay true
persistence true
persistence_location {folder}/
log_type error
"""


class Mosquitto:
    """See `loadtest.peer.Peer`."""

    name: Final = "mosquitto"
    batches: Final = True
    guarantees: Final = Guarantees(
        accepted="in the broker's memory; its file is written every 30 minutes and at the end",
        killed="all that came since the file was written",
        delivered="PUBACK of each device (QoS 1), 20 under way at once",
        away="up to 1,000 messages a session; what comes after them is dropped",
        told="nothing",
    )

    def missing(self) -> str:
        """Say whether the broker is not installed."""
        return "" if find_binary(_BINARY) else "not installed (Debian: mosquitto)"

    @contextlib.asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[Server]:
        """Start a broker."""
        binary = find_binary(_BINARY) or _BINARY
        port = free_port()
        settings = folder / "mosquitto.conf"
        settings.write_text(_SETTINGS.format(port=port, folder=folder))
        version = (await first_line([binary, "-h"])).removeprefix("mosquitto version ")
        words = [binary, "-c", str(settings)]
        async with child(words, port, folder / "mosquitto.log") as pid:
            yield _Server(version, port, pid)

    def device(self, name: str, received: Received, done: asyncio.Future[None]) -> asyncio.Protocol:
        """Make a client that subscribes to the topic of all and to its own."""
        return mqtt.LeanClient(name, (TOPIC, _topic(name)), received, done)


class _Server:
    def __init__(self, version: str, port: int, pid: int) -> None:
        self.version: Final = version
        self.target: Final = ("127.0.0.1", port)
        self._pid = pid
        self._numbers = itertools.count()

    def pids(self) -> dict[str, list[int]]:
        return {"broker": [self._pid]}

    async def admit(self, count: int) -> list[Admitted]:
        # Nothing to do: clients subscribe themselves.
        names = [f"client-{number}" for number in itertools.islice(self._numbers, count)]
        return [Admitted(name, _topic(name)) for name in names]

    @contextlib.asynccontextmanager
    async def sender(self, at_once: int) -> AsyncIterator[Sender]:
        del at_once  # one connection has as many under way as there are
        async with mqtt.publisher(self.target) as publisher:
            yield _Sender(publisher)


class _Sender(Sender):
    def __init__(self, publisher: mqtt.Publisher) -> None:
        self._publisher = publisher

    @override
    async def publish(self, payloads: Sequence[bytes]) -> None:
        await self._publisher.publish([(TOPIC, payload) for payload in payloads])

    @override
    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        await self._publisher.publish(messages)


def _topic(name: str) -> str:
    return f"devices/{name}"


PEER: Final[Peer] = Mosquitto()
