"""Who serves which slots of a cluster, asked of its nodes."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from router.store.address import Address, describe
from router.store.link import LinkError, open_link
from router.store.node import text
from router.store.slots import Range, read_ranges

_PATIENCE_S: Final = 1.0
"""What one node may take."""
_ASKED: Final = 3
"""How many are asked at once."""


class View(msgspec.Struct, frozen=True):
    """The cluster as one node sees it."""

    ranges: tuple[Range, ...]
    epoch: int
    """Of the last failover or move of slots that the node knows of."""
    ok: bool
    """Whether the node sees most of the primaries, and every slot served."""

    @property
    def covered(self) -> int:
        """Count the slots that are served."""
        return sum(one.last - one.first + 1 for one in self.ranges)


async def look(nodes: Sequence[Address]) -> View:
    """Ask some nodes, in the order given, and believe the one that is furthest ahead.

    One that was cut off, or has just come back, may still name owners from before.

    Raises:
        LinkError: none answers.
    """
    reasons: list[str] = []
    for first in range(0, len(nodes), _ASKED):
        asked = nodes[first : first + _ASKED]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_ask(one)) for one in asked]
        answers = [task.result() for task in tasks]
        views = [one for one in answers if isinstance(one, View)]
        if views:
            return max(views, key=lambda view: (view.ok, view.epoch))
        reasons += [f"{describe(one)}: {why}" for one, why in zip(asked, answers, strict=True)]
    message = f"no node of the cluster answers: {'; '.join(reasons)}"
    raise LinkError(message)


async def _ask(address: Address) -> View | str:
    try:
        link = await open_link(address, _PATIENCE_S)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                slots, info = await link.requests(("CLUSTER", "SLOTS"), ("CLUSTER", "INFO"))
        finally:
            link.abort()
    except LinkError as error:
        return str(error)
    except TimeoutError:
        return "no answer"
    told = dict(line.partition(":")[::2] for line in text(info).split())
    return View(
        ranges=tuple(read_ranges(slots, address.host)),
        epoch=int(told.get("cluster_current_epoch", "0")),
        ok=told.get("cluster_state") == "ok",
    )


def replicas_of(ranges: Iterable[Range]) -> list[tuple[str, int]]:
    """List the replicas, each once."""
    return list(dict.fromkeys(place for one in ranges for place in one.replicas))


def primaries_of(ranges: Iterable[Range]) -> list[tuple[str, int]]:
    """List the primaries, each once."""
    return list(dict.fromkeys(one.primary for one in ranges))
