"""App servers: closed-loop senders for CPU figures, an open-loop one for latency.

`Accountable` is the one of the fault runs: it retries what has no answer yet, with an
idempotency key, and enters what was answered 200 in the ledger.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from loadtest.fleet import each_of, http_pool
from loadtest.http import HttpConnection, Response, encode_request, open_connection

OK: Final = 200
_RETRIED: Final = frozenset({429, 500, 502, 503, 504})
_PAYLOAD_BYTES: Final = 300


class SendError(Exception):
    """The API gave an answer that no retry mends."""


class _Name(msgspec.Struct):
    name: str = ""
    error: msgspec.Raw = msgspec.Raw()


class _Batch(msgspec.Struct):
    responses: list[_Name]


class Account(msgspec.Struct, frozen=True):
    """Where to send, and as whom."""

    api: str
    project: str
    api_key: str

    def request(self, call: str, body: object, **headers: str) -> bytes:
        """Write a whole request to `messages:<call>`."""
        return encode_request(
            "POST",
            self.api,
            f"/v1/projects/{self.project}/messages:{call}",
            msgspec.json.encode(body),
            Authorization=f"Bearer {self.api_key}",
            **headers,
        )


def message(token: str, **data: str) -> dict[str, object]:
    """Make a message whose payload (keys and values of `data`) has 300 bytes."""
    return {"token": token, "data": payload(**data)}


def payload(**data: str) -> dict[str, str]:
    """Fill data up to 300 bytes of keys and values."""
    used = sum(len(key) + len(value) for key, value in data.items())
    return {**data, "fill": "x" * max(0, _PAYLOAD_BYTES - used - len("fill"))}


def message_id(name: str) -> str:
    """Give the id at the end of a message's name."""
    return name.rpartition("/")[2]


async def send_singly(account: Account, tokens: Sequence[str], count: int, at_once: int) -> None:
    """Send `count` messages, one a request, on `at_once` keep-alive connections.

    Raises:
        SendError: an answer was not 200 (in an ExceptionGroup).
    """
    bodies = itertools.cycle(
        [account.request("send", {"message": message(token)}) for token in tokens[:count]]
    )

    async def one(connection: HttpConnection) -> None:
        answer = await connection.request(next(bodies))
        if answer.status != OK:
            raise _refusal(answer)

    async with http_pool(account.api, at_once) as pool:
        await each_of(count, pool, one)


async def send_batches(
    account: Account, tokens: Sequence[str], count: int, size: int, at_once: int
) -> None:
    """Send `count` messages in batches of `size` on `at_once` keep-alive connections.

    Raises:
        SendError: an answer was not 200, or one of a batch was refused (in an ExceptionGroup).
    """
    targets = itertools.cycle(tokens)
    total = count // size
    bodies: Iterator[bytes] = iter(
        [
            account.request(
                "sendBatch",
                {"messages": [message(token) for token in itertools.islice(targets, size)]},
            )
            for _ in range(total)
        ]
    )

    async def one(connection: HttpConnection) -> None:
        answer = await connection.request(next(bodies))
        check_batch(answer)

    async with http_pool(account.api, at_once) as pool:
        await each_of(total, pool, one)


def check_batch(answer: Response) -> None:
    """Look whether all of a batch was accepted.

    Raises:
        SendError: it was not.
    """
    if answer.status != OK:
        raise _refusal(answer)
    for item in msgspec.json.decode(answer.body, type=_Batch).responses:
        if not item.name:
            raise SendError(f"in a batch: {bytes(item.error)[:300]!r}")


async def send_steadily(
    account: Account,
    tokens: Sequence[str],
    count: int,
    rate: float,
    at_once: int,
    priority: str = "normal",
) -> None:
    """Send `count` messages, each at its time, whether or not earlier ones were answered.

    Each carries the time at which it was due (`due`, monotonic ns), from which the device counts
    its latency: a late sender shows as latency, not as a gap.

    Raises:
        SendError: an answer was not 200 (in an ExceptionGroup).
    """
    free: asyncio.Queue[HttpConnection] = asyncio.Queue()
    targets = itertools.cycle(tokens)

    async def one(connection: HttpConnection, due_ns: int) -> None:
        body = {"message": {**message(next(targets), due=str(due_ns)), "priority": priority}}
        answer = await connection.request(account.request("send", body))
        free.put_nowait(connection)
        if answer.status != OK:
            raise _refusal(answer)

    async with http_pool(account.api, at_once) as pool, asyncio.TaskGroup() as group:
        for connection in pool:
            free.put_nowait(connection)
        begun_ns = time.monotonic_ns()
        for number in range(count):
            due_ns = begun_ns + int(number * 1e9 / rate)
            await asyncio.sleep((due_ns - time.monotonic_ns()) / 1e9)
            group.create_task(one(await free.get(), due_ns))


class Accepting(Protocol):
    """Where it is entered that a send was answered 200."""

    def accepted(self, device: str, message: str) -> None:
        """Note that a send to `device` was answered 200 with the id `message`."""


class Accountable:
    """Sends to one target, one message after another, and never gives up on one.

    Args:
        account: where to.
        device: the name of the target in the ledger.
        target: the fields of each message beside its data, the address among them.
        ledger: what was answered 200 is entered here, in order.
    """

    def __init__(
        self, account: Account, device: str, target: Mapping[str, object], ledger: Accepting
    ) -> None:
        self._account = account
        self._device = device
        self._target = target
        self._ledger = ledger
        self._connection: HttpConnection | None = None
        self.retries = 0

    async def send(self, count: int, interval_s: float, offset_s: float) -> None:
        """Send `count` messages, one every `interval_s`, from `offset_s` on; late ones at once.

        Raises:
            SendError: an answer that no retry mends.
        """
        begun = time.monotonic() + offset_s
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number * interval_s - time.monotonic()))
            await self._send_one(number)
        if self._connection is not None:
            self._connection.close()

    async def _send_one(self, number: int) -> None:
        request = self._account.request(
            "send",
            {"message": {"data": payload(number=str(number)), **self._target}},
            Idempotency_Key=f"{self._device}-{number}",
        )
        while True:
            answer = await self._attempt(request)
            if answer is not None and answer.status == OK:
                name = msgspec.json.decode(answer.body, type=_Name).name
                self._ledger.accepted(self._device, message_id(name))
                return
            if answer is not None and answer.status not in _RETRIED:
                raise _refusal(answer)
            self.retries += 1
            await asyncio.sleep(0.1)

    async def _attempt(self, request: bytes) -> Response | None:
        """Try once; None where the outcome is unknown."""
        try:
            if self._connection is None or not self._connection.usable:
                self._connection = await open_connection(self._account.api)
            return await self._connection.request(request, timeout_s=10.0)
        except (OSError, TimeoutError):
            return None


def _refusal(answer: Response) -> SendError:
    return SendError(f"{answer.status} {answer.body[:300]!r}")
