"""The processes of a gateway: which run, which are started anew, where devices and requests go."""

from collections.abc import Sequence
from typing import Final, TypeVar

from router.model.ids import (
    BROADCAST,
    DeviceId,
    Partition,
    partition_of,
    partition_of_audience,
    partition_of_topic,
)
from sdk_client.wire import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK
from tests.simulation.api_side import ApiProcess
from tests.simulation.bridge_side import Push
from tests.simulation.checks import CLOCKS_MS
from tests.simulation.context import PROJECT, Context
from tests.simulation.device_side import AppProcess
from tests.simulation.network import Socket
from tests.simulation.process import Process
from tests.simulation.servers import GROUP, USERS
from tests.simulation.shard_side import ShardProcess
from tests.simulation.topic_checks import TOPICS
from tests.simulation.worker_side import WorkerProcess

Item = TypeVar("Item")
Living = TypeVar("Living", bound=Process)
_SHARDS: Final = 3
_APIS: Final = 2
_WORKERS: Final = 2


class Park:
    """All processes, dead ones too."""

    def __init__(self, context: Context, push: Push) -> None:
        self._context = context
        self._push = push
        self._partitions: list[Partition] = []
        self._numbers = 0
        self.shards: list[ShardProcess] = []
        self.apis: list[ApiProcess] = []
        self.workers: list[WorkerProcess] = []
        self.sockets: list[Socket] = []

    def begin(self) -> None:
        """Start what devices need to register and connect."""
        for _ in range(_SHARDS):
            self._start_shard()
        for _ in range(_APIS):
            self._start_api()

    def own(self, devices: Sequence[DeviceId]) -> None:
        """Start the workers, for all partitions in which anything happens."""
        found = {partition_of(device) for device in devices}
        found |= {partition_of_topic(PROJECT, topic) for topic in (*TOPICS, BROADCAST)}
        found |= {partition_of_audience(PROJECT, name) for name in (*USERS, GROUP)}
        self._partitions += sorted(found)
        for _ in range(_WORKERS):
            self._start_worker()

    def tend(self) -> None:
        """Start what should run and does not, after a while."""
        happens = self._context.happens
        if len(self._alive(self.shards)) < _SHARDS and happens(0.05):
            self._start_shard()
        if len(self._alive(self.apis)) < _APIS and happens(0.05):
            self._start_api()
        if len(self._alive(self.workers)) < _WORKERS and happens(0.05):
            self._start_worker()

    def calm(self) -> None:
        """Let everybody go on, by clocks that are right."""
        for process in self.processes():
            process.resume()
            process.skew_ms = 0
        if self.any_shard() is None:
            self._start_shard()

    def processes(self) -> list[Process]:
        """Give all that live."""
        return self._alive([*self.shards, *self.apis, *self.workers])

    def any_shard(self) -> ShardProcess | None:
        return self._any([shard for shard in self.shards if shard.accepting])

    def any_api(self) -> ApiProcess | None:
        return self._any([api for api in self.apis if api.serving])

    def any_worker(self) -> WorkerProcess | None:
        return self._any([worker for worker in self.workers if worker.alive])

    def any_socket(self) -> Socket | None:
        self.sockets = [socket for socket in self.sockets if not socket.cut_off]
        return self._any(self.sockets)

    # The network, for devices.

    def connect(self, process: AppProcess, attempt: int) -> None:
        context = self._context
        # A handshake takes several trips: whatever the device sent before has arrived by then.
        delay_s = context.rng.uniform(1, 2) * context.drawn.net_delay_s
        shard = self.any_shard()

        def arrive() -> None:
            if shard is None or refused:
                process.on_refused(attempt, "refused")
            else:
                self._arrive(shard, process, attempt)

        refused = context.happens(context.faults.connect_fails)
        context.loop.call_later(delay_s, arrive, context=context.nobody)

    def _arrive(self, shard: ShardProcess, process: AppProcess, attempt: int) -> None:
        context = self._context
        if not shard.accepting:
            process.on_refused(attempt, "refused")
            return
        if (refusal := shard.admit()) is not None:
            process.on_refused(attempt, refusal.reason, refusal.retry_after_s)
            return
        socket = Socket(context, f"{process.name}.{attempt}→{shard.name}")
        self.sockets.append(socket)
        dialect = process.session.options.dialect
        chosen = SUBPROTOCOL_JSON if dialect == "json" else SUBPROTOCOL_MSGPACK
        shard.accept(socket, context.dialects[chosen])
        delay_s = context.rng.uniform(0, context.faults.net_delay_s)
        context.loop.call_later(
            delay_s, lambda: process.on_open(socket, attempt), context=context.nobody
        )

    def _start_shard(self) -> None:
        self.shards.append(ShardProcess(self._context, self._next(), self._skew()))

    def _start_api(self) -> None:
        self.apis.append(ApiProcess(self._context, self._next(), self._skew()))

    def _start_worker(self) -> None:
        started = WorkerProcess(
            self._context, self._partitions, self._push, self._next(), self._skew()
        )
        self.workers.append(started)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def _skew(self) -> int:
        return self._context.rng.randint(-CLOCKS_MS, CLOCKS_MS)

    def _any(self, found: Sequence[Item]) -> Item | None:
        return self._context.rng.choice(found) if found else None

    @staticmethod
    def _alive(found: Sequence[Living]) -> list[Living]:
        return [process for process in found if process.alive]
