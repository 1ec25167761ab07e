"""A crowd that subscribes to topics, and an account of every message and every receipt.

What happens meanwhile (processes killed) is the caller's: `trouble`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import msgspec

from loadtest.callback_record import CallbackRecord, Receipt, recording
from loadtest.callbacks import make_webhook
from loadtest.crowd import Answer as CrowdAnswer
from loadtest.crowd import Begin, Calm, Command, Count, CrowdProcess, Enrol, Report, crowd_process
from loadtest.ledger import Ledger, Verdict
from loadtest.publishers import subscribe
from loadtest.run.protocol import Place
from loadtest.senders import Accountable

EVERYBODY: Final = "everybody"
_POLL_S: Final = 0.5
_UNKNOWN: Final = "?"
_SHOWN: Final = 20

Trouble = Callable[[], Awaitable[None]]
"""Runs from the moment when all devices are connected until the last send was answered."""


class CrowdPlan(msgspec.Struct, frozen=True):
    """How much of what.

    Each device subscribes to `everybody`, whose deliveries are counted, and to one other topic,
    whose deliveries are told by receipts of each device.
    """

    devices: int
    processes: int = 2
    restless: int = 0
    """Devices that come and go all the time."""
    on_s: float = 4.0
    off_s: float = 2.0
    topics: int = 4
    seconds: float = 60.0
    every_s: float = 2.0
    """Between two messages of one topic; `everybody` gets one in twice that."""
    direct: int = 20
    """Devices that get messages of their own, as often as a topic does."""
    settle_s: float = 60.0
    seed: int = 1

    def topic_of(self, number: int) -> str:
        """Name the topic of one device, beside `everybody`."""
        return f"part-{number % self.topics}"


class CrowdOutcome(msgspec.Struct, frozen=True):
    """How it ended."""

    verdict: Verdict
    missing: list[Receipt]
    """Receipts that were never told."""
    doubled: list[Receipt]
    """Receipts that callbacks with different ids told of."""
    changed: list[str]
    """Ids of callbacks whose content was not always the same."""
    stopped: list[str]
    """Why devices' sessions ended for good."""
    expected: int
    """Receipts that had to be told."""
    callbacks: int
    requests: int
    retries: int
    connects: int
    absences: int
    seconds: float

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        broken = self.missing or self.doubled or self.changed or self.stopped
        return self.verdict.kept and not broken

    def report(self) -> str:
        """Write it for a person."""
        lines = [
            self.verdict.report(),
            f"{self.retries} sends retried, {self.connects} sessions, {self.absences} absences",
            f"{self.expected} receipts expected, told by {self.callbacks} callbacks",
            f"{self.requests} requests with callbacks, {self.seconds:.1f} s",
        ]
        for name in ("missing", "doubled", "changed", "stopped"):
            found: list[object] = getattr(self, name)
            if found:
                lines.append(f"{name}: {len(found)}")
                lines += [f"  {one}" for one in found[:_SHOWN]]
        return "\n".join(lines)


class _Device(msgspec.Struct, frozen=True):
    device_id: str
    token: str
    topics: tuple[str, ...]


class _Account:
    """What was sent to whom, and who got it: a ledger of lanes `<device> <target>`.

    A target is a topic, or a device by its id. Order holds within a lane.
    """

    def __init__(self, devices: Sequence[_Device]) -> None:
        self.ledger = Ledger()
        self.sent: dict[str, str] = {}
        """Of each message: its target."""
        self.expected = 0
        self.audience: dict[str, list[str]] = {device.device_id: [] for device in devices}
        for device in devices:
            for target in (device.device_id, *device.topics):
                self.audience.setdefault(target, []).append(device.device_id)

    def accepted(self, device: str, message: str) -> None:
        """Note that a send to a target was answered 200."""
        self.sent[message] = device
        for one in self.audience[device]:
            self.ledger.accepted(f"{one} {device}", message)
        self.expected += len(self.audience[device])

    def saw(self, device: str, messages: Sequence[str]) -> None:
        """Note what a handler got."""
        for message in messages:
            self.ledger.handled(f"{device} {self.sent.get(message, _UNKNOWN)}", message)

    def receipts(self) -> Iterator[Receipt]:
        """Give what callbacks must tell: each acceptance, and each delivery that is not counted."""
        for message, target in self.sent.items():
            to_one = target in self.audience[target]
            yield Receipt(message, "accepted", target if to_one else "")
            if target != EVERYBODY:
                for device in self.audience[target]:
                    yield Receipt(message, "delivered", device)


async def run(access: Place, plan: CrowdPlan, trouble: Trouble | None = None) -> CrowdOutcome:
    """Register and subscribe a crowd, publish, and account for everything.

    Raises:
        SendError: a send was refused for good (in an ExceptionGroup).
        TimeoutError: the devices did not connect.
    """
    async with contextlib.AsyncExitStack() as stack:
        crowds = [await stack.enter_async_context(crowd_process()) for _ in range(plan.processes)]
        url, record = await stack.enter_async_context(recording())
        await make_webhook(access.account, url)
        groups = await _enrol(access, plan, crowds)
        account = _Account([device for group in groups for device in group])
        await _ask_all(crowds, [_begin(access, plan, number) for number in range(plan.processes)])
        # The first ones of a crowd come and go.
        addressed = [one for group in groups for one in group[: plan.direct // plan.processes]]
        begun = time.monotonic()
        senders = await _send(access, plan, account, addressed, trouble)
        await _ask_all(crowds, [Calm()] * plan.processes)
        deadline = time.monotonic() + plan.settle_s
        counts = await _settled(crowds, account, record, deadline)
        seconds = time.monotonic() - begun
        for group, answer in zip(groups, await _same(crowds, Report()), strict=True):
            for device, sights in zip(group, answer.sights, strict=True):
                account.saw(device.device_id, sights)
    return CrowdOutcome(
        verdict=account.ledger.verdict(),
        missing=record.missing(account.receipts()),
        doubled=record.doubled(),
        changed=sorted(record.changed),
        stopped=[reason for answer in counts for reason in answer.stopped],
        expected=sum(1 for _ in account.receipts()),
        callbacks=record.callbacks,
        requests=record.requests,
        retries=sum(sender.retries for sender in senders),
        connects=sum(answer.connects for answer in counts),
        absences=sum(answer.absences for answer in counts),
        seconds=seconds,
    )


async def _enrol(
    access: Place, plan: CrowdPlan, crowds: Sequence[CrowdProcess]
) -> list[list[_Device]]:
    each = plan.devices // len(crowds)
    command = Enrol(access.api, access.project, access.client_key, each)
    groups: list[list[_Device]] = []
    for answer in await _same(crowds, command):
        numbers = range(sum(map(len, groups)), plan.devices)
        groups.append(
            [
                _Device(one.device_id, one.token, (EVERYBODY, plan.topic_of(number)))
                for number, one in zip(numbers, answer.enrolled, strict=False)
            ]
        )
    everyone = [device for group in groups for device in group]
    for topic in sorted({topic for device in everyone for topic in device.topics}):
        tokens = [device.token for device in everyone if topic in device.topics]
        await subscribe(access.account, topic, tokens)
    return groups


def _begin(access: Place, plan: CrowdPlan, number: int) -> Begin:
    return Begin(
        devices=access.devices,
        sources=[f"127.0.1.{1 + 2 * number}", f"127.0.1.{2 + 2 * number}"],
        restless=plan.restless // plan.processes,
        on_s=plan.on_s,
        off_s=plan.off_s,
        seed=plan.seed * 1_000 + number,
    )


async def _send(
    access: Place,
    plan: CrowdPlan,
    account: _Account,
    addressed: Sequence[_Device],
    trouble: Trouble | None,
) -> list[Accountable]:
    """Send until time is up and all was answered; the trouble ends with it."""
    targets: dict[str, dict[str, object]] = {EVERYBODY: {"topic": EVERYBODY}}
    targets |= {
        plan.topic_of(number): {"topic": plan.topic_of(number), "receipts": "device"}
        for number in range(plan.topics)
    }
    targets |= {device.device_id: {"token": device.token} for device in addressed}
    senders: list[Accountable] = []
    async with asyncio.TaskGroup() as group:
        making = group.create_task(_coroutine(trouble)) if trouble is not None else None
        async with asyncio.TaskGroup() as sending:
            for number, (name, target) in enumerate(targets.items()):
                sender = Accountable(access.account, name, target, account)
                senders.append(sender)
                every_s = plan.every_s * (2 if name == EVERYBODY else 1)
                offset_s = every_s * number / len(targets)
                sending.create_task(sender.send(int(plan.seconds / every_s), every_s, offset_s))
        if making is not None:
            making.cancel()
    return senders


async def _settled(
    crowds: Sequence[CrowdProcess], account: _Account, record: CallbackRecord, deadline: float
) -> list[CrowdAnswer]:
    """Wait until all is handled and told, or time is up."""
    while True:
        counts = await _same(crowds, Count())
        done = sum(answer.handled for answer in counts) >= account.expected
        if done and not record.missing(account.receipts()):
            return counts
        if time.monotonic() > deadline:
            return counts
        await asyncio.sleep(_POLL_S)


async def _same(crowds: Sequence[CrowdProcess], command: Command) -> list[CrowdAnswer]:
    return await _ask_all(crowds, [command] * len(crowds))


async def _ask_all(
    crowds: Sequence[CrowdProcess], commands: Sequence[Command]
) -> list[CrowdAnswer]:
    async with asyncio.TaskGroup() as group:
        asked = [
            group.create_task(crowd.ask(command))
            for crowd, command in zip(crowds, commands, strict=True)
        ]
    return [task.result() for task in asked]


async def _coroutine(trouble: Trouble) -> None:
    await trouble()
