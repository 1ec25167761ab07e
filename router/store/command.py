"""Commands on their way through a pipeline, alone or as parts of one call.

Before: `router.store.batch`. After: `router.store.link`.
"""

import asyncio
from typing import Final, Protocol, cast

from hiredis import ReplyError

from router.model.errors import PushError, StoreRefusedError, StoreReplyError
from router.store.link import Argument, Reply, pack

MAX_GATHERED: Final = 128
"""Messages in one call at the most: nothing else is served while the store carries it out."""
JOIN_S: Final = 0.05
"""A call that began to gather longer ago takes no more parts: it would fail them too early."""
_REFUSED: Final = {
    "OOM": "The store is out of memory: raise its maxmemory or wait for messages to expire.",
    "MISCONF": "The store cannot write to its disk: look into its log.",
    "NOREPLICAS": "The store has too few replicas to accept writes.",
}

Part = tuple[tuple[str, ...], tuple[Argument, ...]]
"""Keys and arguments of its own."""


class Waiter(Protocol):
    """Who waits for a command; `asyncio.Future` is one."""

    def done(self) -> bool:
        """Tell whether nobody waits any more."""
        ...

    def set_result(self, result: Reply, /) -> None:
        """Hand over the reply."""
        ...

    def set_exception(self, exception: PushError, /) -> None:
        """Hand over what went wrong."""
        ...


class Command:
    """One command on its way: its bytes, who waits for it, until when."""

    __slots__ = ("deadline", "messages", "packed", "parts", "sent", "urgent", "waiter")

    def __init__(
        self,
        packed: bytes,
        waiter: Waiter,
        deadline: float,
        urgent: bool,  # noqa: FBT001 - one is made for every command
    ) -> None:
        self.packed = packed
        """Empty as long as parts may join."""
        self.waiter = waiter
        self.deadline = deadline
        self.urgent = urgent
        self.sent = False
        self.parts = 1
        """How many calls it stands for."""
        self.messages = 0
        """How many messages its parts are about."""

    def takes_more(self, messages: int, deadline: float) -> bool:
        """Tell whether a part of so many messages, with this deadline, may still join."""
        if self.packed or self.messages + messages > MAX_GATHERED:
            return False
        return deadline - self.deadline <= JOIN_S and not self.waiter.done()

    def seal(self) -> bytes:
        """Give the bytes; no part joins after that."""
        if not self.packed:
            self.packed = cast("Parts", self.waiter).pack()
        return self.packed


class Parts:
    """Calls of one function for one partition, which the store carries out as one.

    Args:
        function: named in full.
        keys: of the call.
        args: what stands before the arguments of the parts.
    """

    __slots__ = ("_args", "_function", "_futures", "_keys", "_parts")

    def __init__(self, function: str, keys: tuple[str, ...], args: tuple[Argument, ...]) -> None:
        self._function = function
        self._keys = keys
        self._args = args
        self._parts: list[Part] = []
        self._futures: list[asyncio.Future[Reply]] = []

    def add(self, part: Part, future: asyncio.Future[Reply]) -> None:
        """Take one more, before they are packed."""
        self._parts.append(part)
        self._futures.append(future)

    def pack(self) -> bytes:
        """Write the call, without parts that were withdrawn."""
        if len(self._parts) == 1:
            keys_of_part, args_of_part = self._parts.pop()
            number = len(self._keys) + len(keys_of_part)
            head: tuple[Argument, ...] = ("FCALL", self._function, number, *self._keys)
            return pack((*head, *keys_of_part, *self._args, *args_of_part))
        keys: list[Argument] = [*self._keys]
        args: list[Argument] = [*self._args]
        futures = []
        for part, future in zip(self._parts, self._futures, strict=True):
            if not future.done():
                keys += part[0]
                args += part[1]
                futures.append(future)
        self._futures = futures
        self._parts.clear()
        return pack(("FCALL", self._function, len(keys), *keys, *args))

    def done(self) -> bool:
        """Tell whether nobody waits any more."""
        # Nearly always the first one does; a generator would cost more than the rest of this.
        for future in self._futures:  # noqa: SIM110
            if not future.done():
                return False
        return True

    def set_result(self, result: Reply) -> None:
        """Hand each part its own reply."""
        for future, reply in zip(self._futures, cast("list[Reply]", result), strict=True):
            if not future.done():
                settle(future, reply)

    def set_exception(self, exception: PushError) -> None:
        """Fail all parts."""
        for future in self._futures:
            if not future.done():
                fail(future, exception)


def settle(waiter: Waiter, reply: Reply) -> None:
    """Hand over a reply to who waits still."""
    if isinstance(reply, ReplyError):
        fail(waiter, _error_of(reply))
    else:
        waiter.set_result(reply)


def fail(waiter: Waiter, error: PushError) -> None:
    """Hand over what went wrong to who waits still."""
    waiter.set_exception(error)
    if isinstance(waiter, asyncio.Future):
        # Who waits for several commands gives up at the first that failed: no complaint about the
        # rest.
        waiter.exception()


def _error_of(reply: ReplyError) -> PushError:
    text = str(reply)
    if (known := _REFUSED.get(text.partition(" ")[0])) is not None:
        return StoreRefusedError(known)
    return StoreReplyError(f"The store refused a command: {text}")
