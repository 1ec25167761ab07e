"""Leads a run from the first registration to the verdict."""

import asyncio
import contextlib
import datetime as dt
import secrets
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Final, Protocol, TypeVar

import msgspec

from loadtest.machine import machine, versions
from loadtest.processes import cpu_s
from loadtest.publishers import subscribe
from loadtest.run.account import Reckoning, Sent, Verdict, total
from loadtest.run.figures import Costs, figures
from loadtest.run.footprint import Footprint
from loadtest.run.gathering import all_of, in_turn
from loadtest.run.ground import Ground, GroundError, check
from loadtest.run.judge import Judge
from loadtest.run.layout import Layout
from loadtest.run.member import Member, MemberError, Tick, flattened, member
from loadtest.run.protocol import (
    Connect,
    DeviceTick,
    Dismiss,
    Done,
    Enrol,
    Halt,
    Load,
    Recheck,
    Reckon,
    RollCall,
    SenderTick,
)
from loadtest.run.receiver import Receiver, receiving
from loadtest.run.result import Result
from loadtest.run.roll_call import CALLERS, call_all, time_for
from loadtest.run.samples import Sampler, counters
from loadtest.run.spec import Spec
from loadtest.run.tally import Tally, period_of
from loadtest.run.trends import Trend, exceeded, trends
from loadtest.run.trouble import Trouble
from loadtest.run.watched_store import StoreError

CONNECT_S: Final = 120.0
_POLL_S: Final = 0.1
_LOOK_S: Final = 5.0
"""The least time that devices get to connect for a look at their mailboxes."""
_EXPIRY_S: Final = 2.0
"""So long after its TTL a message is gone for certain."""
_RECHECK_S: Final = 0.5
_RECHECKS_S: Final = 5.0
"""Between two looks at mailboxes, at first and at the most: devices ack meanwhile."""

T = TypeVar("T")


class Screen(Protocol):
    """Shows a run while it goes on."""

    def phase(self, name: str) -> None:
        """The run is at this now."""
        ...

    def show(self, tally: Tally) -> None:
        """A period is over: `tally.points` has one more."""
        ...

    def say(self, text: str) -> None:
        """Something happened."""
        ...


class Leader:
    """One run.

    Args:
        scenario: its name.
        spec: what it does.
        ground: the gateway.
        screen: shows it.
    """

    def __init__(self, scenario: str, spec: Spec, ground: Ground, screen: Screen) -> None:
        self._scenario = scenario
        self._spec = spec
        self._ground = ground
        self._screen = screen
        self._name = f"load-{secrets.token_hex(3)}"
        self._layout = Layout(spec, self._name)
        self._tally = Tally(period_of(spec.duration))
        self._sampler = Sampler(ground.pids)
        self._started = dt.datetime.now(dt.UTC)
        self._begun = time.monotonic()
        self._phases: dict[str, float] = {}
        self._devices: list[Member] = []
        self._senders: Member | None = None
        self._receiver: Receiver | None = None
        self._device_ids: list[str] = []
        self._grown_kib: dict[str, float] = {}
        self._simulators = 0
        self._generating_s = 0.0
        self._counted: dict[str, float] = {}
        self._failed: list[str] = []
        self._trends: dict[str, Trend] = {}

    async def run(self) -> Result:
        """Do all of it.

        Raises:
            MemberError, GroundError, ConnectionError, SendError: it could not be carried out
                (perhaps in an ExceptionGroup).
        """
        spec = self._spec
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-loadtest-"))
            for number in range(min(spec.processes, spec.devices)):
                took = self._device_ticks(number)
                process = member("loadtest.run.devices", took)
                self._devices.append(await stack.enter_async_context(process))
            senders = member("loadtest.run.app_servers", self._sender_ticks)
            self._senders = await stack.enter_async_context(senders)
            if spec.callbacks:
                receiving_here = receiving(self._ground.place)
                self._receiver = await stack.enter_async_context(receiving_here)
            self._simulators = self._footprint().simulators
            try:
                tokens = await self._timed("registering", self._register(folder))
                async with asyncio.TaskGroup() as group:
                    watching = group.create_task(self._watch())
                    done, spent = await self._load(tokens)
                    watching.cancel()
                verdict = await self._timed("checking", self._judge(done))
            finally:
                await self._dismiss()
        return self._result(verdict, spent)

    def halt(self, *, now: bool) -> None:
        """End the sending early; with `now`, also give up what has no answer."""
        self._screen.say("sending ends" if not now else "giving up what has no answer")
        if self._senders is not None:
            self._senders.tell(Halt(now))

    # The phases.

    async def _register(self, folder: str) -> list[str]:
        spec, count = self._spec, len(self._devices)
        firsts = [spec.devices * number // count for number in range(count + 1)]
        orders = [
            Enrol(
                place=self._ground.place,
                spec=spec,
                name=self._name,
                first=firsts[number],
                count=firsts[number + 1] - firsts[number],
                folder=folder,
                number=number,
            )
            for number in range(count)
        ]
        answers = await all_of(
            [self._devices[number].ask(order) for number, order in enumerate(orders)]
        )
        for answer in answers:
            check(answer.device_url, owned=self._ground.owned or self._ground.own)
        tokens = [token for answer in answers for token in answer.tokens]
        self._device_ids = [one for answer in answers for one in answer.device_ids]
        if self._layout.subscribing:
            account = self._ground.place.account
            for number in range(min(spec.topics, spec.devices)):
                some = tokens[number :: spec.topics]
                await subscribe(account, self._layout.topic(number), some)
        return tokens

    async def _load(self, tokens: list[str]) -> tuple[Done, dict[str, float]]:
        """Connect, send, settle; gives what was sent, and the CPU seconds that sending took."""
        spec = self._spec
        before = msgspec.structs.replace(self._footprint(), simulators=self._simulators)
        self._begun = time.monotonic()
        await self._timed("connecting", self._connect())
        self._grown_kib = self._footprint().grown_kib(before, spec.devices)
        self._sampler.take_spent()
        generator_s = self._generator_s()
        self._counted = await counters(self._ground.ops) if self._ground.ops else {}
        self._tally.mark(round(self._t, 2), "sending begins" if spec.rate else "all connected")
        trouble = Trouble(
            self._ground, self._devices, self._mark, float(spec.duration), spec.connect_rate
        )
        async with asyncio.TaskGroup() as group:
            making = group.create_task(self._make(trouble))
            sending_since = self._t
            done = await self._timed("sending", self._send(tokens))
            self._tally.mark(round(self._t, 2), "sending is over")
            trouble.end()
            await making
        self._look_at_trends(sending_since, self._t)
        await self._timed("settling", self._settle())
        spent = self._sampler.take_spent()
        self._generating_s = self._generator_s() - generator_s
        if spec.roll_call:
            await self._call_the_roll()
        if self._ground.ops:
            now = await counters(self._ground.ops)
            self._counted = {name: now[name] - self._counted.get(name, 0.0) for name in now}
        return done, spent

    async def _call_the_roll(self) -> None:
        """Have every device answer a message to all, and one of its own."""
        for name, each in (("roll call by condition", False), ("roll call by token", True)):
            order = RollCall(name, each, time_for(self._spec.devices))
            self._mark(f"{name} begins")
            if not each:
                await call_all(self._ground.place, name)
            turns = asyncio.Semaphore(CALLERS if each else len(self._devices))
            asked = [in_turn(turns, process.ask(order)) for process in self._devices]
            answers = await self._timed(name, all_of(asked))
            absent = sum(answer.absent for answer in answers)
            present = self._spec.devices - absent
            self._mark(f"{name}: {present} of {self._spec.devices} devices answered")
            if absent:
                self._failed.append(f"{name}: {absent} devices did not answer")

    def _footprint(self) -> Footprint:
        return Footprint.now(self._sampler, [process.pid for process in self._devices])

    def _look_at_trends(self, first_s: float, last_s: float) -> None:
        tally = self._tally
        self._trends = trends(tally.points, tally.lives, first_s, last_s)
        found = exceeded(self._trends, self._spec.bounds)
        self._failed += found.failed
        if found.untold:
            self._mark(found.untold)

    def _generator_s(self) -> float:
        """Give the CPU seconds that devices and app servers have used so far."""
        processes = [*self._devices, *([self._senders] if self._senders else [])]
        return sum(cpu_s(process.pid) for process in processes)

    async def _make(self, trouble: Trouble) -> None:
        """Make trouble; where that fails, the run goes on, and is not a good one."""
        if late := sum(fault.at >= self._spec.duration for fault in self._spec.faults):
            self._screen.say(f"{late} of the faults are due after the end, and left out")
        try:
            await trouble.run(self._spec.faults)
        except* (GroundError, MemberError, StoreError) as group:
            self._failed += [str(error) for error in flattened(group)]

    async def _connect(self) -> None:
        rate = self._spec.connect_rate / len(self._devices)
        order = Connect(
            rate, CONNECT_S + (2 * self._spec.devices / self._spec.connect_rate if rate else 0)
        )
        await all_of([process.ask(order) for process in self._devices])

    async def _send(self, tokens: list[str]) -> Done:
        if self._senders is None:
            raise RuntimeError("no senders")
        load = Load(
            self._ground.place, self._spec, self._name, tokens, tell_ids=self._spec.callbacks
        )
        done = await self._senders.ask(load)
        if done.overloaded:
            self._failed.append(
                f"the gateway is not up to {self._spec.rate:g} messages/s: sending was stopped"
            )
        return done

    async def _settle(self) -> None:
        """Wait until everything that must arrive has, and callbacks told of it, or time is up."""
        most_s = min(self._spec.settle, self._spec.ttl + _EXPIRY_S)
        deadline = time.monotonic() + most_s
        while time.monotonic() < deadline:
            tally = self._tally
            arrived = tally.delivered + tally.dropped >= tally.expected
            told = self._receiver is None or len(self._receiver.delivered) >= tally.expected
            if arrived and told:
                return
            await asyncio.sleep(_POLL_S)

    async def _judge(self, done: Done) -> Verdict:
        deadline = time.monotonic() + self._spec.settle
        acked = await self._recheck(deadline)
        reckoning = total(await self._reckon(done.sent))
        if self._senders is None:
            raise RuntimeError("no senders")
        judge = Judge(
            self._spec,
            self._ground.place,
            self._layout,
            self._device_ids,
            self._senders,
            self._receiver,
        )
        return await judge.judge(done, reckoning, self._tally, acked=acked, failed=self._failed)

    async def _recheck(self, deadline: float) -> bool:
        """Connect anew until no mailbox holds anything: so the acks have reached the store."""
        spec = self._spec
        patience_s = max(_LOOK_S, min(CONNECT_S, spec.settle))
        order = Recheck(spec.connect_rate / len(self._devices), patience_s)
        if spec.slow:
            await asyncio.sleep(spec.ack_delay)
        wait_s = _RECHECK_S
        while True:
            try:
                answers = await all_of([process.ask(order) for process in self._devices])
            except ExceptionGroup as group:
                self._failed.append(f"mailboxes could not be looked at: {flattened(group)[0]}")
                return False
            if not sum(answer.pending for answer in answers):
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RECHECKS_S)

    async def _reckon(self, sent: dict[str, Sent]) -> list[Reckoning]:
        answers = await all_of([process.ask(Reckon(sent)) for process in self._devices])
        return [answer.reckoning for answer in answers if answer.reckoning is not None]

    async def _dismiss(self) -> None:
        """Leave no trace on a gateway that is not the run's own."""
        self._screen.phase("leaving")
        order = Dismiss(unregister=not self._ground.own)
        with contextlib.suppress(Exception):  # the run may have ended because these processes did
            await all_of([process.ask(order) for process in self._devices])

    # What goes on beside them.

    async def _watch(self) -> None:
        """End a point each period."""
        period_s = self._tally.period_s
        self._sampler.sample()
        due = time.monotonic()
        while True:
            due += period_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self._tally.close_point(round(self._t, 2), self._sampler.sample())
            self._screen.show(self._tally)

    def _device_ticks(self, number: int) -> Callable[[Tick], None]:
        def took(tick: Tick) -> None:
            if isinstance(tick, DeviceTick):
                self._tally.devices(number, tick)

        return took

    def _sender_ticks(self, tick: Tick) -> None:
        if isinstance(tick, SenderTick):
            self._tally.senders(tick)

    @property
    def _t(self) -> float:
        return time.monotonic() - self._begun

    def _mark(self, text: str, *, fault: bool = False) -> None:
        self._tally.mark(round(self._t, 2), text, fault=fault)
        self._screen.say(text)

    async def _timed(self, phase: str, work: Coroutine[object, object, T]) -> T:
        self._screen.phase(phase)
        begun = time.monotonic()
        try:
            return await work
        finally:
            self._phases[phase] = round(time.monotonic() - begun, 2)

    def _result(self, verdict: Verdict, spent: dict[str, float]) -> Result:
        tally, ground = self._tally, self._ground
        return Result(
            scenario=self._scenario,
            kept=verdict.kept,
            report=verdict.report(),
            started=self._started.isoformat(timespec="seconds"),
            gateway=ground.named,
            machine=machine(),
            versions=versions(),
            spec=self._spec,
            verdict=verdict,
            phases=self._phases,
            period=tally.period_s,
            points=tally.points,
            marks=tally.marks,
            lives=tally.lives,
            latencies=tally.latencies(),
            errors=dict(tally.errors),
            ends=dict(tally.ends),
            refused=dict(tally.refused),
            cpu=spent,
            figures=figures(
                tally,
                self._spec,
                self._phases,
                Costs(spent, self._generating_s, self._grown_kib, self._trends),
            ),
            counters=self._counted,
        )
