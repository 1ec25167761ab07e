"""Debian's nginx with nchan: WebSocket subscribers, messages in shared memory, no acks."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, cast

from typing_extensions import override

from loadtest.child import child, find_binary, first_line, free_port
from loadtest.fleet import http_pool
from loadtest.http import HttpConnection, encode_request
from loadtest.lean_device import CLOSE, PING, PONG, encode_frame, split_frames
from loadtest.peer import TOPIC, Admitted, Guarantees, Peer, Received, Sender, Server
from loadtest.processes import descendants

_BINARY: Final = "nginx"
_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_CONNECTIONS: Final = 16_000
# As root, workers would otherwise become a user that cannot write to the folder.
_SETTINGS: Final = """\
load_module {module};
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 600s;
  client_header_timeout 600s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 512m;
  nchan_message_timeout 1h;
  nchan_message_buffer_length 100;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/publish/([\\w-]+)$ {{ nchan_publisher; nchan_channel_id $1; }}
    location ~ ^/subscribe/([\\w-]+)$ {{ nchan_subscriber websocket; nchan_channel_id {topic} $1; }}
  }}
}}
"""
_DATA: Final = frozenset({0x81, 0x82})
"""First bytes of text and binary frames."""
_ACCEPTED: Final = frozenset({201, 202})
"""For subscribers that are there, and for those that come later."""


class Nchan:
    """See `loadtest.peer.Peer`."""

    name: Final = "nchan"
    batches: Final = False
    guarantees: Final = Guarantees(
        accepted="in nginx's shared memory",
        killed="everything, with nginx",
        delivered="nothing: there are no acks, what is written to a socket counts as delivered",
        away="up to 100 messages of the last hour, where it names the last one that it had",
        told="whether subscribers were there",
    )

    def missing(self) -> str:
        """Say whether the server or the module is not installed."""
        there = find_binary(_BINARY) is not None and _MODULE.exists()
        return "" if there else "not installed (Debian: nginx-light, libnginx-mod-nchan)"

    @contextlib.asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[Server]:
        """Start nginx with one worker."""
        binary = find_binary(_BINARY) or _BINARY
        port = free_port()
        settings = folder / "nginx.conf"
        settings.write_text(
            _SETTINGS.format(
                module=_MODULE, folder=folder, connections=_CONNECTIONS, port=port, topic=TOPIC
            )
        )
        words = [binary, "-e", "stderr", "-p", str(folder), "-c", str(settings)]
        version = (await first_line([binary, "-v"])).rpartition("/")[2]
        async with child(words, port, folder / "nginx.log") as pid:
            yield _Server(f"nginx {version}", port, pid)

    def device(self, name: str, received: Received, done: asyncio.Future[None]) -> asyncio.Protocol:
        """Make a subscriber of the channel of all and of its own."""
        return _Subscriber(name, received, done)


class _Server:
    def __init__(self, version: str, port: int, pid: int) -> None:
        self.version: Final = version
        self.target: Final = ("127.0.0.1", port)
        self._pid = pid
        self._numbers = itertools.count()

    def pids(self) -> dict[str, list[int]]:
        return {"nginx": [self._pid, *descendants(self._pid)]}

    async def admit(self, count: int) -> list[Admitted]:
        # Nothing to do: channels are there as soon as somebody names them.
        names = [f"device-{number}" for number in itertools.islice(self._numbers, count)]
        return [Admitted(name, name) for name in names]

    @contextlib.asynccontextmanager
    async def sender(self, at_once: int) -> AsyncIterator[Sender]:
        base_url = f"http://127.0.0.1:{self.target[1]}"
        async with http_pool(base_url, at_once) as pool:
            yield _Sender(base_url, pool)


class _Sender(Sender):
    def __init__(self, base_url: str, pool: Sequence[HttpConnection]) -> None:
        self._base_url = base_url
        self._free: asyncio.LifoQueue[HttpConnection] = asyncio.LifoQueue()
        for connection in pool:
            self._free.put_nowait(connection)

    @override
    async def publish(self, payloads: Sequence[bytes]) -> None:
        await self.send([(TOPIC, payload) for payload in payloads])

    @override
    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for channel, payload in messages:
            await self._post(channel, payload)

    async def _post(self, channel: str, payload: bytes) -> None:
        connection = await self._free.get()
        try:
            path = f"/publish/{channel}"
            answer = await connection.request(encode_request("POST", self._base_url, path, payload))
        finally:
            self._free.put_nowait(connection)
        if answer.status not in _ACCEPTED:
            raise ConnectionError(f"publish: {answer.status} {answer.body[:300]!r}")


class _Subscriber(asyncio.Protocol):
    """A WebSocket that only listens."""

    __slots__ = ("_buffer", "_done", "_name", "_open", "_received", "_transport")

    def __init__(self, name: str, received: Received, done: asyncio.Future[None]) -> None:
        self._name = name
        self._received = received
        self._done = done
        self._buffer = b""
        self._open = False
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.write(
            f"GET /subscribe/{self._name} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: MDAwMDAwMDAwMDAwMDAwMA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._refuse("nginx closed the connection")

    @override
    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._open:
            head, found, rest = data.partition(b"\r\n\r\n")
            self._buffer = data
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._refuse(f"refused: {head.splitlines()[0].decode()}")
                return
            self._open = True
            self._done.set_result(None)
            data = rest
        frames, self._buffer = split_frames(data)
        for first_byte, payload in frames:
            if first_byte in _DATA:
                self._received(payload)
            elif first_byte == PING and self._transport is not None:
                self._transport.write(encode_frame(PONG, payload))
            elif first_byte == CLOSE and self._transport is not None:
                self._transport.abort()

    def _refuse(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(reason))


PEER: Final[Peer] = Nchan()
