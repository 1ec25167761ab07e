"""Messages on their way to the app's handler, and what the handler makes of them."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from sdk_client.errors import ClosedError, DisconnectedError
from sdk_client.wire import MessageFrame


class Desk(Protocol):
    """Where messages are settled."""

    def holds(self, message_id: str) -> bool:
        """Tell whether a message is neither acked nor nacked yet."""
        ...

    def settle(self, message_id: str) -> None:
        """Keep that the handler is done with a message, then ack it."""
        ...

    def refuse(self, message_id: str, reason: str, retry_after_s: float | None) -> None:
        """Ask for a message again."""
        ...

    async def engage(self, message_id: str, event: str, action: str) -> None:
        """Tell what a person did with a message."""
        ...


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Message(MessageFrame):
    """A message for the app; `sent_at` and `expires_at` in milliseconds since the epoch."""

    desk: Desk = field(repr=False)

    async def ack(self) -> None:
        """Say that the app is done with it; it will not come again.

        Returns when that is on disk; the ack leaves with the next frames, or on the next
        connection. A message that was acked or nacked before is left alone.

        Raises:
            StateError: the state file cannot be written; the message is not acked.
        """
        self.desk.settle(self.id)

    async def nack(self, reason: str = "", retry_after: float | None = None) -> None:
        """Ask for it again later. A message that was acked or nacked before is left alone.

        Args:
            reason: for the message's timeline.
            retry_after: seconds; None: the gateway's choice. It waits at least a second.
        """
        self.desk.refuse(self.id, reason, retry_after)

    async def displayed(self) -> None:
        """Tell the app server that a person saw it."""
        await self.desk.engage(self.id, "displayed", "")

    async def opened(self, action: str = "") -> None:
        """Tell the app server that a person opened it, and by which action."""
        await self.desk.engage(self.id, "opened", action)

    async def clicked(self, action: str = "") -> None:
        """Tell the app server that a person clicked in it, and on what."""
        await self.desk.engage(self.id, "clicked", action)

    async def dismissed(self) -> None:
        """Tell the app server that a person put it away."""
        await self.desk.engage(self.id, "dismissed", "")


class Mail:
    """The queue between the connection and the app's loop. Bounded by the session.

    Args:
        desk: where messages are settled.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._queue: deque[MessageFrame] = deque()
        self._news = asyncio.Event()
        self._stream: Messages | None = None
        self._ended: DisconnectedError | None = None

    def put(self, frame: MessageFrame) -> None:
        """Add a message."""
        self._queue.append(frame)
        self._news.set()

    def end(self, error: DisconnectedError) -> None:
        """Let no more messages out: loops end, with this error unless the app closed the device."""
        self._ended = error
        self._news.set()

    def stream(self, *, auto_ack: bool, begin: Callable[[], None]) -> "Messages":
        """Make a loop over the messages; the one before, if any, ends.

        Args:
            auto_ack: see `Messages`.
            begin: called when its first message is asked for.
        """
        if self._stream is not None:
            self._stream.release()
        self._stream = Messages(self, self._desk, auto_ack=auto_ack, begin=begin)
        self._news.set()
        return self._stream

    def put_back(self, frame: MessageFrame) -> None:
        """Take a message back that the handler did not finish: it comes first again."""
        self._queue.appendleft(frame)
        self._news.set()

    async def next(self, stream: "Messages") -> MessageFrame:
        """Wait for the next message of a loop.

        Raises:
            StopAsyncIteration: the loop was ended, or the device closed.
            DisconnectedError: the gateway ended the connection for good.
        """
        while stream is self._stream:
            if isinstance(self._ended, ClosedError):
                break
            if self._ended is not None:
                raise self._ended
            while self._queue:
                frame = self._queue.popleft()
                if self._desk.holds(frame.id):
                    return frame
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    def forget(self, stream: "Messages") -> None:
        """End a loop."""
        if self._stream is stream:
            self._stream = None
            self._news.set()


class Messages:
    """A loop over a device's messages: `async for message in device.messages()`.

    With `auto_ack`, asking for a message says that the app is done with the one before, and acks
    it. A body that raises, a `break`, a cancellation ask for nothing, so they leave their message
    unacked: it comes first in the next loop of this device, or again after a restart.
    Without, nothing is acked but by `message.ack()`, in any order, by any task.

    It may also be closed: `aclose()`, or `async with device.messages() as messages`.
    """

    def __init__(
        self, mail: Mail, desk: Desk, *, auto_ack: bool, begin: Callable[[], None]
    ) -> None:
        self._mail = mail
        self._desk = desk
        self._auto_ack = auto_ack
        self._begin = begin
        self._current: MessageFrame | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        self._begin()
        if self._current is not None:
            self._desk.settle(self._current.id)
            self._current = None
        frame = await self._mail.next(self)
        if self._auto_ack:
            self._current = frame
        return Message(
            id=frame.id,
            sent_at=frame.sent_at,
            expires_at=frame.expires_at,
            priority=frame.priority,
            topic=frame.topic,
            collapse_key=frame.collapse_key,
            notification=frame.notification,
            data=frame.data,
            desk=self._desk,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the loop. The message in hand is not acked; the next loop begins with it."""
        self.release()
        self._mail.forget(self)

    def release(self) -> None:
        """Give the message in hand back."""
        frame, self._current = self._current, None
        if frame is not None:
            self._mail.put_back(frame)
