"""The device port under TLS: a socket counts, and is judged, from its accept on.

asyncio's servers tell of a socket when its handshake of TLS is done. Whoever opens sockets and says
nothing would not be counted until then, and could take all descriptors of the shard. So sockets are
accepted here, and handed to a connection when they are secure.
"""

import asyncio
import contextlib
import functools
import socket
import ssl
from typing import Final

import structlog

from gateway.shard.connection import Connection
from gateway.shard.environment import Environment

ACCEPT_RETRY_S: Final = 1.0
"""After a failed accept, as where no descriptor is left; asyncio's servers wait as long."""

_Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""What `getaddrinfo` gives; the last one where Python knows no IPv6."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.secure_port")


class SecurePort:
    """Accepts sockets and has them secured.

    Args:
        environment: counts and judges them.
        context: of TLS.
        handshake_s: how long the handshake of TLS may take.
    """

    def __init__(
        self, environment: Environment[Connection], context: ssl.SSLContext, handshake_s: float
    ) -> None:
        self._environment = environment
        self._context = context
        self._handshake_s = handshake_s
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int, backlog: int, receive_buffer: int) -> int:
        """Listen on all addresses of a host; give the port, which the kernel picks for 0.

        Raises:
            OSError: the port cannot be had.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with contextlib.ExitStack() as opened:
            sockets = [
                opened.enter_context(_listening(family, address, backlog, receive_buffer))
                for family, _, _, _, address in dict.fromkeys(found)
            ]
            opened.pop_all()
        for one in sockets:
            task = loop.create_task(self._accept(one), name="accept")
            task.add_done_callback(functools.partial(_close, one))
            self._accepting.append(task)
        chosen: int = sockets[0].getsockname()[1]
        return chosen

    def stop_accepting(self) -> None:
        """Close the port; connections and handshakes stay. May be called again."""
        for task in self._accepting:
            task.cancel()

    async def close(self) -> None:
        """Close the port, and drop the sockets that are not secure yet."""
        for task in (tasks := [*self._accepting, *self._handshakes]):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                _log.warning("accept.failed", reason=error.strerror)
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            self._begin(accepted, address)
            await asyncio.sleep(0)  # a flood must not have the loop to itself

    def _begin(self, accepted: socket.socket, address: object) -> None:
        """Begin the handshake, or close: an answer would take the handshake first."""
        environment = self._environment
        peer = str(address[0]) if isinstance(address, tuple) and address else ""
        if (refusal := environment.enter(peer)) is not None:
            environment.refused(refusal.reason)
            accepted.close()
            environment.leave()
            return
        task = asyncio.get_running_loop().create_task(self._secure(accepted), name="tls")
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _secure(self, accepted: socket.socket) -> None:
        """Do the handshake; from its end on the socket is the connection's."""
        connection = Connection(self._environment)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._handshake_s,
            )
        except OSError as error:  # of TLS, of the time-out, of the network
            _log.debug("tls.failed", reason=str(error))
        finally:
            if not connection.begun:
                self._environment.leave()


def _close(listening: socket.socket, _accepting: asyncio.Task[None]) -> None:
    listening.close()


def _listening(family: int, address: _Address, backlog: int, receive_buffer: int) -> socket.socket:
    """Listen on one address, beside other shards."""
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # What is accepted takes over its options.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.bind(address)
        opened.listen(backlog)
    except OSError:
        opened.close()
        raise
    return opened
