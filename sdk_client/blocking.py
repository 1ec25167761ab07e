"""The SDK for programs without an event loop: the same device, run in a thread of its own.

with BlockingDevice.load("device.json") as device:
    for message in device.messages():
        print(message.data)
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeVar, Unpack

from sdk_client.device import Device
from sdk_client.events import ConnectionState
from sdk_client.messages import Message, Messages
from sdk_client.settings import Settings, Spec, StatePath
from sdk_client.wire import MessageFrame

Result = TypeVar("Result")


class _LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="pushwire", daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[object, object, Result], timeout_s: float | None) -> Result:
        """Run a coroutine there and wait for it; an interrupt or a time-out cancels it.

        Raises:
            TimeoutError: it took too long.
        """
        future = asyncio.run_coroutine_threadsafe(_bounded(coroutine, timeout_s), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def running(self) -> bool:
        """Whether coroutines can be run."""
        return not self._loop.is_closed()

    def stop(self) -> None:
        """End the loop and its thread. Repeats do nothing."""
        if self.running:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())


async def _bounded(coroutine: Coroutine[object, object, Result], timeout_s: float | None) -> Result:
    async with asyncio.timeout(timeout_s):
        return await coroutine


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BlockingMessage(MessageFrame):
    """A message for the app; see `sdk_client.messages.Message`."""

    original: Message = field(repr=False)
    thread: _LoopThread = field(repr=False)

    def ack(self) -> None:
        """Say that the app is done with it."""
        self.thread.call(self.original.ack(), None)

    def nack(self, reason: str = "", retry_after: float | None = None) -> None:
        """Ask for it again, after so many seconds."""
        self.thread.call(self.original.nack(reason, retry_after), None)

    def displayed(self) -> None:
        """Tell the app server that a person saw it."""
        self.thread.call(self.original.displayed(), None)

    def opened(self, action: str = "") -> None:
        """Tell the app server that a person opened it."""
        self.thread.call(self.original.opened(action), None)

    def clicked(self, action: str = "") -> None:
        """Tell the app server that a person clicked in it."""
        self.thread.call(self.original.clicked(action), None)

    def dismissed(self) -> None:
        """Tell the app server that a person put it away."""
        self.thread.call(self.original.dismissed(), None)


class BlockingMessages:
    """A loop over messages: acks and ends as `sdk_client.messages.Messages` does.

    With a time-out the loop ends once no message came for so long; another loop may follow.
    """

    def __init__(
        self, device: Device, thread: _LoopThread, *, auto_ack: bool, timeout_s: float | None
    ) -> None:
        self._device = device
        self._thread = thread
        self._auto_ack = auto_ack
        self._timeout_s = timeout_s
        self._messages: Messages | None = None
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> BlockingMessage:
        if self._ended or not self._thread.running:
            raise StopIteration
        try:
            message = self._thread.call(self._next(), self._timeout_s)
        except (StopAsyncIteration, TimeoutError):
            self._ended = True
            raise StopIteration from None
        except BaseException:
            # An interrupt may have come between the message and us: have it given again.
            self._messages = None
            raise
        return BlockingMessage(
            id=message.id,
            sent_at=message.sent_at,
            expires_at=message.expires_at,
            priority=message.priority,
            topic=message.topic,
            collapse_key=message.collapse_key,
            notification=message.notification,
            data=message.data,
            original=message,
            thread=self._thread,
        )

    async def _next(self) -> Message:
        if self._messages is None:
            self._messages = self._device.messages(auto_ack=self._auto_ack)
        return await anext(self._messages)


class BlockingDevice:
    """A `Device` for programs without an event loop. Made by `register` or `load`.

    Callbacks (`on_state`, `on_dropped`) are called in the device's own thread.
    """

    def __init__(self, device: Device, thread: _LoopThread) -> None:
        self._device = device
        self._thread = thread

    @classmethod
    def register(
        cls,
        url: str,
        *,
        project: str,
        client_key: str,
        platform: str = "python",
        state: StatePath | None = None,
        **spec: Unpack[Spec],
    ) -> Self:
        """Register a device, or take up the registration in the state file: `Device.register`."""
        thread = _LoopThread()
        try:
            registering = Device.register(
                url,
                project=project,
                client_key=client_key,
                platform=platform,
                state=state,
                **spec,
            )
            return cls(thread.call(registering, None), thread)
        except BaseException:
            thread.stop()
            raise

    @classmethod
    def load(cls, state: StatePath, **settings: Unpack[Settings]) -> Self:
        """Take up the registration that a state file holds: `Device.load`."""
        thread = _LoopThread()
        try:
            return cls(thread.call(_loaded(state, settings), None), thread)
        except BaseException:
            thread.stop()
            raise

    @property
    def device_id(self) -> str:
        """The device's id."""
        return self._device.device_id

    @property
    def token(self) -> str:
        """The address that app servers send to."""
        return self._device.token

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life."""
        return self._device.state

    @property
    def connected(self) -> bool:
        """Whether messages arrive at this moment."""
        return self._device.connected

    def messages(
        self, *, auto_ack: bool = True, timeout_s: float | None = None
    ) -> BlockingMessages:
        """Loop over the messages: `for message in device.messages()`.

        Args:
            auto_ack: as of `Device.messages`.
            timeout_s: end the loop once no message came for so many seconds; None: never.
        """
        return BlockingMessages(self._device, self._thread, auto_ack=auto_ack, timeout_s=timeout_s)

    def send(self, data: Mapping[str, object], timeout_s: float | None = None) -> None:
        """Send a message to the app server: `Device.send`.

        Raises:
            TimeoutError: the gateway did not answer within so many seconds.
        """
        self._thread.call(self._device.send(data), timeout_s)

    def subscribe(self, *topics: str, timeout_s: float | None = None) -> None:
        """Get what is published to these topics: `Device.subscribe`."""
        self._thread.call(self._device.subscribe(*topics), timeout_s)

    def unsubscribe(self, *topics: str, timeout_s: float | None = None) -> None:
        """Get no more of these topics: `Device.unsubscribe`."""
        self._thread.call(self._device.unsubscribe(*topics), timeout_s)

    def rotate_token(self) -> str:
        """Get a new token: `Device.rotate_token`."""
        return self._thread.call(self._device.rotate_token(), None)

    def take_push(self, payload: Mapping[str, object]) -> bool:
        """Tell whether the app is to handle a push of the platform: `Device.take_push`."""
        return self._thread.call(self._device.take_push(payload), None)

    def set_bridge(self, bridge: Mapping[str, object] | None) -> None:
        """Say where a bridge reaches the device: `Device.set_bridge`."""
        self._thread.call(self._device.set_bridge(bridge), None)

    def set_user(self, user_token: str) -> None:
        """Say whose device it is: `Device.set_user`."""
        self._thread.call(self._device.set_user(user_token), None)

    def clear_user(self) -> None:
        """Say that the device is nobody's: `Device.clear_user`."""
        self._thread.call(self._device.clear_user(), None)

    def unregister(self) -> None:
        """End the registration for good: `Device.unregister`."""
        self._thread.call(self._device.unregister(), None)
        self._thread.stop()

    def close(self) -> None:
        """Disconnect, and end the thread. Repeats do nothing."""
        if self._thread.running:
            self._thread.call(self._device.close(), None)
            self._thread.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


async def _loaded(state: StatePath, settings: Settings) -> Device:
    return Device.load(state, **settings)
