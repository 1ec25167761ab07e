"""A cluster of real servers: three primaries, each with a replica where a test wants one."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from typing_extensions import override

from router.store.slots import SLOTS
from tests.support.tcp_server import TcpServer, wait_until

_PRIMARIES = 3


class ClusterServers:
    """The nodes: three primaries at first, then perhaps a replica of each."""

    def __init__(self, directory: Path, *, replicas: bool, options: tuple[str, ...]) -> None:
        nodes = [
            TcpServer(
                directory / f"node-{number}",
                "cluster-enabled yes",
                "cluster-config-file nodes.conf",
                "cluster-node-timeout 1000",
                "cluster-replica-validity-factor 0",
                "cluster-allow-replica-migration no",
                "cluster-require-full-coverage no",
                *options,
            )
            for number in range(_PRIMARIES * (2 if replicas else 1))
        ]
        self.nodes = nodes

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def start(self) -> None:
        """Start all, and wait until all slots are served and replicas in step."""
        nodes = self.nodes
        for epoch, node in enumerate(nodes, 1):
            node.start()
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        primaries, replicas = nodes[:_PRIMARIES], nodes[_PRIMARIES:]
        for number, node in enumerate(primaries):
            first, last = (SLOTS * at // _PRIMARIES for at in (number, number + 1))
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
        for node in nodes[1:]:
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port)
        known = f"cluster_known_nodes:{len(nodes)}\r"
        self._wait("acquaintance", lambda node: known in cast("str", node.ask("CLUSTER", "INFO")))
        for replica, primary in zip(replicas, primaries, strict=False):
            replica.ask("CLUSTER", "REPLICATE", identity(primary))
        self._wait("slots", lambda node: "cluster_state:ok" in str(node.ask("CLUSTER", "INFO")))
        if replicas:
            self.await_replicas()

    def await_replicas(self) -> None:
        """Wait until every primary has a replica that is in step, and all nodes know."""
        self._wait("replicas", lambda node: all(one.replica for one in ranges(node)))
        primaries = self.primaries()
        wait_until(
            "replicas in step",
            lambda: all("state=online" in str(node.ask("INFO")) for node in primaries),
        )

    def primaries(self) -> list[TcpServer]:
        """Give the primaries of now."""
        return list(dict.fromkeys(self.owner(one.first) for one in ranges(self._asked)))

    def replica_of(self, primary: TcpServer) -> TcpServer:
        """Give the replica of a primary."""
        found = next(one for one in ranges(self._asked) if one.primary == primary.port)
        return self._node(found.replica)

    @property
    def _asked(self) -> TcpServer:
        return next(node for node in self.nodes if node.running)

    def _node(self, port: int) -> TcpServer:
        return next(node for node in self.nodes if node.port == port)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def owner(self, slot: int) -> TcpServer:
        """Give the node that serves a slot, by the word of the first that runs."""
        return self._node(next(one.primary for one in ranges(self._asked) if slot in one))

    def await_owner_other_than(self, before: TcpServer, slot: int) -> TcpServer:
        """Wait until all nodes that run name another owner of a slot, and give it."""

        def changed(node: TcpServer) -> bool:
            owners = [one.primary for one in ranges(node) if slot in one]
            return bool(owners) and owners[0] != before.port

        self._wait("another owner", changed)
        return self.owner(slot)

    def _wait(self, description: str, check: object) -> None:
        assert callable(check)
        running = [node for node in self.nodes if node.running]
        wait_until(description, lambda: all(check(node) for node in running))


def begin_move(slot: int, source: TcpServer, target: TcpServer) -> None:
    """Begin to move a slot key by key, as `valkey-cli --cluster reshard` does."""
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))


def move_keys(slot: int, source: TcpServer, target: TcpServer, most: int = 1000) -> int:
    """Move some keys of a slot, and give how many."""
    found = cast("list[str]", source.ask("CLUSTER", "GETKEYSINSLOT", slot, most))
    for key in found:
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    return len(found)


def end_move(slot: int, source: TcpServer, target: TcpServer) -> None:
    """End the move of a slot whose keys are all at the target."""
    while move_keys(slot, source, target):
        pass
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", identity(target))


def move_at_once(slot: int, source: TcpServer, target: TcpServer) -> None:
    """Move a slot as Valkey 9 does: its keys are copied first, then it changes hands at once."""
    source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", identity(target))

    def has_it() -> bool:
        return any(slot in one and one.primary == target.port for one in ranges(target))

    wait_until("the slot at its new place", has_it)


def identity(node: TcpServer) -> str:
    """Give the id of a node."""
    return cast("str", node.ask("CLUSTER", "MYID"))


class Served(NamedTuple):
    """Slots that one primary serves."""

    first: int
    last: int
    primary: int
    """Its port."""
    replica: int
    """That of its replica, or 0."""

    @override
    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, int) and self.first <= slot <= self.last


def ranges(node: TcpServer) -> list[Served]:
    """Give who serves which slots, by the word of a node."""
    found = []
    for first, last, primary, *replicas in cast("list[list[Any]]", node.ask("CLUSTER", "SLOTS")):
        found.append(Served(first, last, primary[1], replicas[0][1] if replicas else 0))
    return found


@contextlib.contextmanager
def running_cluster(*options: str, replicas: bool = False) -> Iterator[ClusterServers]:
    """Run a cluster in a temporary directory; `options` are lines of each node's configuration."""
    directory = Path(tempfile.mkdtemp(prefix="pw-"))
    cluster = ClusterServers(directory, replicas=replicas, options=options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
