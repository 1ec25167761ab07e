"""The faults of a scenario, carried out at their times."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from typing import Protocol

from loadtest.run.ground import Ground
from loadtest.run.member import Member
from loadtest.run.protocol import CutOff
from loadtest.run.spec import Cut, Fault, Kill, Restart
from loadtest.run.watched_store import WatchedStore


class Mark(Protocol):
    """Writes down what happened, and when."""

    def __call__(self, text: str, *, fault: bool = False) -> None:
        """Write a line."""
        ...


class Trouble:
    """Makes the trouble of a run.

    Args:
        ground: the gateway.
        devices: the processes of devices.
        mark: told of what is done.
        seconds: when the run ends.
        connect_rate: how fast devices come back that were away, a second and in all.
    """

    def __init__(
        self,
        ground: Ground,
        devices: Sequence[Member],
        mark: Mark,
        seconds: float,
        connect_rate: float,
    ) -> None:
        self._ground = ground
        self._devices = devices
        self._mark = mark
        self._seconds = seconds
        self._connect_rate = connect_rate
        self._turns: dict[str, int] = {}
        self._over = asyncio.Event()

    def end(self) -> None:
        """Begin no more faults; those that are going on come to their end."""
        self._over.set()

    async def run(self, faults: Sequence[Fault]) -> None:
        """Carry out all faults; returns when the last is over.

        Raises:
            GroundError: a process did not come back (in an ExceptionGroup).
        """
        begun = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._at(fault, begun))

    async def _at(self, fault: Fault, begun: float) -> None:
        at_s = float(fault.at)
        clock = asyncio.get_running_loop().time
        while at_s < self._seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(begun + at_s - clock()):
                    await self._over.wait()
            if self._over.is_set():
                return
            await self._carry_out(fault)
            if not fault.every:
                return
            while at_s <= clock() - begun:  # one that took longer than its period skips some
                at_s += fault.every

    async def _carry_out(self, fault: Fault) -> None:
        match fault:
            case Kill(role=role):
                await self._kill(role)
            case Restart(roles=roles):
                for role in roles:
                    await self._restart(role)
            case Cut(share=share, away=away):
                await self._cut(share, away)

    async def _kill(self, role: str) -> None:
        if role == "store" and self._ground.store is not None:
            await self._fail_over(self._ground.store)
            return
        processes = list(self._ground.of_role(role).items())
        if not processes:
            return
        turn = self._turns.get(role, 0)
        self._turns[role] = turn + 1
        name, pid = processes[turn % len(processes)]
        self._mark(f"{name} killed (SIGKILL)", fault=True)
        self._ground.hurt(pid, signal.SIGKILL)
        took_s = await self._ground.replaced(name, pid)
        self._mark(f"{name} serves again after {took_s:.1f} s")

    async def _fail_over(self, store: WatchedStore) -> None:
        """Kill the primary; its replica takes over, and later it comes back as a replica."""
        begun = time.monotonic()
        primary = await store.primary()
        self._mark(f"the primary, {primary.name}, killed (SIGKILL)", fault=True)
        self._ground.hurt(primary.pid, signal.SIGKILL)
        promoted = await store.promoted(primary)
        self._mark(f"{promoted.name} is the primary after {time.monotonic() - begun:.1f} s")
        await store.rejoin(primary)
        self._mark(f"{primary.name} follows it after {time.monotonic() - begun:.1f} s")
        await self._ground.until_ready()
        self._mark(f"the gateway is ready after {time.monotonic() - begun:.1f} s")

    async def _restart(self, role: str) -> None:
        for name, pid in self._ground.of_role(role).items():
            self._mark(f"{name} told to stop (SIGTERM)", fault=True)
            self._ground.hurt(pid, signal.SIGTERM)
            took_s = await self._ground.replaced(name, pid)
            self._mark(f"{name} serves again after {took_s:.1f} s")

    async def _cut(self, share: float, away_s: float) -> None:
        away = f", away for {away_s:g} s" if away_s else ""
        self._mark(f"{share:.0%} of the devices cut off{away}", fault=True)
        command = CutOff(share, away_s, self._connect_rate / len(self._devices))
        async with asyncio.TaskGroup() as group:
            for process in self._devices:
                group.create_task(_ask(process, command))
        if away_s:
            self._mark("devices come back")


async def _ask(process: Member, command: CutOff) -> None:
    await process.ask(command)
