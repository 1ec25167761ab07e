"""A run that accounts for every message: real SDK devices, senders that never give up, the ledger.

What happens meanwhile (processes killed, sockets cut) is the caller's: `trouble`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.http import HttpConnection, Response, encode_request, open_connection
from loadtest.ledger import Ledger, Verdict
from loadtest.senders import OK, Account, Accountable
from sdk_client import Device

_POLL_S: Final = 0.2
_ENDED: Final = frozenset({"delivered", "displayed", "opened", "clicked", "dismissed"})

Trouble = Callable[[], Awaitable[None]]
"""Runs from the moment when all devices are connected until the last send was answered."""


class Access(msgspec.Struct, frozen=True):
    """A gateway, and the keys of a project on it."""

    api: str
    devices: str
    """Where devices connect; a proxy, perhaps. Empty: where the API says."""
    project: str
    api_key: str
    client_key: str

    @property
    def account(self) -> Account:
        """The app server's part."""
        return Account(self.api, self.project, self.api_key)


class Plan(msgspec.Struct, frozen=True):
    """How much of what."""

    devices: int
    messages: int
    """In all, to the devices in turn."""
    rate: float
    """Messages a second, in all."""
    settle_s: float = 60.0
    """How long after the last send everything has time to arrive and to be acked."""


class Outcome(msgspec.Struct, frozen=True):
    """How it ended."""

    verdict: Verdict
    retries: int
    """Sends that had to be tried again."""
    seconds: float
    """From the first send until all was settled."""

    def report(self) -> str:
        """Write it for a person."""
        return f"{self.verdict.report()}\n{self.retries} sends retried, {self.seconds:.1f} s"


class _Status(msgspec.Struct):
    state: str = ""
    timeline: list[dict[str, object]] = []


async def run(access: Access, plan: Plan, folder: Path, trouble: Trouble | None = None) -> Outcome:
    """Register devices, send to them, and account for every message.

    Args:
        access: the gateway.
        plan: how much.
        folder: where the devices keep their state files.
        trouble: what else happens meanwhile.

    Raises:
        SendError: a send was refused for good (in an ExceptionGroup).
        TimeoutError: the devices did not connect.
    """
    ledger = Ledger()
    async with _devices(access, plan.devices, folder) as devices, asyncio.TaskGroup() as group:
        listening = [group.create_task(_listen(device, ledger)) for device in devices]
        await _until(lambda: all(device.connected for device in devices), plan.settle_s)
        begun = time.monotonic()
        making = group.create_task(_coroutine(trouble)) if trouble else None
        senders = await _send_all(access.account, plan, devices, ledger)
        if making is not None:
            making.cancel()
        deadline = time.monotonic() + plan.settle_s
        with contextlib.suppress(TimeoutError):
            await _until(lambda: ledger.missing() == 0, plan.settle_s)
        await _note_acks(access, ledger, deadline)
        seconds = time.monotonic() - begun
        for task in listening:
            task.cancel()
    return Outcome(ledger.verdict(), sum(sender.retries for sender in senders), seconds)


async def _send_all(
    account: Account, plan: Plan, devices: Sequence[Device], ledger: Ledger
) -> list[Accountable]:
    senders = [
        Accountable(account, device.device_id, {"token": device.token}, ledger)
        for device in devices
    ]
    async with asyncio.TaskGroup() as group:
        for number, sender in enumerate(senders):
            count = plan.messages // plan.devices + (number < plan.messages % plan.devices)
            group.create_task(sender.send(count, plan.devices / plan.rate, number / plan.rate))
    return senders


async def _listen(device: Device, ledger: Ledger) -> None:
    async for message in device.messages():
        ledger.handled(device.device_id, message.id)


@contextlib.asynccontextmanager
async def _devices(access: Access, count: int, folder: Path) -> AsyncIterator[list[Device]]:
    devices: list[Device] = []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(count):
            device = await Device.register(
                access.api,
                project=access.project,
                client_key=access.client_key,
                platform="python",
                state=folder / f"device-{number}.json",
                device_url=access.devices,
            )
            stack.push_async_callback(device.close)
            devices.append(device)
        yield devices


async def _note_acks(access: Access, ledger: Ledger, deadline: float) -> None:
    """Ask the gateway of each message whether it knows of the ack, until it does or time is up."""
    connection = await open_connection(access.api)
    try:
        for device, message in ledger.accepted_ids():
            while not (known := await _is_acked(access, connection, message)):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(_POLL_S)
            if known:
                ledger.acked(device, message)
    finally:
        connection.close()


async def _is_acked(access: Access, connection: HttpConnection, message: str) -> bool:
    answer: Response = await connection.request(
        encode_request(
            "GET",
            access.api,
            f"/v1/projects/{access.project}/messages/{message}",
            b"",
            Authorization=f"Bearer {access.api_key}",
        )
    )
    return answer.status == OK and msgspec.json.decode(answer.body, type=_Status).state in _ENDED


async def _until(check: Callable[[], bool], timeout_s: float) -> None:
    """Wait until `check` holds.

    Raises:
        TimeoutError: it did not in time.
    """
    async with asyncio.timeout(timeout_s):
        while not check():  # noqa: ASYNC110 - the SDK and the ledger have no event for it
            await asyncio.sleep(_POLL_S)


async def _coroutine(trouble: Trouble) -> None:
    await trouble()
