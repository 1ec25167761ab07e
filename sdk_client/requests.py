"""Frames that the gateway answers: kept until it does, sent again over reconnects. Pure."""

import math
from collections.abc import Mapping
from typing import Final

from sdk_client.errors import DisconnectedError, QueueFullError, RequestError
from sdk_client.events import Settle
from sdk_client.wire import Error

_RETRYABLE: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"})


class Requests:
    """What waits for an answer, in order.

    Args:
        limit: how many may wait.
        in_flight: how many may be sent and unanswered at the same time.
        retry_s: seconds until a request is sent again that the gateway could not serve just now.
    """

    __slots__ = ("_flights", "_in_flight", "_limit", "_not_before", "_retry_s", "_waiting")

    def __init__(self, limit: int, in_flight: int, retry_s: float) -> None:
        self._limit = limit
        self._in_flight = in_flight
        self._retry_s = retry_s
        self._waiting: dict[str, Mapping[str, object]] = {}
        self._flights: dict[str, Mapping[str, object]] = {}
        self._not_before = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flights)

    @property
    def retry_at(self) -> float:
        """When `take` has something to give that it holds back now; infinity for never."""
        ready = self._waiting and len(self._flights) < self._in_flight
        return self._not_before if ready else math.inf

    def add(self, ref: str, frame: Mapping[str, object]) -> None:
        """Keep a request.

        Raises:
            QueueFullError: too many wait.
        """
        if len(self) >= self._limit:
            raise QueueFullError(f"{len(self)} requests wait for the gateway already")
        self._waiting[ref] = frame

    def take(self, now: float) -> list[Mapping[str, object]]:
        """Give the frames to send now."""
        taken: list[Mapping[str, object]] = []
        while self.retry_at <= now:
            ref = next(iter(self._waiting))
            frame = self._flights[ref] = self._waiting.pop(ref)
            taken.append(frame)
        return taken

    def done(self, ref: str) -> list[Settle]:
        """Take the gateway's ok."""
        return [Settle(ref, None)] if self._flights.pop(ref, None) is not None else []

    def refused(self, error: Error, now: float) -> list[Settle] | None:
        """Take the gateway's error; None where it belongs to no request."""
        frame = self._flights.pop(error.ref, None)
        if frame is None:
            return None
        if error.code in _RETRYABLE:
            self._put_back({error.ref: frame})
            self._not_before = now + self._retry_s
            return []
        return [Settle(error.ref, RequestError(error.code, error.message))]

    def blame(self, detail: str) -> list[Settle]:
        """Fail what is in flight: the gateway closed because of what was sent."""
        blamed = list(self._flights)
        self._flights.clear()
        return [Settle(ref, RequestError("INVALID_ARGUMENT", detail)) for ref in blamed]

    def on_lost(self) -> None:
        """Take it that answers to what is in flight will not come: all of it is sent again."""
        flights, self._flights = self._flights, {}
        self._put_back(flights)
        self._not_before = 0.0

    def fail_all(self, error: DisconnectedError) -> list[Settle]:
        """Fail everything."""
        refs = [*self._flights, *self._waiting]
        self._flights.clear()
        self._waiting.clear()
        return [Settle(ref, error) for ref in refs]

    def forget(self, ref: str) -> None:
        """Drop a request that nobody waits for."""
        self._waiting.pop(ref, None)
        self._flights.pop(ref, None)

    def _put_back(self, first: dict[str, Mapping[str, object]]) -> None:
        self._waiting = {**first, **self._waiting}
