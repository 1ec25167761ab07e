"""Sockets for very many connections in a process: a descriptor and two references each.

A transport of the event loop takes more than a kilobyte. These speak the same interface to their
protocol, over one epoll set, which is itself a descriptor that the loop watches.
"""

import asyncio
import contextlib
import os
import select
import socket
from typing import Final

from typing_extensions import override

_EVENTS: Final = 512
"""Sockets that are served before the loop gets its turn."""
_READ_BYTES: Final = 16_384


class ThinSockets:
    """The sockets of a process. One epoll set; level-triggered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._open: dict[int, ThinTransport] = {}
        self._loop.add_reader(self._epoll.fileno(), self._serve)

    def adopt(self, connected: socket.socket, protocol: asyncio.Protocol) -> None:
        """Take over a connected socket, and tell its protocol."""
        if self._epoll.closed:
            connected.close()
            return
        descriptor = connected.detach()
        made = ThinTransport(self, descriptor, protocol)
        self._open[descriptor] = made
        self._epoll.register(descriptor, select.EPOLLIN)
        protocol.connection_made(made)

    def close(self) -> None:
        """Drop every socket, and tell no protocol. May be called again."""
        if self._epoll.closed:
            return
        self._loop.remove_reader(self._epoll.fileno())
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()
        self._epoll.close()

    def _serve(self) -> None:
        for descriptor, events in self._epoll.poll(0, _EVENTS):
            transport = self._open.get(descriptor)
            if transport is None:
                continue  # closed by what came before it
            if events & select.EPOLLOUT:
                transport.flush()
            if events & ~select.EPOLLOUT:
                transport.read()

    # For the transports.

    def want_write(self, descriptor: int, *, wanted: bool) -> None:
        """Be told, or not, when there is room in the kernel's buffer."""
        events = select.EPOLLIN | (select.EPOLLOUT if wanted else 0)
        self._epoll.modify(descriptor, events)

    def gone(self, descriptor: int, protocol: asyncio.Protocol, error: Exception | None) -> None:
        """Take it that one is not needed any more."""
        del self._open[descriptor]
        os.close(descriptor)  # which takes it out of the epoll set
        self._loop.call_soon(protocol.connection_lost, error)


class ThinTransport(asyncio.Transport):
    """One socket, as much of a transport as its protocol uses."""

    __slots__ = ("_descriptor", "_owner", "_protocol", "_waiting")

    def __init__(self, owner: ThinSockets, descriptor: int, protocol: asyncio.Protocol) -> None:
        # Without asyncio's __init__, which gives every transport a dictionary.
        self._owner = owner
        self._descriptor = descriptor
        self._protocol: asyncio.Protocol | None = protocol
        self._waiting: bytearray | None = None

    @override
    def is_closing(self) -> bool:
        return self._protocol is None

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._protocol is None:
            return
        if self._waiting is not None:
            self._waiting += data
            return
        written = 0
        with contextlib.suppress(BlockingIOError):
            try:
                written = os.write(self._descriptor, data)
            except ConnectionError:
                return  # reading tells
        if written < len(data):
            self._waiting = bytearray(data[written:])
            self._owner.want_write(self._descriptor, wanted=True)

    @override
    def close(self) -> None:
        self._end(None)

    @override
    def abort(self) -> None:
        self._end(None)

    def flush(self) -> None:
        """Write what waited for room."""
        waiting = self._waiting
        if waiting is None or self._protocol is None:
            return
        self._waiting = None
        self._owner.want_write(self._descriptor, wanted=False)
        self.write(waiting)

    def read(self) -> None:
        """Read once, and tell the protocol."""
        protocol = self._protocol
        if protocol is None:
            return
        try:
            data = os.read(self._descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            protocol.data_received(data)
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            self._waiting = None
            self._owner.gone(self._descriptor, protocol, error)
