"""A process of devices: `python -m loadtest.run.devices`, led by `loadtest.run.leader`."""

import asyncio
from pathlib import Path

from loadtest.run.layout import Layout
from loadtest.run.lean import LeanFleet
from loadtest.run.member import MemberError, run_member
from loadtest.run.observed import Observed
from loadtest.run.protocol import (
    Command,
    Connect,
    CutOff,
    DeviceTick,
    Dismiss,
    Done,
    Enrol,
    Recheck,
    Reckon,
    RollCall,
)
from loadtest.run.registration import Registered, register, unregister
from loadtest.run.roll_call import call_each
from loadtest.run.sdk import SdkFleet


class Devices:
    """The devices of this process.

    Args:
        tasks: owns what runs besides.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        self._enrolled: Enrol | None = None
        self._registered: list[Registered] = []
        self._fleet: LeanFleet | SdkFleet | None = None

    async def carry_out(self, command: Command) -> Done:
        """Do what a command says.

        Raises:
            MemberError: it does not fit here.
        """
        done = Done(0)
        match command:
            case Enrol():
                await self._enrol(command)
                done.device_url = self._registered[0].device_url
                if command.spec.rate:  # else nobody asks, and a million of them are many
                    done.tokens = [one.token for one in self._registered]
                    done.device_ids = [one.device_id for one in self._registered]
            case Reckon(sent):
                enrol = self._order
                layout = Layout(enrol.spec, enrol.name)
                mine = range(enrol.first, enrol.first + enrol.count)
                done.reckoning = self._here.observed.reckon(mine, layout.streams_of, sent)
            case RollCall(name, each, timeout_s):
                done.absent = await self._roll_call(name, timeout_s, each=each)
            case Dismiss():
                await self._dismiss(unregister_all=command.unregister)
            case Recheck(rate, timeout_s):
                done.pending = await self._here.recheck(rate, timeout_s)
            case _:
                await self._lead(command)
        return done

    async def _lead(self, command: Command) -> None:
        """Have the devices connect, or be cut off."""
        match command:
            case Connect(rate, timeout_s):
                await self._here.connect(rate, timeout_s)
            case CutOff(share, away_s, rate):
                await self._here.cut(share, away_s, rate)
            case _:
                raise MemberError("not for devices")

    async def _dismiss(self, *, unregister_all: bool) -> None:
        if self._fleet is not None:
            await self._fleet.dismiss()
        if unregister_all and self._enrolled is not None:
            ids = [one.device_id for one in self._registered]
            await unregister(self._enrolled.place, ids)

    def tick(self) -> DeviceTick:
        """Say what happened since the last time."""
        if self._fleet is None:
            return DeviceTick()
        observed: Observed = self._fleet.observed
        tick = observed.tick(self._fleet.connected)
        if isinstance(self._fleet, LeanFleet):
            tick.rolled = self._fleet.roll.take()
        return tick

    async def _roll_call(self, name: str, timeout_s: float, *, each: bool) -> int:
        """Give how many devices did not answer in time."""
        fleet, enrol = self._here, self._order
        if not isinstance(fleet, LeanFleet):
            raise MemberError("only lean devices answer a roll call")
        if each:
            await call_each(enrol.place, name, [one.token for one in self._registered])
        return enrol.count - await fleet.roll.answered(name, enrol.count, timeout_s)

    @property
    def _here(self) -> LeanFleet | SdkFleet:
        if self._fleet is None:
            raise MemberError("no devices are enrolled")
        return self._fleet

    @property
    def _order(self) -> Enrol:
        if self._enrolled is None:
            raise MemberError("no devices are enrolled")
        return self._enrolled

    async def _enrol(self, command: Enrol) -> None:
        spec, place = command.spec, command.place
        layout = Layout(spec, command.name)
        mine = range(command.first, command.first + command.count)
        if spec.device_kind == "sdk":
            apps = SdkFleet(place, Path(command.folder), command.number, spec.seed, self._tasks)
            self._registered = await apps.register(layout, mine)
            self._fleet = apps
        else:
            self._registered = await register(place, layout, mine)
            url = place.devices or self._registered[0].device_url
            fleet = LeanFleet(
                url, command.number, spec.seed, self._tasks, spec.ack_delay, spec.heartbeat
            )
            slow = int(spec.slow * command.count)
            for index, one in zip(mine, self._registered, strict=True):
                fleet.add(index, one, slow=index - command.first < slow)
            self._fleet = fleet
        self._enrolled = command


if __name__ == "__main__":
    run_member(Devices)
