"""What goes wrong in a run, and what devices do of themselves: one method each."""

import asyncio
from typing import Final

from router.model.ids import DeviceId
from tests.simulation.context import Context
from tests.simulation.device_side import Installation
from tests.simulation.network import Socket
from tests.simulation.park import Park
from tests.simulation.process import Process
from tests.simulation.servers import AppServer
from tests.simulation.store import StoreServer
from tests.simulation.topic_checks import TOPICS

_STEPS_MS: Final = (-20_000, -2_000, -300, 300, 2_000, 20_000)
_PAUSES_S: Final = (0.3, 2.0, 5.0, 12.0, 20.0)


class Happenings:
    """The faults, by the names of their rates (`tests.simulation.faults`)."""

    def __init__(
        self,
        context: Context,
        tasks: asyncio.TaskGroup,
        server: StoreServer,
        park: Park,
        app_server: AppServer,
        installations: list[Installation],
    ) -> None:
        self._context = context
        self._tasks = tasks
        self._server = server
        self._park = park
        self._app_server = app_server
        self._installations = installations
        self._requests = 0

    # Of devices.

    def request(self) -> None:
        """Have a device send something to the app server."""
        self._requests += 1
        process = self._any_device().running
        if process is not None and process.connected:
            process.request(f"request-{self._requests}")

    def subscribe(self) -> None:
        """Have a device, or the app server, change what the device subscribes to."""
        self._requests += 1
        rng, installation = self._context.rng, self._any_device()
        topic, subscribe = rng.choice(TOPICS), rng.random() < 0.7
        process = installation.running
        if rng.random() < 0.3:
            self._app_server.subscribe(DeviceId(installation.name), topic, subscribe=subscribe)
        elif process is not None and process.connected:
            process.subscribe(f"request-{self._requests}", topic, subscribe=subscribe)

    def restarts(self) -> None:
        self._any_device().restart(self._tasks)

    def losses_of_state(self) -> None:
        self._any_device().lose_state(self._tasks)

    def second_connections(self) -> None:
        self._any_device().start_second(self._tasks)

    def rotations(self) -> None:
        self._app_server.rotate(DeviceId(self._any_device().name))

    # Of the network.

    def cuts(self) -> None:
        if (socket := self._park.any_socket()) is not None:
            self._context.note(socket.name, "is cut")
            socket.cut()

    def half_cuts(self) -> None:
        if (socket := self._park.any_socket()) is not None:
            one = self._context.happens(0.5)
            who = "device" if one else "shard"
            self._context.note(socket.name, f"is cut, the {who} learns it")
            socket.cut(device_learns=one, shard_learns=not one)

    def flaps(self) -> None:
        process = self._any_device().running
        if process is not None:
            self._context.note(process.name, "has a bad network for a moment")
            for number in range(4):
                self._context.loop.call_later(number * 0.6, process.lose_socket)

    def slow_devices(self) -> None:
        if (socket := self._park.any_socket()) is not None:
            self._stick(socket)

    def _stick(self, socket: Socket) -> None:
        self._context.note(socket.name, "does not read for a while")
        socket.down.stuck = True
        self._context.loop.call_later(self._context.rng.uniform(0.5, 12), socket.down.release)

    # Of processes.

    def deaths_of_shards(self) -> None:
        if (shard := self._park.any_shard()) is not None:
            shard.die()

    def drains(self) -> None:
        if (shard := self._park.any_shard()) is not None:
            shard.drain()

    def deaths_of_apis(self) -> None:
        if (api := self._park.any_api()) is not None:
            api.die()

    def deaths_of_workers(self) -> None:
        if (worker := self._park.any_worker()) is not None:
            worker.die()

    def stops_of_workers(self) -> None:
        if (worker := self._park.any_worker()) is not None:
            worker.stop()

    def pauses(self) -> None:
        process, rng = self._any_process(), self._context.rng
        if process is not None:
            process.pause()
            self._context.loop.call_later(rng.choice(_PAUSES_S), process.resume)

    def stalls_of_shards(self) -> None:
        if (shard := self._park.any_shard()) is not None:
            self._stall(shard, self._context.rng.choice([0.3, 1.0, 3.0]))

    def _stall(self, process: Process, stall_s: float) -> None:
        self._context.note(process.name, f"cannot reach the store for {stall_s} s")
        process.store_stalled_until = self._context.now() + stall_s

    def clock_steps(self) -> None:
        step_ms = self._context.rng.choice(_STEPS_MS)
        if self._context.happens(0.2):
            # One that is set back hides broadcasts from devices that registered before.
            self._context.note("store", f"has its clock set by {abs(step_ms)} ms")
            self._server.skew_ms += abs(step_ms)
        elif (process := self._any_process()) is not None:
            self._context.note(process.name, f"has its clock set by {step_ms} ms")
            process.skew_ms += step_ms

    # Of the store.

    def stalls_of_store(self) -> None:
        stall_s = self._context.rng.choice([0.5, 3.0, 8.0])
        self._context.note("store", f"stands still for {stall_s} s")
        self._server.stall(stall_s)

    def outages_of_store(self) -> None:
        if not self._server.down:
            outage_s = self._context.rng.choice([0.3, 1.5, 6.0])
            self._context.note("store", f"crashes; it is back in {outage_s} s")
            self._server.go_down(outage_s)

    def failovers(self) -> None:
        server, rng = self._server, self._context.rng
        if server.down or server.lagging():
            return
        lag_s = rng.choice([0.0, 0.02, 0.3, 1.0])
        # The clocks of the servers have to agree to well below a second (docs/failover.md).
        outage_s, skew_ms = rng.uniform(0.5, 6.0), server.skew_ms + rng.randint(-300, 300)
        self._context.note("store", f"has a replica that lags by {lag_s} s")
        server.begin_lag()
        self._context.loop.call_later(lag_s, lambda: server.fail_over(outage_s, skew_ms))

    def full_store(self) -> None:
        self._context.note("store", "has no memory left for a while")
        self._server.full = True
        self._context.loop.call_later(self._context.rng.uniform(0.5, 6), self._make_room)

    def _make_room(self) -> None:
        self._server.full = False

    # The end.

    def blow(self) -> None:
        """Have what was under way meet what comes after, while no later fault hides it."""
        shard = self._park.any_shard()
        if shard is not None and self._context.happens(0.7):
            self._stall(shard, 2.0)
            for after_s in (0.0, 0.5, 1.0):
                self._context.loop.call_later(after_s, self._lose_sockets)

    def calm(self) -> None:
        """End what lasts."""
        server = self._server
        server.stalled_until = min(server.stalled_until, self._context.now() + 1)
        server.full = False
        if server.failed_over:
            # Who connected in the time that was lost counts as away until it connects again.
            for installation in self._installations:
                if (process := installation.running) is not None:
                    self._context.loop.call_later(8.0, process.lose_socket)

    def _lose_sockets(self) -> None:
        for installation in self._installations:
            process = installation.running
            if process is not None and self._context.happens(0.6):
                process.lose_socket()

    def _any_device(self) -> Installation:
        return self._context.rng.choice(self._installations)

    def _any_process(self) -> Process | None:
        found = self._park.processes()
        return self._context.rng.choice(found) if found else None
