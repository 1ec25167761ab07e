"""Leads an SDK session by hand: a gateway's frames in, actions out, as maps."""

from collections.abc import Iterable, Sequence

from sdk_client import wire
from sdk_client.events import Action, ConnectionState, Deliver, Report, Transmit
from sdk_client.options import Identity, Options
from sdk_client.session import Session

HEARTBEAT_S = 30.0


def longest(low: float, high: float) -> float:
    return high


def sent(actions: Iterable[Action]) -> list[dict[str, object]]:
    """The frames among actions."""
    return [wire.decode(action.payload) for action in actions if isinstance(action, Transmit)]


def delivered(actions: Iterable[Action]) -> list[str]:
    return [action.message.id for action in actions if isinstance(action, Deliver)]


def reported(actions: Iterable[Action]) -> list[ConnectionState]:
    """The states among actions."""
    return [action.state for action in actions if isinstance(action, Report)]


def kinds(actions: Iterable[Action]) -> list[type[Action]]:
    return [type(action) for action in actions]


class Lead:
    """A session and the time."""

    def __init__(self, options: Options | None = None, seen: Iterable[str] = ()) -> None:
        identity = Identity("dev.secret", "old-token", "1.2")
        self.session = Session(identity, longest, seen=seen, options=options)
        self.now = 100.0

    def connect(self) -> Sequence[Action]:
        """Bring the session to CONNECTED, from wherever it waits."""
        if self.session.deadline < float("inf"):
            self.now = max(self.now, self.session.deadline)
            self.session.on_timer(self.now)
        self.session.start(self.now)
        self.session.on_open(self.now)
        return self.welcome()

    def welcome(self) -> Sequence[Action]:
        return self.gets(
            op="welcome",
            session="s",
            device_id="d",
            heartbeat=HEARTBEAT_S,
            pending=0,
            time=1,
        )

    def gets(self, **frame: object) -> Sequence[Action]:
        return self.session.on_message(wire.encode(frame), self.now)

    def push(self, message_id: str) -> Sequence[Action]:
        return self.gets(op="message", id=message_id)

    def tick(self) -> Sequence[Action]:
        """Let what is due at this moment happen."""
        return self.session.on_timer(self.now)

    def later(self, seconds: float) -> Sequence[Action]:
        self.now += seconds
        return self.session.on_timer(self.now)

    def lost(self, code: int | None = 1006, reason: str = "") -> Sequence[Action]:
        return self.session.on_lost(code, reason, self.now)
