"""Pushwire itself: one shard, one API, one worker, the embedded store with its append-only file."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from typing_extensions import override

from loadtest import senders
from loadtest.fleet import Register, http_pool, register
from loadtest.gateway import Gateway, Project, create_project, serve
from loadtest.http import HttpConnection, address_of
from loadtest.lean_device import LeanDevice
from loadtest.peer import TOPIC, Admitted, Guarantees, Peer, Received, Sender, Server
from loadtest.publishers import subscribe
from loadtest.senders import Account

_PROJECT: Final = "bench"
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_TTL: Final = "3600s"
_KEY: Final = "p"
"""Under which the payload stands in a message's data."""


class Pushwire:
    """See `loadtest.peer.Peer`."""

    name: Final = "pushwire"
    batches: Final = True
    guarantees: Final = Guarantees(
        accepted="in the store's memory and its append-only file, which is synced every second",
        killed="at the most a second, with the store or the machine; nothing with another process",
        delivered="ack of each device; several messages in one where they came together",
        away="all of its mailbox and its topics, until they expire or give way at the pending cap",
        told="each state of each message, by callbacks and by asking",
    )

    def missing(self) -> str:
        """Nothing is: it is what this is part of."""
        return ""

    @contextlib.asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[Server]:
        """Start a gateway with a project."""
        async with serve(folder / "data", flags=_FLAGS) as gateway:
            project = await create_project(gateway.data_dir, _PROJECT)
            yield _Server(gateway, project)

    def device(self, name: str, received: Received, done: asyncio.Future[None]) -> asyncio.Protocol:
        """Make a device that connects with its credential."""

        def on_message(_credential: str, frame: dict[str, object]) -> None:
            data = frame["data"]
            if isinstance(data, dict):
                received(str(data[_KEY]).encode())

        return LeanDevice(name, "127.0.0.1", on_message, done)


class _Server:
    version: Final = version("pushwire")

    def __init__(self, gateway: Gateway, project: Project) -> None:
        self.target: Final = address_of(gateway.devices)
        self._gateway = gateway
        self._project = project
        self._account = Account(gateway.api, project.project, project.api_key)

    def pids(self) -> dict[str, list[int]]:
        return self._gateway.pids()

    async def admit(self, count: int) -> list[Admitted]:
        api, project = self._gateway.api, self._project
        devices = await register(Register(api, project.project, project.client_key, count))
        await subscribe(self._account, TOPIC, [device.token for device in devices])
        return [Admitted(device.credential, device.token) for device in devices]

    @contextlib.asynccontextmanager
    async def sender(self, at_once: int) -> AsyncIterator[Sender]:
        async with http_pool(self._gateway.api, at_once) as pool:
            yield _Sender(self._account, pool)


class _Sender(Sender):
    def __init__(self, account: Account, pool: Sequence[HttpConnection]) -> None:
        self._account = account
        self._free: asyncio.LifoQueue[HttpConnection] = asyncio.LifoQueue()
        for connection in pool:
            self._free.put_nowait(connection)

    @override
    async def publish(self, payloads: Sequence[bytes]) -> None:
        # Receipts as a topic of many devices has them: counted, not one for each device.
        told = {"topic": TOPIC, "receipts": "aggregate"}
        await self._send([{**told, **_body(payload)} for payload in payloads])

    @override
    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        await self._send([{"token": token, **_body(payload)} for token, payload in messages])

    async def _send(self, messages: Sequence[dict[str, object]]) -> None:
        connection = await self._free.get()
        try:
            if len(messages) > 1:
                request = self._account.request("sendBatch", {"messages": messages})
                senders.check_batch(await connection.request(request))
                return
            answer = await connection.request(
                self._account.request("send", {"message": messages[0]})
            )
            if answer.status != senders.OK:
                raise ConnectionError(f"send: {answer.status} {answer.body[:300]!r}")
        except senders.SendError as error:
            raise ConnectionError(str(error)) from error
        finally:
            self._free.put_nowait(connection)


def _body(payload: bytes) -> dict[str, object]:
    return {"data": {_KEY: payload.decode()}, "ttl": _TTL}


PEER: Final[Peer] = Pushwire()
