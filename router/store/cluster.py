"""A cluster of servers, with a pipeline to each: every command goes to the node of its slot.

The commands of a slot keep their order, whoever serves it. When a node says that a slot is
elsewhere, all that waits for the slot goes there. While nobody serves a slot its commands wait in
limbo, a pipeline without a connection, where they fail at their deadlines.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import structlog

from router.store.address import Address, Servers
from router.store.batch import Batch, Redirect
from router.store.command import Command, Part
from router.store.link import Argument, Link, LinkError, Reply, pack
from router.store.node import Node, backoff_s
from router.store.slots import (
    SLOTS,
    Range,
    Tags,
    read_redirection,
    slot_of,
    slot_of_key,
    slot_of_packed,
)
from router.store.topology import look, primaries_of
from router.telemetry.metrics import Metrics

_REFRESH_S: Final = 10.0
"""How often the nodes are asked who serves what, without a reason."""
_REFRESH_MIN_S: Final = 0.1
"""How long after one look the next one comes at the earliest."""
_SILENT_S: Final = 1.0
"""A node that has not answered for so long may have been replaced."""
_HOLD_S: Final = 0.05
"""How long a slot is left alone that is on its way to another node, or has none."""
_MAX_MOVES: Final = 5
"""How often a slot is sent on between two looks: two nodes may each name the other."""

Where = tuple[str, int]


class Parts(msgspec.Struct, frozen=True):
    """What a cluster is made of."""

    node: Callable[[Address, Batch], Node]
    batch: Callable[[Redirect | None, Callable[[int], None]], Batch]


class _Member:
    """One node that serves slots, and the task that keeps its connection."""

    __slots__ = ("address", "batch", "node", "task")

    def __init__(self, address: Address, node: Node, task: asyncio.Task[None]) -> None:
        self.address = address
        self.node = node
        self.batch = node.batch
        self.task = task


class Cluster:
    """Carries out each command on the node that serves its slot.

    Args:
        servers: some of the nodes, and how to log in to all.
        parts: makes connections and pipelines.
        metrics: of this process.
        entropy: gives so many random bytes.
    """

    def __init__(
        self, servers: Servers, parts: Parts, metrics: Metrics, entropy: Callable[[int], bytes]
    ) -> None:
        self._servers = servers
        self._parts = parts
        self._metrics = metrics
        self._entropy = entropy
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("store")
        self._tags = Tags()
        self._queues: dict[str, int] = {}
        self._limbo = parts.batch(None, functools.partial(self._show_queue, "limbo"))
        self._at: list[Batch] = [self._limbo] * SLOTS
        """Where the commands of a slot go now."""
        self._owners: list[Batch] = [self._limbo] * SLOTS
        """The same by the last word of the nodes; it differs for slots that are held."""
        self._held: set[int] = set()
        """Slots that are left alone for a moment: their commands wait in limbo."""
        self._members: dict[Where, _Member] = {}
        self._asked: set[Where] = set()
        """Nodes that a slot is on its way to; they may serve none yet."""
        self._moves: Counter[int] = Counter()
        self._is_suspect = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._covered = False
        self.last_error = ""
        """Why the nodes could not be asked."""

    # What Batch does too.

    def call(
        self, *args: Argument, deadline_s: float | None = None, urgent: bool = False
    ) -> asyncio.Future[Reply]:
        """Queue one command, as `Batch.call`; one without a key goes to some node."""
        slot = slot_of(args, self._tags)
        batch = self._any() if slot is None else self._at[slot]
        return batch.call(*args, deadline_s=deadline_s, urgent=urgent)

    def fcall(
        self,
        function: str,
        keys: Iterable[str],
        args: Iterable[Argument],
        deadline_s: float | None = None,
        *,
        urgent: bool = False,
    ) -> asyncio.Future[Reply]:
        """Queue one call of a server function, as `Batch.fcall`; its keys have one hash tag."""
        named = tuple(keys)
        batch = self._at[slot_of_key(named[0], self._tags)]
        return batch.fcall(function, named, args, deadline_s, urgent=urgent)

    def gather(
        self,
        function: str,
        keys: tuple[str, ...],
        args: tuple[Argument, ...],
        part: Part,
        messages: int = 1,
        *,
        urgent: bool = False,
    ) -> asyncio.Future[Reply]:
        """Queue one part of a call, as `Batch.gather`."""
        batch = self._at[slot_of_key(keys[0], self._tags)]
        return batch.gather(function, keys, args, part, messages, urgent=urgent)

    def close(self) -> None:
        """Fail whatever waits; later calls fail at once."""
        for member in self._members.values():
            member.task.cancel()
            member.batch.close()
        self._limbo.close()

    # The nodes.

    @property
    def connected(self) -> bool:
        """Whether every slot is served by a node that is connected."""
        members = self._members.values()
        return self._covered and all(member.node.connected for member in members)

    async def stay_connected(self) -> None:
        """Learn who serves what, and again whenever that is in doubt; for ever."""
        failures = 0
        async with asyncio.TaskGroup() as self._group:
            while True:
                self._is_suspect.clear()
                try:
                    await self._refresh()
                    failures = 0
                except LinkError as error:
                    failures += 1
                    self.last_error = str(error)
                    self._log.warning("store.cluster_unknown", reason=self.last_error)
                    self._is_suspect.set()
                await asyncio.sleep(_REFRESH_MIN_S + backoff_s(failures, self._entropy))
                await self._doubt()

    async def _doubt(self) -> None:
        """Wait until it is time to ask again."""
        due = self._loop.time() + _REFRESH_S
        while self._loop.time() < due and not self._is_suspect.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SILENT_S):
                    await self._is_suspect.wait()
            if any(member.batch.silent_s > _SILENT_S for member in self._members.values()):
                return

    def suspect(self) -> None:
        """Have the nodes asked again soon."""
        self._is_suspect.set()

    async def open_reader(self, key: str) -> Link:
        """Open a connection of its own to the node of a key, for commands that block.

        Raises:
            LinkError: nobody serves the key, or the node is away.
        """
        owner = self._owners[slot_of_key(key, self._tags)]
        for member in self._members.values():
            if member.batch is owner:
                return await member.node.open_reader()
        raise LinkError("no node serves the key")

    def known(self) -> list[Address]:
        """List the nodes that may tell of the others, in a random order, those of the URL last."""
        members = [member.address for member in self._members.values()]
        draw = int.from_bytes(self._entropy(2), "big")
        turn = draw % len(members) if members else 0
        return [*members[turn:], *members[:turn], *self._servers.seeds]

    async def _refresh(self) -> None:
        view = await look(self.known())
        self._covered = view.covered == SLOTS
        self._moves.clear()
        self._take_over(view.ranges)
        if not view.ok:
            self.suspect()

    def _take_over(self, ranges: Iterable[Range]) -> None:
        """Make the nodes' word ours, and send on what waits in the wrong place."""
        owners: list[Batch] = [self._limbo] * SLOTS
        for one in ranges:
            batch = self._member(one.primary).batch
            owners[one.first : one.last + 1] = [batch] * (one.last - one.first + 1)
        self._owners = owners
        self._at = owners.copy()
        for slot in self._held:
            self._at[slot] = self._limbo
        wanted = {*primaries_of(ranges), *self._asked}
        self._asked.clear()
        for where in [one for one in self._members if one not in wanted]:
            self._retire(where)
        for batch in (self._limbo, *(member.batch for member in self._members.values())):
            self._rehome(batch)

    def _member(self, where: Where) -> _Member:
        """Give a node; connect to one that is new."""
        member = self._members.get(where)
        if member is not None:
            return member
        if self._group is None:
            raise RuntimeError("The cluster is used before it was opened")
        address = self._servers.login.at(*where)
        name = f"{where[0]}:{where[1]}"
        batch = self._parts.batch(
            functools.partial(self._redirect, where), functools.partial(self._show_queue, name)
        )
        node = self._parts.node(address, batch)
        task = self._group.create_task(node.stay_connected(self.suspect), name=f"store {name}")
        member = self._members[where] = _Member(address, node, task)
        return member

    def _retire(self, where: Where) -> None:
        """Leave a node that serves nothing any more, dead or alive."""
        member = self._members.pop(where)
        member.task.cancel()
        member.batch.drop_link()
        member.node.drop_readers()
        self._rehome(member.batch)
        self._queues.pop(f"{where[0]}:{where[1]}", None)

    # What is in the wrong place.

    def _redirect(self, where: Where, refused: list[tuple[Command, str]]) -> None:
        """Send on what a node did not take, each slot in its order."""
        moved: set[int] = set()
        for command, words in refused:
            if command.waiter.done():
                continue
            kind = words.partition(" ")[0]
            if kind == "ASK":
                _, target = read_redirection(words, where[0])
                self._ask(target, command)
            elif kind == "MOVED":
                slot, target = read_redirection(words, where[0])
                if slot not in moved:
                    moved.add(slot)
                    self._move(slot, target)
                self._at[slot].put((command,))
            else:
                self._hold_slot_of(command)
                if kind == "CLUSTERDOWN":
                    self.suspect()
        # Behind those that came back, what waits for the same slots.
        if where in self._members:
            self._rehome(self._members[where].batch)
        self._rehome(self._limbo)

    def _ask(self, target: Where, command: Command) -> None:
        """Try another node once: the slot is on its way there, key by key."""
        asking = Command(
            pack(("ASKING",)), self._loop.create_future(), command.deadline, command.urgent
        )
        self._asked.add(target)
        self._member(target).batch.put((asking, command))

    def _move(self, slot: int, target: Where) -> None:
        batch = self._member(target).batch
        self.suspect()
        self._owners[slot] = batch
        if slot not in self._held:
            self._at[slot] = batch
        self._moves[slot] += 1
        if self._moves[slot] > _MAX_MOVES:
            self._hold(slot)

    def _hold_slot_of(self, command: Command) -> None:
        slot = slot_of_packed(command.seal(), self._tags)
        if slot is None:
            self._any().put((command,))
            return
        self._hold(slot)
        self._limbo.put((command,))

    def _hold(self, slot: int) -> None:
        if slot not in self._held:
            self._held.add(slot)
            self._at[slot] = self._limbo
            self._loop.call_later(_HOLD_S, self._let_go, slot)

    def _let_go(self, slot: int) -> None:
        self._held.discard(slot)
        self._at[slot] = self._owners[slot]
        self._rehome(self._limbo)

    def _rehome(self, batch: Batch) -> None:
        """Send on what waits at a node, or in limbo, and belongs elsewhere by now."""
        if not batch.waiting():
            return
        elsewhere: dict[Batch, list[Command]] = {}
        places: dict[int, Batch] = {}

        def is_elsewhere(command: Command) -> bool:
            slot = slot_of_packed(command.seal(), self._tags)
            if slot is None and batch is not self._limbo:
                return False
            place = places[id(command)] = self._any() if slot is None else self._at[slot]
            return place is not batch

        for command in batch.take(is_elsewhere):
            elsewhere.setdefault(places[id(command)], []).append(command)
        for other, commands in elsewhere.items():
            other.put(commands)

    def _any(self) -> Batch:
        """Give a node, one that is connected where there is one."""
        members = self._members.values()
        connected = (member.batch for member in members if member.node.connected)
        return next(connected, next((member.batch for member in members), self._limbo))

    def _show_queue(self, name: str, length: int) -> None:
        self._queues[name] = length
        self._metrics.store_queue.set(sum(self._queues.values()))
