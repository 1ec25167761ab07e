"""One run: a store, processes, devices, an app server, and what goes wrong between them."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from router.model.ids import DeviceId
from sdk_client.state import Registration
from tests.simulation.context import FAULTS_S, PROJECT, Context
from tests.simulation.device_side import Installation
from tests.simulation.faults import RATES, Faults
from tests.simulation.happenings import Happenings
from tests.simulation.park import Park
from tests.simulation.servers import USERS, AppServer
from tests.simulation.store import StoreServer
from tests.simulation.topic_checks import TOPICS

CALM_S: Final = 240.0
"""How long it may take, after that, until everything has arrived."""
_STEP_S: Final = 0.1


class World:
    """Everything that there is in one run."""

    def __init__(self, context: Context, tasks: asyncio.TaskGroup) -> None:
        self.context = context
        self._tasks = tasks
        self._server = StoreServer(context)
        self._park = Park(context, self._push)
        self._app_server = AppServer(context, self._park, tasks)
        self._installations: list[Installation] = []
        self._happenings = Happenings(
            context, tasks, self._server, self._park, self._app_server, self._installations
        )

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
        self._park.begin()
        for number in range(context.rng.randint(1, 3)):
            await self._install(USERS[number % len(USERS)])
        await self._app_server.make_group()
        self._park.own([DeviceId(each.name) for each in self._installations])
        context.faults = faults
        await self._trouble()
        self._calm()
        await self._until_all_arrived()
        await self._connect_once_more()

    async def _install(self, user: str) -> None:
        registered = await self._app_server.register(user)
        device = registered.device_id
        registration = Registration(
            "http://sim", PROJECT, device, registered.token, registered.credential
        )
        installation = Installation(self.context, self._park, registration)
        if self.context.happens(0.6):
            await self._app_server.give_contact(device)
        self._installations.append(installation)
        installation.start(self._tasks)

    async def _trouble(self) -> None:
        context, rng, faults_s = self.context, self.context.rng, self.context.faults_s
        happenings: dict[str, Callable[[], None]] = {
            name: getattr(self._happenings, name) for name in RATES
        }
        per_step = context.scale.messages / FAULTS_S * _STEP_S
        until = context.now() + faults_s
        while context.now() < until:
            await asyncio.sleep(_STEP_S * rng.uniform(0.5, 1.5))
            self._tend()
            if context.happens(per_step):
                device = DeviceId(rng.choice(self._installations).name)
                for _ in range(rng.choice([1, 1, 1, 2, 6])):
                    if context.happens(0.4):
                        self._app_server.send_to_many()
                    else:
                        self._app_server.send(device)
            if context.happens(0.02):
                self._happenings.request()
            if context.happens(0.04):
                self._happenings.subscribe()
            for name, happen in happenings.items():
                if context.happens(getattr(context.faults, name) * _STEP_S):
                    context.reached.add(name)
                    happen()

    def _tend(self) -> None:
        """Start what should run and does not, after a while."""
        for installation in self._installations:
            if installation.running is None and self.context.happens(0.05):
                installation.start(self._tasks)
        self._park.tend()

    def _push(self, device: DeviceId, frame: bytes) -> None:
        """Bring a push of the platform to a device, or lose it."""
        context = self.context
        if not context.happens(context.faults.push_lost):
            installation = next(each for each in self._installations if each.name == device)
            delay_s = context.rng.uniform(0, 2 * context.drawn.net_delay_s)
            context.loop.call_later(delay_s, installation.on_push, frame, context=context.nobody)

    # Calm.

    def _calm(self) -> None:
        context = self.context
        context.note("world", "calms down")
        self._happenings.blow()
        context.faults = replace(context.faults)
        context.faults.calm()
        self._happenings.calm()
        self._park.calm()

    async def _until_all_arrived(self) -> None:
        context = self.context
        until = context.now() + CALM_S
        await asyncio.sleep(context.rng.uniform(1, 6))
        # Hints are never needed.
        context.faults.hint_lost = context.rng.choice([0.0, 1.0])
        for installation in self._installations:
            self._app_server.send(DeviceId(installation.name), lasting=True)
        for _ in TOPICS:
            self._app_server.send_to_many(lasting=True)
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
        checks = self.context.checks
        found = checks.unfinished()
        found += [f"calls of the app server: {self._app_server.busy}"] * bool(self._app_server.busy)
        if self.context.now() < self._server.still_until:
            found.append("the store has not caught up")
        found += [f"{event} was told to nobody" for event in checks.untold()]
        for each in self._installations:
            process = each.running
            if process is None or not process.connected:
                found.append(f"{each.name} is not connected")
            elif process.session.unhandled:
                found.append(f"{process.name} handles {process.session.unhandled} messages")
            elif process.requests:
                found.append(f"{process.name} waits for {sorted(process.requests)}")
        return found

    async def _connect_once_more(self) -> None:
        """Each device then knows its token and what it lost, and no message comes again."""
        context, view = self.context, self.context.view
        for installation in self._installations:
            installation.restart(self._tasks)
        await asyncio.sleep(5)
        for installation in self._installations:
            device, process = DeviceId(installation.name), installation.running
            nonce, drops = view.token_nonce(device), view.drops(device)
            if process is None or not process.token.endswith(f".{nonce}"):
                context.fail(f"{device} does not know its token")
            elif process.handed_again:
                context.fail(f"{device} got a message again after its ack")
            elif installation.drops_heard < drops:
                context.fail(f"{device} lost {drops}, and heard of {installation.drops_heard}")
