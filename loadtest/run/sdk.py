"""Devices with the SDK, as an app would have it: files, dedup, backoff, acks after the handler."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from loadtest.fleet import each_of
from loadtest.run.layout import Layout
from loadtest.run.lean import LeanFleet
from loadtest.run.observed import Observed
from loadtest.run.protocol import Place
from loadtest.run.registration import AT_ONCE, Registered, assign_users
from sdk_client import ConnectionState, Device, PushwireError
from sdk_client.state import StateFile

_POLL_S: Final = 0.05


class SdkDevice:
    """One app: it may be stopped and started again, on its file.

    Args:
        index: of the device in the run.
        file: what the SDK keeps.
        place: the gateway.
        observed: told of what its handler gets.
        tasks: owns its loop.
    """

    def __init__(
        self, index: int, file: Path, place: Place, observed: Observed, tasks: asyncio.TaskGroup
    ) -> None:
        self.index = index
        self.registered = Registered("", "", "")
        self._file = file
        self._place = place
        self._observed = observed
        self._tasks = tasks
        self._device: Device | None = None
        self._due_ns = self._wanted_ns = 0

    @property
    def connected(self) -> bool:
        """Whether messages arrive."""
        return self._device is not None and self._device.connected

    async def register(self) -> None:
        """Have a registration in the file."""
        place = self._place
        device = await Device.register(
            place.api,
            project=place.project,
            client_key=place.client_key,
            state=self._file,
            device_url=place.devices,
            attributes={"loadtest": "yes"},
        )
        await device.close()
        stored = StateFile.read(self._file).registration
        if stored is not None:
            self.registered = Registered(
                stored.device_id, stored.token, stored.credential, stored.device_url
            )

    def start(self) -> None:
        """Start the app."""
        if self._device is None:
            self._wanted_ns = self._due_ns = time.monotonic_ns()
            self._device = Device.load(self._file, on_state=self._on_state)
            self._tasks.create_task(self._run(self._device))

    async def stop(self) -> None:
        """Stop the app."""
        device, self._device = self._device, None
        if device is not None:
            await device.close()

    async def _run(self, device: Device) -> None:
        try:
            async for message in device.messages():
                self._observed.message(self.index, message.id, message.data, self._wanted_ns)
        except PushwireError as error:
            self._observed.ended(f"{type(error).__name__}: {error}")

    def _on_state(self, state: ConnectionState, detail: str) -> None:
        if state is ConnectionState.CONNECTED:
            self._observed.welcomed(self._due_ns)
        elif state is ConnectionState.WAITING:
            self._due_ns = time.monotonic_ns()
            self._observed.ended(detail or "lost")


class SdkFleet:
    """The SDK devices of a process.

    Args:
        place: the gateway.
        folder: where the devices keep their files.
        number: of the process.
        seed: of all chance.
        tasks: owns what runs besides.
    """

    def __init__(
        self, place: Place, folder: Path, number: int, seed: int, tasks: asyncio.TaskGroup
    ) -> None:
        self.observed = Observed(handler=True)
        self._place = place
        self._folder = folder
        self._number = number
        self._seed = seed
        self._chance = random.Random(f"{seed}-{number}")
        self._tasks = tasks
        self._devices: list[SdkDevice] = []
        self._lean: LeanFleet | None = None

    @property
    def connected(self) -> int:
        """How many are."""
        return sum(device.connected for device in self._devices)

    async def register(self, layout: Layout, devices: Sequence[int]) -> list[Registered]:
        """Register devices, in their order.

        Raises:
            ApiError: the API refused one (in an ExceptionGroup).
        """
        self._devices = [
            SdkDevice(
                index,
                self._folder / f"device-{index}.json",
                self._place,
                self.observed,
                self._tasks,
            )
            for index in devices
        ]
        waiting = iter(self._devices)

        async def one(_slot: int) -> None:
            await next(waiting).register()

        await each_of(len(self._devices), range(AT_ONCE), one)
        if layout.users:
            ids = [(device.index, device.registered.device_id) for device in self._devices]
            await assign_users(self._place, layout, ids)
        return [device.registered for device in self._devices]

    async def connect(self, rate: float, timeout_s: float) -> None:
        """Start all, and wait until all are connected.

        Raises:
            TimeoutError: some are not.
        """
        await self._start(self._devices, rate)
        try:
            async with asyncio.timeout(timeout_s):
                while self.connected < len(self._devices):  # noqa: ASYNC110 - the SDK tells states, not counts
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            wanted = len(self._devices)
            raise self.observed.not_all(self.connected, wanted, timeout_s) from None

    async def cut(self, share: float, away_s: float, rate: float) -> None:
        """Stop some apps, and start them again after `away_s`."""
        some = [device for device in self._devices if self._chance.random() < share]
        for device in some:
            await device.stop()
        await asyncio.sleep(away_s)
        await self._start(some, rate)

    async def recheck(self, rate: float, timeout_s: float) -> int:
        """Stop all apps; gives what the mailboxes hold then, in all.

        Raises:
            TimeoutError: some mailboxes could not be looked at.
        """
        if self._lean is not None:
            return await self._lean.recheck(rate, timeout_s, everyone=True)
        self.observed.quiet = True
        for device in self._devices:
            await device.stop()
        url = self._place.devices or self._devices[0].registered.device_url
        self._lean = LeanFleet(url, self._number, self._seed, self._tasks, ack_delay_s=0.0)
        for device in self._devices:
            self._lean.add(device.index, device.registered, slow=False)
        return await self._lean.recheck(rate, timeout_s, everyone=True)

    async def dismiss(self) -> None:
        """Stop all for good."""
        for device in self._devices:
            await device.stop()
        if self._lean is not None:
            await self._lean.dismiss()

    async def _start(self, devices: Sequence[SdkDevice], rate: float) -> None:
        for device in devices:
            device.start()
            if rate:
                await asyncio.sleep(1 / rate)
