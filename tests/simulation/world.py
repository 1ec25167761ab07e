"""One run: a store, shards, devices, an app server, and what goes wrong between them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from gateway.shard.dialects import discover
from router.model.ids import DeviceId
from sdk_client.state import Registration
from sdk_client.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from tests.simulation.bridge_side import BridgeProcess, contact
from tests.simulation.context import PROJECT, Context
from tests.simulation.device_side import AppProcess, Installation
from tests.simulation.faults import RATES, Faults
from tests.simulation.network import Socket
from tests.simulation.servers import AppServer, Worker
from tests.simulation.shard_side import ShardProcess
from tests.simulation.store import StoreServer

FAULTS_S: Final = 30.0
"""How long things go wrong."""
CALM_S: Final = 240.0
"""How long it may take, after that, until everything has arrived."""
_STEP_S: Final = 0.1
_SHARDS: Final = 2


class World:
    """Everything that there is in one run."""

    def __init__(self, context: Context, tasks: asyncio.TaskGroup) -> None:
        self.context = context
        self._tasks = tasks
        self._server = StoreServer(context)
        self._app_server = AppServer(context, self._server, tasks)
        self._dialects = discover()
        self._installations: list[Installation] = []
        self._workers: list[Worker] = []
        self._bridges: list[BridgeProcess] = []
        self._shards: list[ShardProcess] = []
        self._sockets: list[Socket] = []
        self._numbers = 0
        self._requests = 0

    async def play(self) -> None:
        """Let things go wrong, then calm down, then look whether everything arrived.

        Returns at the end, or as soon as a promise was broken.
        """
        story = self._tasks.create_task(self._story())
        ends: set[asyncio.Future[Any]] = {story, self.context.failed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    async def _story(self) -> None:
        context = self.context
        faults, context.faults = context.faults, Faults()
        for _ in range(_SHARDS):
            self._start_shard()
        for _ in range(context.rng.randint(1, 3)):
            await self._install()
        devices = [DeviceId(each.name) for each in self._installations]
        for name in ("worker-1", "worker-2"):
            self._workers.append(Worker(context, self._server, devices, name))
            self._tasks.create_task(self._workers[-1].run())
        for _ in range(2):
            self._start_bridges()
        context.faults = faults
        await self._trouble()
        self._calm()
        await self._until_all_arrived()
        await self._connect_once_more()

    async def _install(self) -> None:
        registered = await self._app_server.register()
        registration = Registration(
            "http://sim", PROJECT, registered.device_id, registered.token, registered.credential
        )
        installation = Installation(self.context, self, registration)
        if self.context.happens(0.6):
            here = contact(self.context.now_ms())
            self.context.mailboxes.set_contact(registered.device_id, here)
        self._installations.append(installation)
        installation.start(self._tasks)

    # Trouble.

    async def _trouble(self) -> None:
        context, rng = self.context, self.context.rng
        happenings: dict[str, Callable[[], None]] = {
            name: getattr(self, f"_{name}") for name in RATES
        }
        per_step = context.scale.messages / FAULTS_S * _STEP_S
        while context.now() < FAULTS_S:
            await asyncio.sleep(_STEP_S * rng.uniform(0.5, 1.5))
            self._tend()
            if context.happens(per_step):
                device = DeviceId(rng.choice(self._installations).name)
                for _ in range(rng.choice([1, 1, 1, 2, 6])):
                    self._app_server.send(device)
            if context.happens(0.02):
                self._request()
            for name, happen in happenings.items():
                if context.happens(getattr(context.faults, name) * _STEP_S):
                    happen()

    def _tend(self) -> None:
        """Start what should run and does not, after a while."""
        for installation in self._installations:
            if installation.running is None and self.context.happens(0.05):
                installation.start(self._tasks)
        alive = [shard for shard in self._shards if shard.alive]
        if len(alive) < _SHARDS and self.context.happens(0.05):
            self._start_shard()

    def _start_shard(self) -> None:
        self._numbers += 1
        self._shards.append(ShardProcess(self.context, self._server, self._tasks, self._numbers))

    def _request(self) -> None:
        self._requests += 1
        process = self._any_device().running
        if process is not None and process.connected:
            process.request(f"request-{self._requests}")

    def _any_device(self) -> Installation:
        return self.context.rng.choice(self._installations)

    def _any_socket(self) -> Socket | None:
        self._sockets = [socket for socket in self._sockets if not socket.cut_off]
        return self.context.rng.choice(self._sockets) if self._sockets else None

    def _any_shard(self) -> ShardProcess | None:
        serving = [shard for shard in self._shards if shard.alive and shard.accepting]
        return self.context.rng.choice(serving) if serving else None

    def _cuts(self) -> None:
        if (socket := self._any_socket()) is not None:
            self.context.note(socket.name, "is cut")
            socket.cut()

    def _half_cuts(self) -> None:
        if (socket := self._any_socket()) is not None:
            one = self.context.happens(0.5)
            self.context.note(socket.name, f"is cut, the {'device' if one else 'shard'} learns it")
            socket.cut(device_learns=one, shard_learns=not one)

    def _flaps(self) -> None:
        process = self._any_device().running
        if process is not None:
            self.context.note(process.name, "has a bad network for a moment")
            for number in range(4):
                self.context.loop.call_later(number * 0.6, process.lose_socket)

    def _slow_devices(self) -> None:
        if (socket := self._any_socket()) is not None:
            self.context.note(socket.name, "does not read for a while")
            socket.down.stuck = True
            self.context.loop.call_later(self.context.rng.uniform(0.5, 12), socket.down.release)

    def _restarts(self) -> None:
        self._any_device().restart(self._tasks)

    def _losses_of_state(self) -> None:
        self._any_device().lose_state(self._tasks)

    def _second_connections(self) -> None:
        self._any_device().start_second(self._tasks)

    def _deaths_of_shards(self) -> None:
        if (shard := self._any_shard()) is not None:
            shard.kill()

    def _drains(self) -> None:
        if (shard := self._any_shard()) is not None:
            shard.stop_accepting()
            self._tasks.create_task(shard.drain())

    def _stalls_of_store(self) -> None:
        stall_s = self.context.rng.choice([0.5, 3.0, 8.0])
        self.context.note("store", f"stands still for {stall_s} s")
        self._server.stalled_until = self.context.now() + stall_s

    def _stalls_of_shards(self) -> None:
        if (shard := self._any_shard()) is not None:
            shard.stall(self.context.rng.choice([0.3, 1.0, 3.0]))

    def _pauses_of_worker(self) -> None:
        worker = self.context.rng.choice(self._workers)
        worker.paused_until = self.context.now() + self.context.rng.uniform(1, 15)

    def _start_bridges(self) -> None:
        devices = [DeviceId(each.name) for each in self._installations]
        number = len(self._bridges) + 1
        self._bridges.append(
            BridgeProcess(self.context, self._server, devices, self._push, self._tasks, number)
        )

    def _deaths_of_bridges(self) -> None:
        self.context.rng.choice(self._bridges[-2:]).kill()
        self._start_bridges()

    def _push(self, device: DeviceId, frame: bytes) -> None:
        """Bring a push of the platform to a device, or lose it."""
        context = self.context
        if not context.happens(context.faults.push_lost):
            installation = next(each for each in self._installations if each.name == device)
            delay_s = context.rng.uniform(0, 2 * context.drawn.net_delay_s)
            context.loop.call_later(delay_s, installation.on_push, frame)

    def _rotations(self) -> None:
        self._app_server.rotate(DeviceId(self._any_device().name))

    # Calm.

    def _calm(self) -> None:
        context = self.context
        context.note("world", "calms down")
        self._blow()
        context.faults = replace(context.faults)
        context.faults.calm()
        self._server.stalled_until = min(self._server.stalled_until, context.now() + 1)
        for worker in self._workers:
            worker.paused_until = 0.0
        if self._any_shard() is None:
            self._start_shard()

    def _blow(self) -> None:
        """Have what was under way meet what comes after, while no later fault hides it."""
        shard = self._any_shard()
        if shard is not None and self.context.happens(0.7):
            shard.stall(2.0)
            for after_s in (0.0, 0.5, 1.0):
                self.context.loop.call_later(after_s, self._lose_sockets)

    def _lose_sockets(self) -> None:
        for installation in self._installations:
            process = installation.running
            if process is not None and self.context.happens(0.6):
                process.lose_socket()

    async def _until_all_arrived(self) -> None:
        context = self.context
        until = context.now() + CALM_S
        await asyncio.sleep(context.rng.uniform(1, 6))
        # Hints are never needed.
        context.faults.hint_lost = context.rng.choice([0.0, 1.0])
        for installation in self._installations:
            self._app_server.send(DeviceId(installation.name), lasting=True)
        await asyncio.sleep(1)
        context.faults.hint_lost = 0.0
        while True:
            self._tend()
            await asyncio.sleep(0.5)
            unfinished = self._unfinished()
            if not unfinished:
                return
            if context.now() > until:
                context.fail(f"{CALM_S} s after the last fault these wait: {', '.join(unfinished)}")
                return

    def _unfinished(self) -> list[str]:
        found = self.context.checks.unfinished()
        found += [f"calls of the app server: {self._app_server.busy}"] * bool(self._app_server.busy)
        for each in self._installations:
            process = each.running
            if process is None or not process.connected:
                found.append(f"{each.name} is not connected")
            elif process.requests:
                found.append(f"{process.name} waits for {sorted(process.requests)}")
        return found

    async def _connect_once_more(self) -> None:
        """Each device then knows its token and what it lost, and no message comes again."""
        context, mailboxes = self.context, self.context.mailboxes
        for installation in self._installations:
            installation.restart(self._tasks)
        await asyncio.sleep(5)
        for installation in self._installations:
            device, process = DeviceId(installation.name), installation.running
            nonce, drops = mailboxes.token_nonce(device), mailboxes.drops(device)
            if process is None or not process.token.endswith(f".{nonce}"):
                context.fail(f"{device} does not know its token")
            elif process.handed:
                context.fail(f"{device} got a message again after its ack")
            elif installation.drops_heard < drops:
                context.fail(f"{device} lost {drops}, and heard of {installation.drops_heard}")

    # The network, for devices.

    def connect(self, process: AppProcess, attempt: int) -> None:
        context = self.context
        # A handshake takes several trips: whatever the device sent before has arrived by then.
        delay_s = context.rng.uniform(1, 2) * context.drawn.net_delay_s
        shard = self._any_shard()
        if shard is None or context.happens(context.faults.connect_fails):
            context.loop.call_later(delay_s, process.on_refused, attempt, "refused")
        else:
            context.loop.call_later(delay_s, self._arrive, shard, process, attempt)

    def _arrive(self, shard: ShardProcess, process: AppProcess, attempt: int) -> None:
        context = self.context
        if not shard.alive:
            process.on_refused(attempt, "refused")
        elif (refusal := shard.admit()) is not None:
            process.on_refused(attempt, refusal.reason, refusal.retry_after_s)
        else:
            socket = Socket(context, f"{process.name}.{attempt}→{shard.id}")
            self._sockets.append(socket)
            dialect = process.session.options.dialect
            chosen = SUBPROTOCOL_JSON if dialect == "json" else SUBPROTOCOL_MSGPACK
            shard.accept(socket, self._dialects[chosen])
            delay_s = context.rng.uniform(0, context.faults.net_delay_s)
            context.loop.call_later(delay_s, process.on_open, socket, attempt)
