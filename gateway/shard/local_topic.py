"""A topic with its subscribers in this shard, and what goes wrong with one of them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import structlog

from gateway.shard.events import Action
from gateway.shard.session import Session
from gateway.shard.session.published import Counts, Topic
from gateway.shard.tail import Tail
from router.model.ids import ProjectId, TopicName
from router.model.lane import Lane
from router.policy.admission import Admission, admission

MAX_RETRACTED: Final = 100
"""Seqs remembered of a topic; one beyond it goes out although it was taken back."""
_NOBODY: Final = Admission.of_nobody()

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.topics")


class Subscriber(Protocol):
    """A connection as the index sees it."""

    @property
    def session(self) -> Session:
        """Its session."""
        ...

    @property
    def open(self) -> bool:
        """Whether its session is alive."""
        ...

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do what the session asks for."""
        ...

    def abort(self) -> None:
        """Drop the socket."""
        ...


class LocalTopic(Topic):
    """A topic with its subscribers here."""

    __slots__ = (
        "followed",
        "idle",
        "peers",
        "project",
        "retracted",
        "tail",
        "urgent_lane",
        "urgent_seq",
        "waiting",
    )

    def __init__(
        self,
        project: ProjectId,
        name: TopicName,
        counts: Counts,
        siblings: Mapping[TopicName, Topic] | None = None,
    ) -> None:
        super().__init__(name, counts, siblings=siblings)
        self.project = project
        self.peers: set[Subscriber] = set()
        self.tail = Tail(0)
        self.followed = False
        self.idle = False
        """Whether it had no subscriber when it was last looked at."""
        self.urgent_seq = 0
        """Of the last message that was more than normal: who has not seen it reads in its lane."""
        self.urgent_lane = Lane.NORMAL
        self.retracted: set[int] = set()
        """Seqs that were taken back before their message was heard of, in another lane."""
        self.waiting: list[tuple[Subscriber, int]] | None = None
        """While the log is read: who waits for it, and from behind which seq."""

    def lane(self, after: int) -> Lane:
        """Give the lane of who reads the log from behind a seq."""
        return self.urgent_lane if after < self.urgent_seq else Lane.NORMAL

    def retract(self, seq: int) -> None:
        """Take it that a message goes to nobody any more."""
        if seq <= self.head:
            self.tail.retract(seq)
        elif len(self.retracted) < MAX_RETRACTED:
            self.retracted.add(seq)

    def was_retracted(self, seq: int) -> bool:
        """Tell whether a message that is new here was taken back before."""
        if not self.retracted:
            return False
        found = seq in self.retracted
        self.retracted = {later for later in self.retracted if later > seq}
        return found


def selection_of(text: str) -> Admission | None:
    """Read whom a message is for; nobody where a newer version wrote what this one cannot read."""
    try:
        return admission(text)
    except ValueError:
        _log.exception("selection.unreadable")
        return _NOBODY


def fail(peer: Subscriber) -> None:
    """Drop a session that broke: logged with the traceback."""
    _log.exception("topic.failed", device=peer.session.device)
    peer.abort()


@contextlib.contextmanager
def unharmed(peer: Subscriber) -> Iterator[None]:
    """Keep what goes wrong with one session from the others."""
    try:
        yield
    except Exception:  # noqa: BLE001 - logged with its traceback
        fail(peer)
