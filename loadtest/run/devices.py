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
)
from loadtest.run.registration import Registered, register, unregister
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
                done.tokens = [one.token for one in self._registered]
                done.device_url = self._registered[0].device_url
                done.device_ids = [one.device_id for one in self._registered]
            case Connect(rate, timeout_s):
                await self._here.connect(rate, timeout_s)
            case CutOff(share, away_s, rate):
                await self._here.cut(share, away_s, rate)
            case Recheck(rate, timeout_s):
                done.pending = await self._here.recheck(rate, timeout_s)
            case Reckon(sent):
                enrol = self._order
                layout = Layout(enrol.spec, enrol.name)
                mine = range(enrol.first, enrol.first + enrol.count)
                done.reckoning = self._here.observed.reckon(mine, layout.streams_of, sent)
            case Dismiss():
                if self._fleet is not None:
                    await self._fleet.dismiss()
                if command.unregister and self._enrolled is not None:
                    ids = [one.device_id for one in self._registered]
                    await unregister(self._enrolled.place, ids)
            case _:
                raise MemberError("not for devices")
        return done

    def tick(self) -> DeviceTick:
        """Say what happened since the last time."""
        if self._fleet is None:
            return DeviceTick()
        observed: Observed = self._fleet.observed
        return observed.tick(self._fleet.connected)

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
            fleet = LeanFleet(url, command.number, spec.seed, self._tasks, spec.ack_delay)
            slow = int(spec.slow * command.count)
            for index, one in zip(mine, self._registered, strict=True):
                fleet.add(index, one, slow=index - command.first < slow)
            self._fleet = fleet
        self._enrolled = command


if __name__ == "__main__":
    run_member(Devices)
