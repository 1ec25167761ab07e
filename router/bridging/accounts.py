"""What a project does with its bridges: gives credentials, reads what is known, tests, removes.

Before: `gateway.api.resources.bridges` and `pushwire project bridge`. After:
`router.store.bridge_credentials`; every process learns of a change within a second.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from router.bridge import KEY_BYTES, AnyBridge, Credentials
from router.bridging.directory import context_of, unsealed
from router.bridging.letters import endpoint_of
from router.bridging.probe import Verdict
from router.model.bridge_state import BridgeState, BridgeTest
from router.model.errors import ErrorCode, PushError
from router.model.ids import ProjectId
from router.policy.sealing import NONCE_BYTES, Keyring, SealError
from router.store.bridge_credentials import BridgeCredentials, SealedBridge
from router.store.dead_letters import DeadLetters

NO_KEY: Final = (
    "Credentials are kept sealed, and there is no key to seal them with. Make one with `pushwire "
    "project bridge new-key`, and give it to every process and command as PUSHWIRE_SECRET_KEY."
)

Probe = Callable[[ProjectId, AnyBridge, Credentials], Awaitable[Verdict]]
"""Tries credentials with their provider (`router.bridging.probe`)."""


class ProjectBridge(msgspec.Struct, frozen=True):
    """A bridge of a project, and its credentials where they open."""

    name: str
    state: BridgeState
    credentials: Credentials | None
    closed: str = ""
    """Why they do not open."""

    @property
    def condition(self) -> str:
        """Whether it works: ok; suspended, for one audience at least; closed."""
        if self.credentials is None:
            return "closed"
        return "suspended" if self.state.suspended else "ok"

    @property
    def advice(self) -> str:
        """What had better be given too."""
        return "" if self.credentials is None else self.credentials.advice()


class Resealed(NamedTuple):
    """How many credentials the newest key seals now, and which do not open, with the reason."""

    done: int
    closed: Sequence[str]


class Accounts:
    """Bridges of projects.

    Args:
        kept: where they are kept.
        letters: dead letters, which go with their bridge.
        bridges: the kinds that there are.
        keys: what seals and opens credentials.
        probe: tries credentials.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
    """

    def __init__(
        self,
        kept: BridgeCredentials,
        letters: DeadLetters,
        bridges: Mapping[str, AnyBridge],
        keys: Keyring,
        probe: Probe,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._kept = kept
        self._letters = letters
        self._bridges = bridges
        self._keys = keys
        self._probe = probe
        self._now_ms = now_ms
        self._entropy = entropy

    @property
    def kinds(self) -> Mapping[str, AnyBridge]:
        """Every kind of bridge that there is."""
        return self._bridges

    def kind(self, name: str) -> AnyBridge:
        """Give the kind of bridge that is called so.

        Raises:
            PushError: NOT_FOUND.
        """
        if (kind := self._bridges.get(name)) is None:
            message = f"There is no such bridge; there are {', '.join(self._bridges)}."
            raise PushError(ErrorCode.NOT_FOUND, message)
        return kind

    async def put(self, project: ProjectId, name: str, raw: dict[str, object]) -> ProjectBridge:
        """Keep credentials in the place of those before, and use them from now on.

        What was suspended begins again.

        Raises:
            PushError: NOT_FOUND; INVALID_ARGUMENT, naming the fields; FAILED_PRECONDITION, there is
                no key to seal them with, or those before do not open and were to be kept in part.
        """
        kind = self.kind(name)
        if not self._keys:
            raise PushError(ErrorCode.FAILED_PRECONDITION, NO_KEY)
        completed = await self._completed(project, kind, raw)
        # In a thread, as reading an RSA key takes 40 ms.
        credentials = await asyncio.to_thread(kind.credentials, completed)
        sealed = self._seal(project, name, credentials)
        bridge = await self._kept.put(project, name, sealed, self._now_ms())
        if bridge is None:
            raise PushError(ErrorCode.NOT_FOUND, "There is no such project.")
        return ProjectBridge(name, bridge.state, credentials)

    async def get(self, project: ProjectId, name: str) -> ProjectBridge:
        """Give a bridge.

        Raises:
            PushError: NOT_FOUND.
        """
        self.kind(name)
        if (found := await self._kept.get(project, name)) is None:
            raise PushError(ErrorCode.NOT_FOUND, f"The project has no bridge {name}.")
        return await self._opened(found)

    async def all(self, project: ProjectId) -> list[ProjectBridge]:
        """Give the bridges of a project, by name."""
        return [
            await self._opened(bridge)
            for bridge in await self._kept.of(project)
            if bridge.name in self._bridges
        ]

    async def test(self, project: ProjectId, name: str) -> ProjectBridge:
        """Try the credentials with the provider, and keep the verdict: a good one ends suspensions.

        Takes a few seconds, or as many as time-outs last.

        Raises:
            PushError: NOT_FOUND; FAILED_PRECONDITION, they do not open.
        """
        found = await self.get(project, name)
        if found.credentials is None:
            message = f"The credentials of this bridge do not open: {found.closed}."
            raise PushError(ErrorCode.FAILED_PRECONDITION, message)
        verdict = await self._probe(project, self.kind(name), found.credentials)
        test = BridgeTest(verdict.good, verdict.says, self._now_ms(), verdict.refused)
        await self._kept.note_test(project, name, found.state.generation, test)
        # Where they were changed meanwhile, what was found of those before says nothing.
        return await self.get(project, name)

    async def remove(self, project: ProjectId, name: str) -> None:
        """Forget a bridge, its credentials and its dead letters.

        Raises:
            PushError: NOT_FOUND.
        """
        removed = await self._kept.remove(project, self.kind(name).name)
        await self._letters.drop_all(endpoint_of(project, name))
        if not removed:
            raise PushError(ErrorCode.NOT_FOUND, f"The project has no bridge {name}.")

    async def remove_all(self, project: ProjectId) -> None:
        """Forget all bridges of a project that is deleted, and their dead letters."""
        await self._kept.remove_all(project)
        for name in self._bridges:
            await self._letters.drop_all(endpoint_of(project, name))

    async def reseal(self) -> Resealed:
        """Seal with the newest key whatever an older one has sealed, of all projects.

        Raises:
            PushError: FAILED_PRECONDITION, there is no key.
        """
        if not self._keys:
            raise PushError(ErrorCode.FAILED_PRECONDITION, NO_KEY)
        done, closed = 0, []
        for bridge in await self._kept.all():
            if self._keys.is_newest(bridge.sealed):
                done += 1
                continue
            context = context_of(bridge.project, bridge.name)
            try:
                plain = self._keys.open(bridge.sealed, context)
            except SealError as error:
                closed.append(f"{bridge.project} {bridge.name}: {error}")
                continue
            # Where they were changed meanwhile, the newest key has sealed them already.
            sealed = self._keys.seal(plain, context, self._entropy(NONCE_BYTES))
            await self._kept.reseal(bridge, sealed)
            done += 1
        return Resealed(done, closed)

    async def _completed(
        self, project: ProjectId, kind: AnyBridge, raw: dict[str, object]
    ) -> object:
        found = await self._kept.get(project, kind.name)
        before = None if found is None else await self._opened(found)
        credentials = None if before is None else before.credentials
        made = kind.completed(raw, credentials, self._entropy(KEY_BYTES))
        if before is not None and before.closed and made != raw:
            message = (
                f"The credentials of this bridge do not open ({before.closed}), so that nothing of "
                "them can be kept: give all that they hold, or remove the bridge first."
            )
            raise PushError(ErrorCode.FAILED_PRECONDITION, message)
        return made

    def _seal(self, project: ProjectId, name: str, credentials: Credentials) -> bytes:
        plain = msgspec.json.encode(credentials)
        return self._keys.seal(plain, context_of(project, name), self._entropy(NONCE_BYTES))

    async def _opened(self, bridge: SealedBridge) -> ProjectBridge:
        kind = self._bridges[bridge.name]
        try:
            credentials = await asyncio.to_thread(unsealed, bridge, kind, self._keys)
        except (SealError, PushError) as error:
            return ProjectBridge(bridge.name, bridge.state, None, str(error))
        return ProjectBridge(bridge.name, bridge.state, credentials)
