"""A port on which a busy process still accepts connections.

libuv accepts one connection of a listening socket in each turn of the event loop (since 1.45). A
process whose turns take 20 ms would accept 50 a second, and all others would wait in the kernel,
where nobody sees or refuses them. So the loop is given the listening socket several times.
"""

import asyncio
import os
import socket
from collections.abc import Callable


class Acceptors:
    """The servers of one port; `open_port` makes them.

    Args:
        servers: that share its listening sockets.
    """

    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers
        self.address: tuple[str, int] = servers[0].sockets[0].getsockname()[:2]
        """Host and port."""

    def close(self) -> None:
        """Accept no more; connections stay. May be called again."""
        for server in self._servers:
            server.close()


async def open_port(
    factory: Callable[[], asyncio.Protocol],
    host: str,
    port: int,
    backlog: int,
    a_turn: int,
    receive_buffer: int = 0,
) -> Acceptors:
    """Listen on all addresses of a host, beside other processes.

    Args:
        factory: makes the protocol of a connection.
        host: to listen on.
        port: to listen on; 0 for a free one.
        backlog: connections that the kernel accepts ahead.
        a_turn: connections that are accepted in a turn of the loop at the most.
        receive_buffer: bytes that the kernel is asked to hold of a connection; 0: as it likes.

    Raises:
        OSError: the port cannot be had.
    """
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(
            factory, host, port, backlog=backlog, reuse_port=True, reuse_address=True
        )
    ]
    for listening in servers[0].sockets:
        if receive_buffer:  # what is accepted takes over its options
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        for _ in range(a_turn - 1):
            again = socket.socket(fileno=os.dup(listening.fileno()))
            servers.append(await loop.create_server(factory, sock=again, backlog=backlog))
    return Acceptors(servers)
