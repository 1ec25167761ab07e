"""What all parts of one run share: time, chance, faults, the trace, the verdict."""

import asyncio
import zlib
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Final, Protocol

from prometheus_client import CollectorRegistry

from gateway.shard.dialects import discover
from gateway.shard.session import Session as ShardSession
from router.model.ids import ProjectId
from router.receipts import Receipts
from router.store.library import Library
from router.telemetry.metrics import Metrics
from sdk_client.session import Session as SdkSession
from tests.simulation.checks import Checks
from tests.simulation.clock import VirtualLoop
from tests.simulation.faults import Cut, Faults, draw
from tests.simulation.view import StoreView

EPOCH_MS: Final = 1_800_000_000_000
PROJECT: Final = ProjectId("simulated")
FAULTS_S: Final = 30.0
"""How long things go wrong."""
_TAIL: Final = 200
_TICK_S: Final = 1e-6
"""Keeps apart what must not change its order."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The code under test; a canary puts a broken part in."""

    shard_session: type[ShardSession] = ShardSession
    sdk_session: type[SdkSession] = SdkSession
    functions: Library = field(default_factory=Library)
    """Of the store."""
    receipts: type[Receipts] = Receipts
    answers_early: bool = False
    """Whether the processes do not wait for replicas."""
    name: str = "sound"


SOUND: Final = Parts()


@dataclass(frozen=True, slots=True)
class Scale:
    """The sizes and times of a run: small, so that limits are met."""

    window: int
    ack_timeout_ms: int
    max_pending: int
    messages: int
    max_acks: int
    """Acks that a shard keeps while the store is away."""
    replicas: int
    """That have a change before its answer."""

    @classmethod
    def draw(cls, rng: Random) -> "Scale":
        return cls(
            window=rng.choice([1, 2, 4, 8]),
            ack_timeout_ms=rng.choice([2_000, 5_000]),
            max_pending=rng.choice([4, 8, 20, 20]),
            messages=rng.randint(15, 45),
            max_acks=rng.choice([3, 1_000]),
            replicas=rng.choice([0, 0, 1]),
        )


class Mortal(Protocol):
    """A process, for its burial."""

    def bury(self) -> None:
        """Let what was to come happen, unheard."""
        ...


class Context:
    """Made anew for each run."""

    def __init__(self, seed: int, parts: Parts, cut: Cut, loop: VirtualLoop) -> None:
        self.loop = loop
        self.rng = Random(seed)
        self.parts = parts
        self.drawn: Final = cut.apply(draw(self.rng))
        self.faults: Faults = self.drawn
        self.faults_s = cut.seconds
        self.scale = Scale.draw(self.rng)
        self.counted = CollectorRegistry()
        self.metrics = Metrics(self.counted)
        self.failed: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(lambda _, problem: self.fail(f"a callback raised: {problem}"))
        self.digest = 0
        """Of the whole trace: two runs of a seed have the same."""
        self.over = False
        """Whether the run has ended: the dead may be buried."""
        self.nobody: Final = copy_context()
        """The context of what belongs to no process: networks, and the passing of time."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.reached: set[str] = set()
        """What happened: faults, and what processes logged."""
        self.processes: list[Mortal] = []
        """All that ever ran."""
        self._trace: deque[tuple[float, str, str]] = deque(maxlen=_TAIL)
        self.view = StoreView()
        self.dialects = discover()
        self.checks = Checks(
            self.view, self.scale.max_pending, self.scale.replicas, self.now_ms, self.fail
        )

    def now(self) -> float:
        """Seconds on the monotonic clock of everybody."""
        return self.loop.time()

    def now_ms(self) -> int:
        """The wall clock."""
        return EPOCH_MS + int(self.loop.time() * 1000)

    def at_ms(self, wall_ms: int) -> float:
        """When a time of the wall clock comes, on the monotonic one; never in the past."""
        return max(self.loop.time(), (wall_ms - EPOCH_MS) / 1000 + _TICK_S)

    def entropy(self, length: int) -> bytes:
        return self.rng.randbytes(length)

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def note(self, who: str, what: str) -> None:
        """Add to the trace."""
        self._trace.append((self.loop.time(), who, what))
        self.digest = zlib.crc32(f"{self.loop.time():.6f}{who}{what}".encode(), self.digest)

    def fail(self, text: str) -> None:
        """End the run: a promise was broken. The first one counts."""
        if not self.failed.done():
            self.note("checks", text)
            self.failed.set_result(text)

    def crash(self, who: str, error: BaseException) -> None:
        """End the run: a process ended by an error."""
        self.fail(f"{who} ended: {error!r}")

    def trace(self) -> str:
        """The tail of the trace, messages by their short names."""
        lines = [f"{at:9.3f} {who:<12} {what}" for at, who, what in self._trace]
        return self.checks.shorten("\n".join(lines))


class Line:
    """Where things arrive in the order in which they were sent, each after a while."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last = 0.0

    def after(self, delay_s: float, arrive: Callable[[], None], *, not_before: float = 0.0) -> None:
        at = max(self._last, self._context.now() + delay_s, not_before) + _TICK_S
        self._last = at
        self._context.loop.call_at(at, arrive, context=self._context.nobody)
