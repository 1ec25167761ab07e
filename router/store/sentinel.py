"""Which server is the primary: asked of the Sentinels, over one kept connection to each."""

import asyncio
from typing import Final, cast

import msgspec

from router.store.address import Address, Sentinels, describe
from router.store.link import Link, LinkError, fields, open_link

_PATIENCE_S: Final = 0.5
"""What one Sentinel may take: the host of a dead primary often had one too."""


class _View(msgspec.Struct, frozen=True):
    """What one Sentinel says: where the primary is, and by which failover it became one."""

    host: str
    port: int
    epoch: int


class Lookout:
    """Asks all Sentinels of a service, and believes the one that knows of the last failover.

    One that was cut off, or has just come back, may still name the primary from before.
    """

    def __init__(self, place: Sentinels) -> None:
        self._place = place
        self._links: dict[Address, Link] = {}
        self._asking = asyncio.Lock()
        self._epoch = 0
        """Of the last failover that is known of."""

    @property
    def moves(self) -> bool:
        """Tell that the primary may be another one at any time."""
        return True

    async def find(self) -> Address:
        """Give the address of the primary.

        Raises:
            LinkError: no Sentinel answers, or none knows the service.
        """
        sentinels = self._place.sentinels
        async with self._asking, asyncio.TaskGroup() as group:
            asked = [group.create_task(self._ask(one)) for one in sentinels]
        answers = [task.result() for task in asked]
        views = [one for one in answers if isinstance(one, _View)]
        if not views:
            reasons = "; ".join(
                f"{describe(one)}: {answer}" for one, answer in zip(sentinels, answers, strict=True)
            )
            message = f"no Sentinel tells where {self._place.service} is: {reasons}"
            raise LinkError(message)
        best = max(views, key=lambda view: view.epoch)
        self._epoch = best.epoch
        return self._place.login.at(best.host, best.port)

    async def has_moved(self, address: Address) -> bool:
        """Tell whether a Sentinel knows of another primary since; silence is no news."""
        before = self._epoch
        try:
            found = await self.find()
        except LinkError:
            return False
        if self._epoch < before:
            self._epoch = before
            return False
        return found != address

    async def replicas(self) -> list[Address]:
        """Give the addresses of the replicas, as far as a Sentinel knows and sees them.

        Raises:
            LinkError: no Sentinel answers.
        """
        for sentinel in self._place.sentinels:
            try:
                async with self._asking, asyncio.timeout(_PATIENCE_S):
                    link = await self._link(sentinel)
                    reply = await link.request("SENTINEL", "REPLICAS", self._place.service)
            except (LinkError, TimeoutError):
                continue
            told = [_pairs(cast("list[bytes]", one)) for one in fields(reply)]
            return [
                self._place.login.at(one["ip"], int(one["port"]))
                for one in told
                if "s_down" not in one.get("flags", "")
            ]
        raise LinkError("no Sentinel answers")

    def close(self) -> None:
        """Drop the connections."""
        for link in self._links.values():
            link.abort()
        self._links.clear()

    async def _ask(self, sentinel: Address) -> _View | str:
        service = self._place.service
        try:
            async with asyncio.timeout(_PATIENCE_S):
                link = await self._link(sentinel)
                # During a failover the first command is ahead of the second, which has the epoch.
                where, state = await link.requests(
                    ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),
                    ("SENTINEL", "MASTER", service),
                )
        except LinkError as error:
            return str(error)
        except TimeoutError:
            self._drop(sentinel)
            return "no answer"
        host, port = cast("list[bytes]", where)
        epoch = int(_pairs(cast("list[bytes]", state)).get("config-epoch", "0"))
        return _View(host.decode(), int(port), epoch)

    async def _link(self, sentinel: Address) -> Link:
        link = self._links.get(sentinel)
        if link is None or link.lost.done():
            link = self._links[sentinel] = await open_link(sentinel, _PATIENCE_S)
        return link

    def _drop(self, sentinel: Address) -> None:
        if (link := self._links.pop(sentinel, None)) is not None:
            link.abort()


def _pairs(flat: list[bytes]) -> dict[str, str]:
    texts = [one.decode() for one in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
