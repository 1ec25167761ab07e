"""A connection with a door before its parser: what there is no room for is refused unread.

To refuse after the request was parsed and handed to a task would cost half of what it costs to
carry it out, so that three times the work would leave nothing of the capacity. Nor is it refused at
once: who is refused comes again, and to tell all of them so would take the loop from those that
were let in. It waits for a moment with its connection, where it costs nothing; when there is room,
who came last goes in first, as its sender is the most likely to wait still.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web
from typing_extensions import override

from gateway.api import errors
from gateway.api.admission import RETRY_S, Gate, weight_of
from gateway.api.framing import Framing
from router.model.errors import ErrorCode, PushError

_HEALTH_PATHS: Final = ("/healthz", "/readyz")
_HEALTH: Final = tuple(f"GET {path} ".encode() for path in _HEALTH_PATHS)
"""Always answered: whoever asks would take the process for dead, and give its work to others."""
_LOOK_S: Final = 0.02
_HELD_BYTES: Final = 16_384
"""A larger request does not wait: it is refused when it is whole."""
_HOLD_S: Final = 0.2
"""So long a request waits for room."""
_ANSWERED: Final = 256
"""Of those that waited in vain so many are answered at a look."""
_FULL_TEXT: Final = (
    "The API has more to do than it gets done within `api_queue_s`; nothing was accepted. Wait as "
    "Retry-After says, and send less, or add API processes."
)


class Ticket(msgspec.Struct, frozen=True, gc=False):
    """A request that was let in: its weight, and when."""

    weight: int
    at_s: float


class Admission:
    """What the connections of a server share.

    Args:
        gate: whether there is room.
        refused: told how many requests there was none for, now and then.
        judged: told of each change of the gate.
    """

    def __init__(
        self, gate: Gate, refused: Callable[[int], None], judged: Callable[[Gate], None]
    ) -> None:
        self.gate = gate
        self.judged = judged
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._look_at_s = 0.0
        """When the event loop is looked at next; 0: not while nobody asks for anything."""
        self._uncounted = 0
        """Refused requests that `refused` was not told of."""
        self._held: deque[tuple[float, DoorProtocol]] = deque()
        """Since when who waits, in the order of coming; some are gone or inside by now."""
        self._answers = {retry_s: _answer(retry_s) for retry_s in RETRY_S}

    def enter(self, weight: int) -> Ticket:
        """Let a request in."""
        now_s = self._loop.time()
        self.gate.enter(weight, now_s)
        if not self._look_at_s:
            self._look_later(now_s)
        return Ticket(weight, now_s)

    def leave(self, ticket: Ticket, *, counts: bool) -> None:
        """Let a request out, and others in."""
        now_s = self._loop.time()
        if self.gate.leave(ticket.weight, now_s, now_s - ticket.at_s if counts else None):
            self.judged(self.gate)
        held = self._held
        while held and not self.gate.closed:
            since_s, protocol = held.pop()
            protocol.come_in(since_s)

    def hold(self, protocol: "DoorProtocol") -> float:
        """Have a request wait; gives the time."""
        now_s = self._loop.time()
        self._held.append((now_s, protocol))
        if not self._look_at_s:
            self._look_later(now_s)
        return now_s

    def _look_later(self, now_s: float) -> None:
        self._look_at_s = now_s + _LOOK_S
        self._loop.call_at(self._look_at_s, self._look)

    def _look(self) -> None:
        """See how long what is ready waits for the event loop: requests wait as long, unread."""
        now_s = self._loop.time()
        self.gate.late(max(0.0, now_s - self._look_at_s))
        self._look_at_s = 0.0
        if self._uncounted:
            self._refused(self._uncounted)
            self._uncounted = 0
        held, before_s = self._held, now_s - _HOLD_S
        for _ in range(min(len(held), _ANSWERED)):
            since_s, protocol = held[0]
            if since_s > before_s:
                break
            held.popleft()
            protocol.go_away(since_s)
        while held and not self.gate.closed:
            since_s, protocol = held.pop()
            protocol.come_in(since_s)
        if not self._look_at_s and (self.gate.load or held or self._uncounted):
            self._look_later(now_s)

    def _count(self) -> None:
        self._uncounted += 1
        if not self._look_at_s:
            self._look_later(self._loop.time())

    def refusal(self) -> bytes:
        """Count a refused request, and give its answer, head and body."""
        self._count()
        return self._answers[self.gate.retry_s()]

    def refuse(self) -> PushError:
        """Count a refused request, and give the error that answers it."""
        self._count()
        return _error(self.gate.retry_s())


class DoorProtocol(web.RequestHandler):
    """aiohttp's connection, with a door.

    Args:
        server: aiohttp's.
        admission: shared by all of them.
        options: aiohttp's.
    """

    __slots__ = (
        "_admission",
        "_framing",
        "_held",
        "_held_s",
        "_refusing",
        "_ticket",
        "_unanswered",
    )

    def __init__(self, server: "web.Server", admission: Admission, **options: Any) -> None:  # type: ignore[explicit-any]
        super().__init__(server, **options)
        self._admission = admission
        self._framing = Framing()
        self._unanswered = 0
        """Requests that the parser got and that have no answer yet."""
        self._refusing = False
        """Whether the request under way is thrown away."""
        self._held = b""
        """The request that waits for room."""
        self._held_s = 0.0
        """Since when."""
        self._ticket: Ticket | None = None
        """Of the request that is being handled, once it is whole."""

    @override
    def data_received(self, data: bytes) -> None:
        framing = self._framing
        if not data:  # aiohttp has its parser look again at what it has
            super().data_received(data)
            return
        if self._held:  # it is not one at a time: the parser keeps the order
            self.come_in(self._held_s)
        if framing.lost or self._close or self._force_close:
            super().data_received(data)
            return
        begins = not framing.left
        plain = framing.begin(data) if begins else framing.go_on(data)
        if begins and plain:
            # Where others are before it, their answers go first: the parser keeps the order.
            if self._unanswered or not self._admission.gate.closed or data.startswith(_HEALTH):
                self._unanswered += 1
            elif not framing.left and len(data) <= _HELD_BYTES:
                self._held, self._held_s = data, self._admission.hold(self)
                return
            else:
                self._refusing = True
        if self._refusing:
            self._throw_away(plain=plain)
            return
        if plain and not framing.left and self._unanswered == 1:
            self.enter(framing.body)
        super().data_received(data)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        self._held = b""
        if self._current_request is None:
            self.leave(counts=False)  # otherwise the handler, which goes on, comes to its end
        super().connection_lost(exc)

    def enter(self, body_bytes: int) -> None:
        """Take it that a request is whole; one that was let in already is not let in again."""
        if self._ticket is None:
            self._ticket = self._admission.enter(weight_of(body_bytes))

    def leave(self, *, counts: bool) -> None:
        """Take it that the request is done; `counts` where others will take as long."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._admission.leave(ticket, counts=counts)

    def come_in(self, since_s: float) -> None:
        """Let in the request that waits since then, where it still does."""
        if self._held and self._held_s == since_s:
            data, self._held = self._held, b""
            self._unanswered += 1
            self.enter(self._framing.body)
            super().data_received(data)

    def go_away(self, since_s: float) -> None:
        """Refuse the request that waits since then, where it still does."""
        if self._held and self._held_s == since_s and self.transport is not None:
            self._held = b""
            self.transport.write(self._admission.refusal())

    def refuse_late(self, path: str) -> None:
        """Refuse a request that the parser was given, where there is no room for it.

        Raises:
            PushError: UNAVAILABLE.
        """
        if self._ticket is None and self._admission.gate.closed and path not in _HEALTH_PATHS:
            raise self._admission.refuse()

    def answered(self) -> None:
        """Take it that an answer is about to be written."""
        self._unanswered -= 1

    def _throw_away(self, *, plain: bool) -> None:
        """Answer a refused request once it is whole; clients read no answer before."""
        if self._framing.left > 0:
            return
        self._refusing = False
        if self.transport is not None:
            self.transport.write(self._admission.refusal())
        if not plain:  # another request came with its end, and was thrown away too
            self.force_close()


def _error(retry_s: int) -> PushError:
    return PushError(ErrorCode.UNAVAILABLE, _FULL_TEXT, retry_after_s=retry_s)


def _answer(retry_s: int) -> bytes:
    body = errors.encode(_error(retry_s))
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {retry_s}\r\n\r\n"
    )
    return head.encode() + body
