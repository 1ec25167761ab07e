"""What a server must be able to do to be measured beside Pushwire: the interface of the plug-ins.

One module of `loadtest.peers` speaks for one server. Its parts run in two places: the server and
the senders belong to the leading process, devices to processes of their own (`loadtest.beside`).
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import msgspec

TOPIC: Final = "everybody"
"""All devices get what is published to it."""

_NUMBER_DIGITS: Final = 8
_DUE_DIGITS: Final = 20
_HEAD: Final = _NUMBER_DIGITS + _DUE_DIGITS

Received = Callable[[bytes], None]
"""Told of the payload of each message that came to a device."""


class Guarantees(msgspec.Struct, frozen=True, kw_only=True):
    """What the server promises as it is set up here, in words for the table beside the figures."""

    accepted: str
    """Where a message is when its sender has the answer."""
    killed: str
    """What of it is lost when the server, or the machine, dies."""
    delivered: str
    """How the server knows that a device has it."""
    away: str
    """What a device gets that was not connected."""
    told: str
    """What the sender learns of the delivery."""


class Admitted(NamedTuple):
    """A device that the server knows."""

    name: str
    """As what it connects."""
    address: str
    """As what senders know it."""


class Sender(Protocol):
    """App servers; what they send is accepted when the call returns."""

    async def publish(self, payloads: Sequence[bytes]) -> None:
        """Send messages to all devices, in one request or write.

        Raises:
            ConnectionError: one was refused.
        """

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send messages to one address each, in one request or write.

        Raises:
            ConnectionError: one was refused.
        """


class Server(Protocol):
    """A server that runs."""

    @property
    def version(self) -> str:
        """Which one it is."""

    @property
    def target(self) -> tuple[str, int]:
        """Where devices connect."""

    def pids(self) -> dict[str, list[int]]:
        """Give all processes whose cost counts, by role."""

    async def admit(self, count: int) -> list[Admitted]:
        """Make so many new devices known, all of them subscribed to `TOPIC`.

        Raises:
            ConnectionError: it failed.
        """

    def sender(self, at_once: int) -> AbstractAsyncContextManager[Sender]:
        """Open what it takes to have so many calls under way at once."""


class Peer(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def guarantees(self) -> Guarantees:
        """What it promises."""

    @property
    def batches(self) -> bool:
        """Whether senders can hand over several messages to devices at once."""

    def missing(self) -> str:
        """Say why it cannot be measured on this machine; empty where it can."""

    def serve(self, folder: Path) -> AbstractAsyncContextManager[Server]:
        """Start a server that keeps its files in `folder`, and stop it in the end."""

    def device(self, name: str, received: Received, done: asyncio.Future[None]) -> asyncio.Protocol:
        """Make the protocol of one device's connection.

        Args:
            name: as what it connects (`Admitted`).
            received: told of each message; where the server knows acks, it is acked too.
            done: settled once: with None when messages come, with an error where it is refused.
        """


def encode_payload(number: int, due_ns: int, size: int) -> bytes:
    """Write a payload of `size` ASCII bytes that tells its number, and when it was due (or 0)."""
    return f"{number:0{_NUMBER_DIGITS}d}{due_ns:0{_DUE_DIGITS}d}".ljust(size, "x").encode()


def decode_payload(payload: bytes) -> tuple[int, int]:
    """Give the number of a message, and when it was due (ns of the monotonic clock; or 0)."""
    return int(payload[:_NUMBER_DIGITS]), int(payload[_NUMBER_DIGITS:_HEAD])
