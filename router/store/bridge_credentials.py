"""What projects gave to their bridges, sealed, and how the bridges are.

Before: `router.bridging.accounts`, which seals. After: `router.bridging.directory`, which looks at
the version once a second and reads everything anew when it has changed.
"""

from collections.abc import Callable, Sequence
from typing import Final, cast

import msgspec

from router.model.bridge_state import MAX_SUSPENDED, BridgeState, BridgeTest, Suspension
from router.model.ids import ProjectId
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

_STATE: Final = ":state"
_TRIES: Final = 8
"""Several processes may note something of one bridge at once; one of them wins each time."""
_state = msgspec.json.Decoder(BridgeState)


class SealedBridge(msgspec.Struct, frozen=True):
    """A bridge of a project; only who has the key can read its credentials."""

    project: ProjectId
    name: str
    sealed: bytes
    state: BridgeState


class BridgeCredentials:
    """Keeps bridges. Each change counts the version up, after it is written.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._function = store.library.function

    async def put(
        self, project: ProjectId, name: str, sealed: bytes, now_ms: int
    ) -> SealedBridge | None:
        """Keep credentials, new or changed: nothing is suspended any more, and no test counts.

        None where the project was deleted meanwhile.
        """
        batch = self._store.batch
        before = await self.get(project, name)
        await batch.call("SADD", keys.BRIDGES, project)
        state = BridgeState(
            generation=await self._changed(),
            created_ms=now_ms if before is None else before.state.created_ms,
            changed_ms=now_ms,
        )
        written = (name, sealed, name + _STATE, msgspec.json.encode(state))
        await batch.call("HSET", keys.bridges(project), *written)
        # Whoever deletes it marks its id first, so one of the two sees the other.
        gone = await batch.call("SISMEMBER", keys.DELETED_PROJECTS, project)
        if gone:
            await self.remove_all(project)
            return None
        await self._changed()
        return SealedBridge(project, name, sealed, state)

    async def reseal(self, bridge: SealedBridge, sealed: bytes) -> bool:
        """Keep the same credentials under another key; False where they changed meanwhile."""
        swapped = await self._swap(bridge.project, bridge.name, bridge.sealed, sealed)
        await self._changed()
        return swapped

    async def remove(self, project: ProjectId, name: str) -> bool:
        """Forget a bridge; False where there was none."""
        batch = self._store.batch
        removed = await batch.call("HDEL", keys.bridges(project), name, name + _STATE)
        await self._changed()
        return bool(removed)

    async def remove_all(self, project: ProjectId) -> None:
        """Forget all bridges of a project that is deleted."""
        batch = self._store.batch
        await batch.call("DEL", keys.bridges(project))
        await batch.call("SREM", keys.BRIDGES, project)
        await self._changed()

    async def get(self, project: ProjectId, name: str) -> SealedBridge | None:
        """Give a bridge, or None."""
        reply = await self._store.batch.call("HMGET", keys.bridges(project), name, name + _STATE)
        sealed, state = fields(reply)
        if not isinstance(sealed, bytes) or not isinstance(state, bytes):
            return None
        return SealedBridge(project, name, sealed, _state.decode(state))

    async def of(self, project: ProjectId) -> Sequence[SealedBridge]:
        """Give the bridges of a project, by name."""
        return _read_all(project, await self._store.batch.call("HGETALL", keys.bridges(project)))

    async def version(self) -> bytes:
        """Give what differs after any change."""
        found = await self._store.batch.call("GET", keys.BRIDGES_VERSION)
        return found if isinstance(found, bytes) else b""

    async def all(self) -> Sequence[SealedBridge]:
        """Give every bridge of every project."""
        batch = self._store.batch
        projects = [
            ProjectId(cast("bytes", project).decode())
            for project in fields(await batch.call("SMEMBERS", keys.BRIDGES))
        ]
        asked = [(each, batch.call("HGETALL", keys.bridges(each))) for each in projects]
        return [bridge for each, answer in asked for bridge in _read_all(each, await answer)]

    async def suspend(
        self,
        project: ProjectId,
        name: str,
        generation: int,
        audience: str,
        reason: str,
        now_ms: int,
    ) -> bool:
        """Send nothing to an audience any more; False where the credentials are others by now.

        Of more than `MAX_SUSPENDED` audiences those suspended first are forgotten.
        """

        def suspended(state: BridgeState) -> BridgeState:
            if audience in state.suspended:
                return state
            kept = {**state.suspended, audience: Suspension(reason, now_ms)}
            for oldest in list(kept)[:-MAX_SUSPENDED]:
                del kept[oldest]
            return msgspec.structs.replace(state, suspended=kept)

        return await self._note(project, name, generation, suspended)

    async def note_test(
        self, project: ProjectId, name: str, generation: int, test: BridgeTest
    ) -> bool:
        """Note how a test ended: one that passed lifts all suspensions.

        False where the credentials are others by now.
        """

        def tested(state: BridgeState) -> BridgeState:
            kept = {} if test.ok else state.suspended
            return msgspec.structs.replace(state, test=test, suspended=kept)

        return await self._note(project, name, generation, tested)

    async def _note(
        self,
        project: ProjectId,
        name: str,
        generation: int,
        change: Callable[[BridgeState], BridgeState],
    ) -> bool:
        for _ in range(_TRIES):
            field = name + _STATE
            before = await self._store.batch.call("HGET", keys.bridges(project), field)
            if not isinstance(before, bytes):
                return False
            state = _state.decode(before)
            if state.generation != generation:
                return False
            changed = change(state)
            if changed == state:
                return True
            if await self._swap(project, field, before, msgspec.json.encode(changed)):
                await self._changed()
                return True
        return False

    async def _swap(self, project: ProjectId, field: str, before: bytes, after: bytes) -> bool:
        return bool(
            await self._store.batch.fcall(
                self._function("swap_field"), (keys.bridges(project),), (field, before, after)
            )
        )

    async def _changed(self) -> int:
        return cast("int", await self._store.batch.call("INCR", keys.BRIDGES_VERSION))


def _read_all(project: ProjectId, reply: Reply) -> list[SealedBridge]:
    texts = [cast("bytes", item) for item in fields(reply)]
    found = {name.decode(): value for name, value in zip(texts[::2], texts[1::2], strict=True)}
    return [
        SealedBridge(project, name, value, _state.decode(found[name + _STATE]))
        for name, value in sorted(found.items())
        if name + _STATE in found
    ]
