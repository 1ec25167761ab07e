"""What a provider does wrong, and when."""

import enum
from collections import defaultdict, deque
from dataclasses import dataclass, field


class Kind(enum.Enum):
    ANSWER = "answer with a status and reason of its own; the push is not taken"
    SLOW = "take the push, and answer after a while"
    NEVER = "take the push, and never answer"
    CUT_UNREAD = "reset the connection before the request was read"
    CUT_READ = "take the push, and reset the connection instead of answering"
    REFUSE = "RST_STREAM with REFUSED_STREAM: the request was not looked at"
    GOAWAY_UNREAD = "GOAWAY whose last stream is the one before this request"
    GOAWAY_READ = "GOAWAY whose last stream is this request, which is answered; then close"


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    status: int = 0
    reason: str = ""
    body: bytes | None = None
    """Instead of what the provider writes for `reason`."""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


def answer(status: int, reason: str = "", *, body: bytes | None = None, **headers: str) -> Fault:
    """A refusal; `retry_after="5"` gives the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(Kind.ANSWER, status, reason, body, named)


NEVER = Fault(Kind.NEVER)
CUT_UNREAD = Fault(Kind.CUT_UNREAD)
CUT_READ = Fault(Kind.CUT_READ)
REFUSE = Fault(Kind.REFUSE)
GOAWAY_UNREAD = Fault(Kind.GOAWAY_UNREAD)
GOAWAY_READ = Fault(Kind.GOAWAY_READ)


def slow(delay_s: float) -> Fault:
    return Fault(Kind.SLOW, delay_s=delay_s)


class Faults:
    """Which request meets which fault: those of its token first, then the next of all, then none.

    `always` stays until it is taken away; the others are used up.
    """

    def __init__(self) -> None:
        self.always: Fault | None = None
        self._next: deque[Fault | None] = deque()
        self._of: defaultdict[str, deque[Fault]] = defaultdict(deque)

    def then(self, *faults: Fault | None) -> None:
        """The next requests, one each; None for one that meets no fault."""
        self._next.extend(faults)

    def of(self, token: str, *faults: Fault) -> None:
        """The next requests to one address."""
        self._of[token].extend(faults)

    def take(self, token: str) -> Fault | None:
        if self._of[token]:
            return self._of[token].popleft()
        if self._next:
            return self._next.popleft()
        return self.always
