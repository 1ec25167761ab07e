"""The life of one message for one device: its states, the legal edges, its times.

The store's functions write these events; this table says which may follow which. The diagram in
docs/concepts.md is drawn from it.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from router.model.receipt import ENGAGEMENT, TERMINAL, Event

State = Event | None
"""The last event that moved the message; None before the first."""

_ENDS: Final = TERMINAL - {Event.DELIVERED}
_PENDING: Final = TERMINAL | {Event.SENT, Event.NACKED, Event.BRIDGED, Event.FAILED}

EDGES: Final[Mapping[State, frozenset[Event]]] = {
    None: frozenset({Event.ACCEPTED, Event.SCHEDULED}),
    Event.SCHEDULED: _ENDS | {Event.ACCEPTED},
    Event.ACCEPTED: _PENDING,
    Event.SENT: _PENDING - {Event.SENT},
    # `sent` is told once, so a message that comes back may be refused again at once.
    Event.NACKED: _PENDING,
    Event.BRIDGED: _PENDING - {Event.BRIDGED, Event.FAILED},
    # A bridge gave it up: a mailbox may hold it still, and a sender may have the bridge try again.
    Event.FAILED: _PENDING - {Event.FAILED},
    Event.DELIVERED: ENGAGEMENT,
    Event.DISPLAYED: ENGAGEMENT - {Event.DISPLAYED},
    Event.OPENED: ENGAGEMENT - {Event.OPENED},
    Event.CLICKED: ENGAGEMENT - {Event.CLICKED},
    Event.DISMISSED: ENGAGEMENT - {Event.DISMISSED},
    Event.EXPIRED: frozenset(),
    Event.COLLAPSED: frozenset(),
    Event.DROPPED: frozenset(),
    Event.CANCELLED: frozenset(),
}
"""From each state, the events that may come next. An event that is not here is a defect.

An upstream message has no states, nor has the end of a registration: events of their own.
"""

_NOTHING: Final = frozenset[Event]()
_REPEATABLE: Final = frozenset({Event.SENT, Event.NACKED})
"""Events that a message may live through more than once: each delivery is tried until an ack."""


class IllegalTransitionError(ValueError):
    """An event came that the table does not allow."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"{event.value} may not follow {state.value if state else 'nothing'}")
        self.state = state
        self.event = event


def is_legal(state: State, event: Event) -> bool:
    """Tell whether `event` may happen to a message in `state`.

    Engagement does not move a message that waits for its ack: a device may show a message first
    and ack it after, so it is legal as soon as the message was on its way.
    """
    if event in EDGES.get(state, _NOTHING):
        return True
    return event in ENGAGEMENT and state in {Event.SENT, Event.NACKED, Event.BRIDGED, Event.FAILED}


def advance(state: State, event: Event) -> State:
    """Give the state after `event`.

    Raises:
        IllegalTransitionError: the table has no such edge.
    """
    if event in EDGES.get(state, _NOTHING):
        return event
    if is_legal(state, event):
        return state
    raise IllegalTransitionError(state, event)


def replay(events: Iterable[Event]) -> State:
    """Give the state after all events, in the order in which the outbox carries them.

    Engagement is told once per kind, terminal events once in all.

    Raises:
        IllegalTransitionError: an event has no edge, or was told twice.
    """
    state: State = None
    seen: set[Event] = set()
    for event in events:
        if event in seen and event not in _REPEATABLE:
            raise IllegalTransitionError(state, event)
        state = advance(state, event)
        seen.add(event)
    return state


def is_done(state: State) -> bool:
    """Tell whether the mailbox no longer holds a message in this state."""
    return state in TERMINAL or state in ENGAGEMENT


class Lifetime(NamedTuple):
    """The times of a message, epoch milliseconds."""

    accepted_ms: int
    send_at_ms: int
    """When it enters the mailbox; 0 for at once."""
    expires_ms: int
    """The first millisecond at which it is no longer delivered."""


def lifetime(now_ms: int, ttl_ms: int, send_at_ms: int | None = None) -> Lifetime:
    """Fix the times of a message accepted at `now_ms`.

    The TTL counts from acceptance, or from `send_at_ms` where that is in the future; a time in the
    past means now. A TTL of 0 gives `expires_ms` equal to the time of sending: now or never.
    """
    if send_at_ms is None or send_at_ms <= now_ms:
        return Lifetime(now_ms, 0, now_ms + ttl_ms)
    return Lifetime(now_ms, send_at_ms, send_at_ms + ttl_ms)


def is_expired(expires_ms: int, now_ms: int) -> bool:
    """Tell whether a stored message is past its time; one with a TTL of 0 is never stored."""
    return expires_ms <= now_ms


def diagram() -> str:
    """Draw the table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2"]
    for state, events in EDGES.items():
        source = state.value if state else "[*]"
        lines += [f"    {source} --> {event.value}" for event in Event if event in events]
        if state and not events:
            lines.append(f"    {source} --> [*]")
    return "\n".join(lines) + "\n"
