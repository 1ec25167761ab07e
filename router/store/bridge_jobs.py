"""Jobs of bridges: messages that wait for another provider, by partition, project and bridge.

Before: `router.store.mailbox`, whose functions set the timer `bridge:<message>` in the same step in
which they accept a message, and `router.redelivery`, which calls `ready` when it is due. After: the
engine of bridges, which takes jobs and says what became of them.

The way of a job: timer → `ready` → queue → `take`, which sets the timer anew → `bridged`, `later`
or `failed`. At each point it stands in the store: a worker that dies loses none. One that was
slower than its hold may see a job given to another; the provider gets the same id from both.
"""

import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec

from router.model.errors import PushError
from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ProjectId,
    is_topic_message,
    partition_of,
    partition_of_message,
    told_as,
)
from router.model.receipt import Event
from router.policy.limits import WINDOW
from router.store import keys
from router.store.connection import Store
from router.store.devices import text
from router.store.link import Reply, fields
from router.store.topic_jobs import COPY_PARTS, TopicJobs

_LANE_MS: Final = 10**13
_PARTS: Final = 9
"""What `bridge_take` gives of each job."""
_DETAIL_CHARACTERS: Final = 256
"""Reasons and ids of providers are cut to so many."""


class Lane(NamedTuple):
    """A queue, whichever partition it stands in."""

    project: ProjectId
    bridge: str

    @property
    def member(self) -> str:
        """Its name in the list of queues."""
        return f"{self.project}:{self.bridge}"


class Head(NamedTuple):
    """The first job of a queue."""

    lane: int
    """Its priority: 0 critical to 3 low (`router.model.lane`)."""
    since_ms: int
    """When the message was accepted, or was to be sent."""


class Try(msgspec.Struct, frozen=True, gc=False):
    """An attempt, or a wait, that did not end a job."""

    time: int
    """Epoch milliseconds."""
    reason: str


_tries = msgspec.json.Decoder(tuple[Try, ...])


class Job(msgspec.Struct, frozen=True, gc=False):
    """A message to be handed to a provider for one device. Times in epoch milliseconds."""

    message: MessageId
    """As senders and devices know it."""
    kept: str
    """As the store keeps it: what `bridged`, `later` and `failed` take."""
    device: DeviceId
    br: bytes
    """The mailbox's field as a whole: what `drop_address` takes."""
    address: str
    """JSON of the bridge's address."""
    registered_ms: int
    """When the device last said that this is its address."""
    frame: bytes
    part: bytes
    """The bridge part (`router.policy.bridge_part`)."""
    attempts: int
    """Those before that counted."""
    seq: int
    """Its number in the mailbox; 0 where no mailbox holds it: `bridged` and `failed` end it."""
    lane: int
    ready_ms: int
    """When the message was accepted, or was to be sent."""
    tries: bytes = b""
    """The last tries in JSON; `history` reads it."""

    @property
    def topic(self) -> bool:
        """Whether the message was published to many."""
        return is_topic_message(self.message)

    @property
    def history(self) -> tuple[Try, ...]:
        """The last tries, the oldest first."""
        return _tries.decode(self.tries) if self.tries else ()


class Taken(NamedTuple):
    """What was taken from a queue."""

    jobs: list[Job]
    head: Head | None
    """The next one that waits; None where the queue is empty."""


class Bridged(NamedTuple):
    """A provider took a message."""

    kept: str
    provider_id: str
    now_ms: int


class Later(NamedTuple):
    """A message is to be tried again."""

    kept: str
    at_ms: int
    reason: str
    counts: bool
    """Whether this was an attempt: those count towards the most that there may be."""


class Failed(NamedTuple):
    """A message is given up by its bridge."""

    kept: str
    reason: str
    now_ms: int
    buried: bool = False
    """Whether a dead letter is kept of it: then it may be tried again as long as it has time."""


class BridgeJobs:
    """The jobs of bridges.

    Every method raises StoreUnavailableError where the store does not answer in time, and may be
    repeated after an unknown outcome. Sequences may be of any length; each call of the store takes
    a window of them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function
        self._retention_ms = store.options.retention_ms
        self._topics = TopicJobs(store)

    async def ready(self, kept: str, now_ms: int) -> tuple[Lane, Head] | None:
        """Queue a message whose timer is due, and tell in which queue it stands and how urgent.

        None where no bridge has anything to do (the message ended, the device has no bridge), or
        not yet: the device asked for it later. The timer is dealt with.
        """
        partition = partition_of_message(MessageId(kept))
        reply = await self._store.batch.fcall(
            self._function("bridge_ready"),
            (keys.timers(partition), keys.outbox(partition)),
            (kept, now_ms, self._retention_ms),
        )
        if not reply:
            return None
        name, score = fields(reply)
        return _lane(name), _head(score)

    async def waiting(self, partition: Partition) -> list[tuple[Lane, Head]]:
        """List the queues of a partition that hold anything, for who takes it over."""
        batch = self._store.batch
        names = fields(await batch.call("ZRANGE", keys.bridge_queues(partition), 0, -1))
        asked = [
            (
                lane,
                batch.call(
                    "ZRANGE",
                    keys.bridge_queue(partition, lane.project, lane.bridge),
                    *(0, 0, "WITHSCORES"),
                ),
            )
            for lane in map(_lane, names)
        ]
        found = [(lane, fields(await reply)) for lane, reply in asked]
        return [(lane, _head(first[1])) for lane, first in found if first]

    async def take(
        self,
        partition: Partition,
        lane: Lane,
        worker: str,
        most: int,
        now_ms: int,
        hold_ms: int,
    ) -> Taken:
        """Take the most urgent jobs of a queue, the oldest of them first.

        Jobs with nothing to do fall out, so there may be fewer than `most` while others wait. A job
        comes back by itself after `hold_ms` unless it is dealt with before.

        Args:
            partition: where the queue stands.
            lane: the queue.
            worker: gets nothing unless it owns the partition.
            most: no more than this, and no more than a window (128).
            now_ms: the clock, epoch milliseconds.
            hold_ms: longer than an attempt can take.
        """
        reply = await self._store.batch.fcall(
            self._function("bridge_take"),
            (
                keys.partition_lease(partition),
                keys.bridge_queue(partition, lane.project, lane.bridge),
                keys.bridge_queues(partition),
                keys.timers(partition),
                keys.outbox(partition),
            ),
            (worker, lane.member, min(most, WINDOW), now_ms, hold_ms, self._retention_ms),
        )
        if reply is None:
            return Taken([], None)
        head, *rest = (cast("bytes", item) for item in fields(reply))
        jobs = [_job(rest[at : at + _PARTS]) for at in range(0, len(rest), _PARTS)]
        if any(job.topic for job in jobs):
            jobs = await self._with_contents(jobs, now_ms)
        return Taken(jobs, _head(head) if head else None)

    async def _with_contents(self, jobs: Sequence[Job], now_ms: int) -> list[Job]:
        """Give jobs with what their messages to topics carry; what was taken back falls out."""
        found = []
        for job in jobs:
            if not job.topic:
                found.append(job)
                continue
            content = await self._topics.content(job.message, now_ms)
            if content is None:
                await self._store.batch.call("UNLINK", keys.message(MessageId(job.kept)))
                continue
            found.append(msgspec.structs.replace(job, frame=content.frame, part=content.part))
        return found

    async def bridged(self, partition: Partition, done: Sequence[Bridged]) -> None:
        """Note that providers took messages; one that no mailbox holds is done."""
        for start in range(0, len(done), WINDOW):
            window = done[start : start + WINDOW]
            reply = await self._store.batch.fcall(
                self._function("bridge_done"),
                (
                    keys.timers(partition),
                    keys.outbox(partition),
                    *(keys.message(MessageId(one.kept)) for one in window),
                ),
                (
                    self._retention_ms,
                    *(
                        part
                        for one in window
                        for part in (one.kept, _cut(one.provider_id), one.now_ms)
                    ),
                ),
            )
            counted = await self._count(fields(reply)[1:], Event.BRIDGED, window[-1].now_ms)
            if counted:
                with contextlib.suppress(PushError):  # they end by themselves
                    await self._store.batch.call("UNLINK", *counted)

    async def later(self, partition: Partition, again: Sequence[Later], now_ms: int) -> None:
        """Have messages tried again at `at_ms`; `now_ms` is when the try ended, for the history."""
        for start in range(0, len(again), WINDOW):
            window = again[start : start + WINDOW]
            await self._store.batch.fcall(
                self._function("bridge_later"),
                (
                    keys.timers(partition),
                    *(keys.message(MessageId(one.kept)) for one in window),
                ),
                (
                    now_ms,
                    *(
                        part
                        for one in window
                        for part in (one.kept, one.at_ms, int(one.counts), _cut(one.reason))
                    ),
                ),
            )

    async def failed(self, partition: Partition, given_up: Sequence[Failed]) -> None:
        """Give messages up, with a reason; one that a mailbox holds may yet be delivered."""
        for start in range(0, len(given_up), WINDOW):
            window = given_up[start : start + WINDOW]
            reply = await self._store.batch.fcall(
                self._function("bridge_failed"),
                (
                    keys.timers(partition),
                    keys.outbox(partition),
                    *(keys.message(MessageId(one.kept)) for one in window),
                ),
                (
                    self._retention_ms,
                    *(
                        part
                        for one in window
                        for part in (one.kept, _cut(one.reason), one.now_ms, int(one.buried))
                    ),
                ),
            )
            counted = await self._count(fields(reply)[1:], Event.FAILED, window[-1].now_ms)
            with contextlib.suppress(PushError):  # nobody makes the call again
                for asked in [self._store.batch.call("HDEL", key, "nc") for key in counted]:
                    await asked

    async def _count(self, copies: Sequence[Reply], event: Event, now_ms: int) -> list[str]:
        """Count copies of messages to topics, and give the keys of their statuses."""
        await self._topics.count(copies, event, now_ms)
        return [keys.message(MessageId(text(kept))) for kept in copies[::COPY_PARTS]]

    async def again(self, kept: str, now_ms: int) -> bool:
        """Have a message that was given up tried anew.

        False where it does not stand any more, or is tried already.
        """
        partition = partition_of_message(MessageId(kept))
        return bool(
            await self._store.batch.fcall(
                self._function("bridge_again"),
                (keys.timers(partition), keys.message(MessageId(kept))),
                (kept, now_ms),
            )
        )

    async def drop_address(self, device: DeviceId, br: bytes, reason: str, now_ms: int) -> bool:
        """Take its bridge from a device, unless that is another one by now.

        Args:
            device: whose.
            br: as `Job.br` gave it.
            reason: told with the event; empty to tell nobody.
            now_ms: the clock, epoch milliseconds.

        Returns:
            Whether the device had it still.
        """
        partition = partition_of(device)
        return bool(
            await self._store.batch.fcall(
                self._function("bridge_drop"),
                (keys.mailbox(device), keys.timers(partition), keys.outbox(partition)),
                (device, br, _cut(reason), now_ms),
            )
        )


def _cut(detail: str) -> str:
    return detail[:_DETAIL_CHARACTERS]


def _lane(name: Reply) -> Lane:
    project, _, bridge = text(name).partition(":")
    return Lane(ProjectId(project), bridge)


def _head(score: Reply) -> Head:
    return Head(*divmod(int(cast("bytes", score)), _LANE_MS))


def _job(parts: Sequence[bytes]) -> Job:
    kept, device, br, seq, frame, part, attempts, tries, score = parts
    _, registered, address = br.decode().split("|", 2)
    return Job(
        message=told_as(MessageId(kept.decode())),
        kept=kept.decode(),
        device=DeviceId(device.decode()),
        br=br,
        address=address,
        registered_ms=int(registered),
        frame=frame,
        part=part,
        attempts=int(attempts),
        seq=int(seq),
        lane=_head(score).lane,
        ready_ms=_head(score).since_ms,
        tries=tries,
    )
