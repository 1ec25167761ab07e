"""What a project does with dead letters: those of its bridges, and beside them those of callbacks.

Before: `gateway.api.resources.dead_letters`. After: `router.callbacks.endpoints`,
`router.store.dead_letters`, and the queue of the bridge where a push is tried again.
"""

from collections.abc import Callable, Sequence
from typing import Final

from router.bridging.letters import PREFIX, endpoint_of, push_of
from router.callbacks.endpoints import Endpoints
from router.model.errors import ErrorCode, PushError
from router.model.ids import ProjectId
from router.model.webhook import DeadLetter
from router.store.bridge_jobs import BridgeJobs
from router.store.dead_letters import DeadLetters

_OVER: Final = (
    "Its message waits no more: a device or the provider took it, it expired, its TTL was 0, or "
    "this push is tried again already. Send the message again where nobody got it."
)


class AllDeadLetters:
    """Dead letters of callbacks and of bridges.

    Args:
        endpoints: deals with those of callbacks.
        letters: where both are kept.
        jobs: where pushes are tried again.
        bridges: the kinds that there are.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        letters: DeadLetters,
        jobs: BridgeJobs,
        bridges: Sequence[str],
        now_ms: Callable[[], int],
    ) -> None:
        self._endpoints = endpoints
        self._letters = letters
        self._jobs = jobs
        self._bridges = bridges
        self._now_ms = now_ms

    async def letters(
        self, project: ProjectId, source: str, before: tuple[int, str] | None, limit: int
    ) -> tuple[list[DeadLetter], bool]:
        """Give dead letters, the latest first.

        Args:
            project: whose.
            source: a webhook, or `br_<project>_<bridge>`; empty for all.
            before: (when it died, id) of the last one that the caller has.
            limit: how many at the most.

        Returns:
            Them, and whether there are more.
        """
        found, more = await self._endpoints.letters(project, source, before, limit)
        own: list[tuple[int, str, str]] = []
        for name in self._names(project):
            if source in {"", name}:
                ids = await self._letters.ids(name)
                own += [(died_ms, each, name) for died_ms, each in ids]
        own = sorted((one for one in own if before is None or one[:2] < before), reverse=True)
        for _, identifier, name in own[:limit]:
            found += await self._letters.get(name, [identifier])
        found.sort(key=lambda letter: (letter.died_ms, letter.id), reverse=True)
        return found[:limit], more or len(own) > limit or len(found) > limit

    async def letter(self, project: ProjectId, identifier: str) -> DeadLetter:
        """Give one dead letter.

        Raises:
            PushError: NOT_FOUND.
        """
        for name in self._names(project):
            if found := await self._letters.get(name, [identifier]):
                return found[0]
        return await self._endpoints.letter(project, identifier)

    async def replay(self, project: ProjectId, identifier: str) -> DeadLetter:
        """Send a dead letter again: a callback as it was, a push with all its tries before it.

        Raises:
            PushError: NOT_FOUND; QUOTA_EXCEEDED, too much waits for its endpoint;
                FAILED_PRECONDITION, the message of a push waits no more.
        """
        letter = await self.letter(project, identifier)
        if not letter.webhook.startswith(PREFIX):
            return await self._endpoints.replay(project, identifier)
        if not await self._jobs.again(push_of(letter).kept, self._now_ms()):
            raise PushError(ErrorCode.FAILED_PRECONDITION, _OVER)
        # The push may have died again since: that letter stays.
        await self._letters.drop(letter.webhook, identifier, letter.died_ms)
        return letter

    async def drop(self, project: ProjectId, identifier: str) -> None:
        """Forget a dead letter.

        Raises:
            PushError: NOT_FOUND.
        """
        letter = await self.letter(project, identifier)
        await self._letters.drop(letter.webhook, identifier)

    def _names(self, project: ProjectId) -> list[str]:
        return [endpoint_of(project, bridge) for bridge in self._bridges]
