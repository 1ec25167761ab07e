"""Simulated devices, thousands in a process: they connect, ack, come back as the SDK would."""

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from loadtest.address import Target, target_of
from loadtest.fleet import open_socket
from loadtest.run.lean_socket import HEARTBEAT_S, LeanSocket
from loadtest.run.observed import Observed
from loadtest.run.registration import Registered
from loadtest.run.roll_call import ROLL, Roll
from loadtest.run.thin_socket import ThinSockets
from sdk_client import wire
from sdk_client.backoff import Backoff

_AT_ONCE: Final = 256
"""Handshakes in progress."""
_PER_ADDRESS: Final = 10_000
"""Connections from one source address. It has 28,000 ports, but Linux looks at every other one
first: once these are taken, it searches 14,000 in vain for each connection more."""
_DIAL_S: Final = 15.0
_LOOKS_PER_S: Final = 20_000


class SimulatedDevice:
    """One device over all of its connections. Belongs to a `LeanFleet`."""

    __slots__ = (
        "_backoff",
        "_fleet",
        "credential",
        "delayed",
        "due_ns",
        "index",
        "pending",
        "socket",
        "wanted",
        "wanted_ns",
    )

    def __init__(self, fleet: "LeanFleet", index: int, credential: str, *, slow: bool) -> None:
        self._fleet = fleet
        self._backoff: Backoff | None = None
        self.index = index
        self.credential = credential
        self.delayed = slow
        """Whether it acks late."""
        self.socket: LeanSocket | None = None
        self.wanted = False
        """Whether it should be connected."""
        self.wanted_ns = 0
        """Since when."""
        self.due_ns = 0
        """When the connection that it tries for, or has, was due."""
        self.pending: int | None = None
        """What its last welcome said."""

    @property
    def connected(self) -> bool:
        """Whether its session is up."""
        return self.socket is not None and self.socket.welcomed

    def on_welcome(self, socket: LeanSocket, frame: dict[str, object]) -> None:
        """Take it that the session is up."""
        if socket is self.socket:
            self._backoff = None
            pending = frame.get("pending")
            self.pending = pending if isinstance(pending, int) else 0
            self._fleet.welcomed(self)
            if not self.wanted:  # cut off while it was connecting
                socket.cut("cut by the load test")

    def on_messages(self, socket: LeanSocket, frames: list[dict[str, object]]) -> None:
        """Take messages, and ack them."""
        observed = self._fleet.observed
        ids = []
        for frame in frames:
            message = str(frame["id"])
            data = frame.get("data")
            data = data if isinstance(data, dict) else {}
            if ROLL in data:
                self._fleet.roll.answer(self.index, data)
            else:
                observed.message(self.index, message, data, self.wanted_ns)
            ids.append(message)
        if self.delayed:
            self._fleet.later(socket, ids)
        else:
            socket.ack(ids)

    def on_frame(self, socket: LeanSocket, frame: dict[str, object]) -> None:
        """Take another frame."""
        op = frame.get("op")
        if op == wire.Op.GOAWAY.value:
            after = frame.get("reconnect_after")
            socket.leave(float(after) if isinstance(after, int | float) else 0.0)
        elif op == wire.Op.DROPPED.value:
            count = frame.get("count")
            self._fleet.observed.dropped(count if isinstance(count, int) else 0)

    def on_end(self, socket: LeanSocket, reason: str, retry_after_s: float) -> None:
        """Take it that a connection is gone."""
        if socket is not self.socket:
            return
        self.socket = None
        self._fleet.ended(self, reason, welcomed=socket.welcomed)
        if self.wanted:
            self.come_back(retry_after_s, goaway=reason == "goaway")

    def come_back(self, retry_after_s: float = 0.0, *, goaway: bool = False) -> None:
        """Connect again, after the wait that the SDK would have."""
        if self._backoff is None:
            self._backoff = Backoff(self._fleet.chance.uniform)
        wait_s = retry_after_s if goaway else retry_after_s + self._backoff.wait_s()
        self._fleet.dial_in(self, wait_s)


class LeanFleet:
    """The simulated devices of a process.

    Args:
        devices_url: where to connect.
        number: of the process; its devices connect from addresses of their own.
        seed: of all chance.
        tasks: owns what runs besides.
        ack_delay_s: of those that ack late.
        heartbeat_s: between the signs of life of a device.
    """

    def __init__(
        self,
        devices_url: str,
        number: int,
        seed: int,
        tasks: asyncio.TaskGroup,
        ack_delay_s: float,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.observed = Observed()
        self.chance = random.Random(f"{seed}-{number}")
        self._target: Target = target_of(devices_url)
        self._number = number
        self._tasks = tasks
        self._ack_delay_s = ack_delay_s
        self._heartbeat_s = max(1, int(heartbeat_s))
        self.roll = Roll()
        """Who answered a roll call."""
        self._loop = asyncio.get_running_loop()
        self._sockets = ThinSockets()
        self._devices: list[SimulatedDevice] = []
        self._up = 0
        self._queue: list[tuple[int, int, SimulatedDevice]] = []
        self._awaited: deque[tuple[float, SimulatedDevice, LeanSocket]] = deque()
        """Connections without a welcome yet, and such as have one, by the time to give them up."""
        self._serial = itertools.count()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._queued = asyncio.Event()
        self._changed = asyncio.Event()
        self._running = (tasks.create_task(self._dial_all()), tasks.create_task(self._beat()))

    @property
    def connected(self) -> int:
        """How many sessions are up."""
        return self._up

    def add(self, index: int, registered: Registered, *, slow: bool) -> None:
        """Have one more device."""
        self._devices.append(SimulatedDevice(self, index, registered.credential, slow=slow))

    async def connect(self, rate: float, timeout_s: float) -> None:
        """Connect all, and wait until all are.

        Raises:
            TimeoutError: some are not.
        """
        await self._raise(self._devices, rate, timeout_s)

    async def cut(self, share: float, away_s: float, rate: float) -> None:
        """Cut some; they come back after `away_s`, or as the SDK does where it is 0."""
        some = [device for device in self._devices if self.chance.random() < share]
        if away_s > 0:
            some = [device for device in some if device.wanted]  # others are away already
            for device in some:
                device.wanted = False
        for device in some:
            if device.socket is not None:
                device.socket.cut("cut by the load test")
        if away_s > 0:
            await asyncio.sleep(away_s)
            self._summon(some, rate)

    async def recheck(self, rate: float, timeout_s: float, *, everyone: bool = False) -> int:
        """Connect anew all that got something; gives what their mailboxes hold then, in all.

        Args:
            rate: connections a second; 0: all at once.
            timeout_s: how long that may take.
            everyone: whether those that got nothing are looked at too.

        Raises:
            TimeoutError: some did not connect.
        """
        self.observed.quiet = True
        active = self.observed.active()
        some = [device for device in self._devices if everyone or device.index in active]
        for device in some:
            device.wanted, device.delayed, device.pending = False, False, None
            if device.socket is not None:
                device.socket.cut("rechecked")
        try:
            async with asyncio.timeout(timeout_s):
                while any(device.socket is not None for device in some):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise self.observed.not_all(0, len(some), timeout_s) from None
        await self._raise(some, rate, timeout_s)
        return sum(device.pending or 0 for device in some)

    async def dismiss(self) -> None:
        """Disconnect all for good."""
        for task in self._running:
            task.cancel()
        for device in self._devices:
            device.wanted = False
            if device.socket is not None:
                device.socket.cut("the end")
        self._sockets.close()

    # For the devices.

    def welcomed(self, device: SimulatedDevice) -> None:
        """Take it that one is connected."""
        self._up += 1
        self.observed.welcomed(device.due_ns)
        self._changed.set()

    def ended(self, _device: SimulatedDevice, reason: str, *, welcomed: bool) -> None:
        """Take it that a connection of one is gone."""
        if welcomed:
            self._up -= 1
            self.observed.ended(reason)
        else:
            self.observed.refused(reason)
        self._changed.set()

    def later(self, socket: LeanSocket, ids: list[str]) -> None:
        """Ack after the delay of a slow device."""
        self._loop.call_later(self._ack_delay_s, socket.ack, ids)

    def dial_in(self, device: SimulatedDevice, wait_s: float) -> None:
        """Connect one after a while."""
        device.due_ns = time.monotonic_ns() + int(wait_s * 1e9)
        heapq.heappush(self._queue, (device.due_ns, next(self._serial), device))
        self._queued.set()

    # Inside.

    def _summon(self, devices: Iterable[SimulatedDevice], rate: float) -> None:
        for position, device in enumerate(devices):
            if not device.wanted:
                wait_s = position / rate if rate else 0.0
                self.dial_in(device, wait_s)
                device.wanted, device.wanted_ns = True, device.due_ns

    async def _raise(self, devices: list[SimulatedDevice], rate: float, timeout_s: float) -> None:
        self._summon(devices, rate)
        try:
            async with asyncio.timeout(timeout_s):
                while not all(device.connected for device in devices):
                    self._changed.clear()
                    await self._changed.wait()
                    # One look at all devices for many of them, and for thousands a rare one.
                    await asyncio.sleep(0.05 + len(devices) / _LOOKS_PER_S)
        except TimeoutError:
            up = sum(device.connected for device in devices)
            raise self.observed.not_all(up, len(devices), timeout_s) from None

    async def _dial_all(self) -> None:
        while True:
            if not self._queue:
                self._queued.clear()
                await self._queued.wait()
                continue
            wait_s = (self._queue[0][0] - time.monotonic_ns()) / 1e9
            if wait_s > 0:
                self._queued.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._queued.wait()
                continue
            await self._slots.acquire()
            _, _, device = heapq.heappop(self._queue)
            if device.wanted and device.socket is None:
                self._tasks.create_task(self._dial(device))
            else:
                self._slots.release()

    async def _dial(self, device: SimulatedDevice) -> None:
        target = self._target
        made = LeanSocket(device.credential, target.authority, device, self._heartbeat_s)
        device.socket = made
        try:
            async with asyncio.timeout(_DIAL_S):
                if target.host.startswith("127.") and target.tls is None:
                    opened = await open_socket(self._source(device), (target.host, target.port))
                    self._sockets.adopt(opened, made)
                else:
                    await self._loop.create_connection(
                        lambda: made, target.host, target.port, ssl=target.tls
                    )
            self._awaited.append((self._loop.time() + _DIAL_S, device, made))
        except (OSError, TimeoutError) as error:
            device.on_end(made, getattr(error, "strerror", None) or "no connection", 0.0)
        finally:
            self._slots.release()

    def _give_up(self) -> None:
        """Give up connections on which no welcome came in time."""
        awaited, now_s = self._awaited, self._loop.time()
        while awaited and awaited[0][0] <= now_s:
            _, device, made = awaited.popleft()
            if device.socket is made and not made.welcomed:
                made.cut("no welcome in time")

    def _source(self, device: SimulatedDevice) -> str:
        """Give an address of loopback: one has fewer ports than a shard has devices."""
        return f"127.0.{1 + self._number}.{1 + device.index // _PER_ADDRESS}"

    async def _beat(self) -> None:
        """Give each device's signs of life, spread over the time between them."""
        for second in itertools.count():
            await asyncio.sleep(1.0)
            self._give_up()
            for device in self._devices[second % self._heartbeat_s :: self._heartbeat_s]:
                if device.connected and device.socket is not None:
                    device.socket.ping()
