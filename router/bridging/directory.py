"""What a process knows of projects' bridges: a copy, at most about a second old."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from router.bridge import AnyBridge, Credentials
from router.model.bridge_state import Suspension
from router.model.errors import PushError
from router.model.ids import ProjectId
from router.policy.retry import Backoff
from router.policy.sealing import Keyring, SealError
from router.store.bridge_credentials import BridgeCredentials, SealedBridge

_REFRESH_S: Final = 1.0
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)
_NONE: Final[frozenset[str]] = frozenset()

_log = structlog.stdlib.get_logger(__name__)


def context_of(project: ProjectId, name: str) -> str:
    """Give what the credentials of a bridge are sealed for."""
    return f"{project}|{name}"


def unsealed(bridge: SealedBridge, kind: AnyBridge, keys: Keyring) -> Credentials:
    """Open the credentials of a bridge.

    Raises:
        SealError: the key is not here, or somebody changed them.
        PushError: this version does not take what an older one took.
    """
    plain = keys.open(bridge.sealed, context_of(bridge.project, bridge.name))
    return kind.credentials(msgspec.json.decode(plain))


class Directory:
    """Remembers all bridges, and reads them anew when any has changed.

    Credentials stay sealed until they are asked for.

    Args:
        kept: where they are kept.
        bridges: the kinds that there are.
        keys: what opens credentials.
    """

    def __init__(
        self, kept: BridgeCredentials, bridges: Mapping[str, AnyBridge], keys: Keyring
    ) -> None:
        self._kept = kept
        self._bridges = bridges
        self._keys = keys
        self._reading = asyncio.Lock()
        self._version: bytes | None = None
        self._found: Mapping[tuple[ProjectId, str], SealedBridge] = {}
        self._names: Mapping[ProjectId, frozenset[str]] = {}
        self._opened: dict[tuple[ProjectId, str], tuple[bytes, Credentials | None]] = {}

    @property
    def is_loaded(self) -> bool:
        """Whether anything is known yet."""
        return self._version is not None

    @property
    def every(self) -> Collection[tuple[ProjectId, str]]:
        """Name every bridge of every project."""
        return self._found.keys()

    def names(self, project: ProjectId) -> frozenset[str]:
        """Name the bridges of a project."""
        return self._names.get(project, _NONE)

    def credentials(self, project: ProjectId, name: str) -> tuple[int, Credentials] | None:
        """Give a bridge's credentials and their generation; None where there are none to use."""
        found = self._found.get((project, name))
        if found is None:
            return None
        before = self._opened.get((project, name))
        if before is None or before[0] != found.sealed:
            before = found.sealed, self._open(found)
            self._opened[project, name] = before
        return None if before[1] is None else (found.state.generation, before[1])

    def changed_ms(self, project: ProjectId, name: str) -> int:
        """Tell when the credentials of a bridge were given; 0 where there are none."""
        found = self._found.get((project, name))
        return 0 if found is None else found.state.changed_ms

    def suspended(self, project: ProjectId, name: str, audience: str) -> Suspension | None:
        """Tell why nothing goes to an audience, or None."""
        found = self._found.get((project, name))
        return None if found is None else found.state.suspended.get(audience)

    async def has(self, project: ProjectId, name: str) -> bool:
        """Tell whether a project has a bridge, and look anew before it is denied.

        Raises:
            StoreUnavailableError: the store is away.
        """
        if name not in self.names(project):
            await self.refresh()
        return name in self.names(project)

    async def refresh(self) -> None:
        """Look whether anything has changed.

        Raises:
            StoreUnavailableError: the store is away; what was known stays.
        """
        version = await self._kept.version()
        if version == self._version:
            return
        async with self._reading:  # many may ask at once; one of them reads
            if version != self._version:
                self._note(version, await self._kept.all())

    def _note(self, version: bytes, found: Sequence[SealedBridge]) -> None:
        known = [bridge for bridge in found if bridge.name in self._bridges]
        names: dict[ProjectId, set[str]] = {}
        for bridge in known:
            names.setdefault(bridge.project, set()).add(bridge.name)
        self._names = {project: frozenset(these) for project, these in names.items()}
        self._found = {(bridge.project, bridge.name): bridge for bridge in known}
        self._opened = {at: kept for at, kept in self._opened.items() if at in self._found}
        self._version = version

    def _open(self, bridge: SealedBridge) -> Credentials | None:
        try:
            return unsealed(bridge, self._bridges[bridge.name], self._keys)
        except (SealError, PushError) as error:
            _log.error(
                "bridge.credentials_closed",
                project=bridge.project,
                bridge=bridge.name,
                reason=str(error),
            )
            return None

    async def run(self) -> None:
        """Refresh once a second, until cancelled."""
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
            except PushError as error:
                failures += 1
                if failures == 1:
                    _log.warning("bridges.stale", reason=error.message)
            await asyncio.sleep(_RETRY.ceiling_s(failures) if failures else _REFRESH_S)
