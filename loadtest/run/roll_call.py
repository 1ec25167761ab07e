"""A roll call: messages that every device must answer for, however many there are.

The account of a run remembers what each device saw of each stream; here a device is in a set or
not. One call goes to all devices by a condition, one to each by its token.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from loadtest.http import Response, open_connection
from loadtest.run.histogram import Histogram
from loadtest.run.observed import DUE
from loadtest.run.protocol import Place
from loadtest.senders import OK, SendError

ROLL: Final = "roll"
"""Key of the call's name in a message's data."""
EVERYBODY: Final = "!('nobody' in topics)"
_BATCH: Final = 200
_TIMEOUT_S: Final = 120.0
_TRY_AGAIN_S: Final = 1.0
_TRIES: Final = 60
_RETRIED: Final = frozenset({429, 503})
CALLERS: Final = 4
"""Processes that call their devices by token at once."""
_ROLL_S: Final = 60.0
_ROLLS_PER_S: Final = 1_000


def time_for(devices: int) -> float:
    """Give how many seconds a roll call of so many may take."""
    return _ROLL_S + devices / _ROLLS_PER_S


class _Error(msgspec.Struct):
    code: int = 0


class _Item(msgspec.Struct):
    error: _Error | None = None


class _Batch(msgspec.Struct):
    responses: list[_Item]


class Roll:
    """Who of a process answered which call."""

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}
        self._latency = Histogram()
        self._changed = asyncio.Event()

    def answer(self, device: int, data: Mapping[str, object]) -> None:
        """Take a message of a call that a device got; copies count once."""
        seen = self._seen.setdefault(str(data[ROLL]), set())
        if device not in seen:
            seen.add(device)
            self._changed.set()
            self._latency.note(int(str(data[DUE])), time.monotonic_ns())

    async def answered(self, name: str, wanted: int, timeout_s: float) -> int:
        """Wait until so many devices answered a call; gives how many did in time."""
        seen = self._seen.setdefault(name, set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while len(seen) < wanted:
                    self._changed.clear()
                    await self._changed.wait()
        return len(seen)

    def take(self) -> str:
        """Give the latencies since the last time, encoded: due until at the device."""
        return self._latency.take()


async def call_each(place: Place, name: str, tokens: Sequence[str]) -> None:
    """Send a call to each of some devices, in batches, one after another.

    Raises:
        OSError, SendError: the API does not take them.
    """
    for start in range(0, len(tokens), _BATCH):
        waiting: Sequence[str] = tokens[start : start + _BATCH]
        for _ in range(_TRIES):
            messages = [_message(name, {"token": one}) for one in waiting]
            answer = await _post(place, "sendBatch", {"messages": messages})
            items = msgspec.json.decode(answer.body, type=_Batch).responses
            waiting = [one for one, item in zip(waiting, items, strict=True) if item.error]
            if not waiting:
                break
            errors = {item.error.code for item in items if item.error}
            if errors - _RETRIED:
                raise SendError(f"roll call: in a batch: {sorted(errors - _RETRIED)}")
            await asyncio.sleep(_TRY_AGAIN_S)
        else:
            raise SendError(f"roll call: {len(waiting)} messages of a batch were not taken")


async def call_all(place: Place, name: str) -> None:
    """Send one call that goes to all devices of the project.

    Raises:
        OSError, SendError: the API does not take it.
    """
    await _post(place, "send", {"message": _message(name, {"condition": EVERYBODY})})


def _message(name: str, target: Mapping[str, object]) -> dict[str, object]:
    data = {ROLL: name, DUE: str(time.monotonic_ns())}
    return {**target, "data": data, "ttl": "3600s", "receipts": "none"}


async def _post(place: Place, call: str, body: object) -> Response:
    """Send a request, and again while the gateway says that it has too much to do."""
    request = place.account.request(call, body)
    answer = await _answer(place, request)
    for _ in range(_TRIES):
        if answer.status not in _RETRIED:
            break
        await asyncio.sleep(_TRY_AGAIN_S)
        answer = await _answer(place, request)
    if answer.status != OK:
        raise SendError(f"roll call: {answer.status} {answer.body[:300]!r}")
    return answer


async def _answer(place: Place, request: bytes) -> Response:
    connection = await open_connection(place.api)
    try:
        return await connection.request(request, _TIMEOUT_S)
    finally:
        connection.close()
