"""Wires the bridges of a worker."""

import asyncio
from collections.abc import Callable, Collection

from gateway.process import RoleContext
from gateway.sealing_keys import read_keys
from gateway.settings import Settings
from router.bridges import discover
from router.bridging.attempts import Attempts
from router.bridging.authorizations import Authorizations
from router.bridging.consequences import Parts
from router.bridging.directory import Directory
from router.bridging.dispatch import Bounds, Dispatch
from router.bridging.gate import Gate
from router.bridging.health import Health
from router.bridging.pools import Pools
from router.bridging.rates import Rates
from router.bridging.upkeep import Upkeep
from router.model.ids import Partition
from router.policy.sealing import Keyring
from router.store.bridge_credentials import BridgeCredentials
from router.store.bridge_jobs import BridgeJobs
from router.store.connection import Store
from router.store.dead_letters import Bounds as LetterBounds
from router.store.dead_letters import DeadLetters

_SLACK_S = 10.0
"""What an attempt may take beyond its connection, the wait for a stream, and its answer."""


class Bridges:
    """The engine: `dispatch` gets its jobs from timers, and `run` pushes them."""

    def __init__(
        self, dispatch: Dispatch, directory: Directory, pools: Pools, upkeep: Upkeep
    ) -> None:
        self.dispatch = dispatch
        self._directory = directory
        self._pools = pools
        self._upkeep = upkeep

    async def trim(self) -> None:
        """Forget dead letters that are too old."""
        await self._upkeep.trim()

    async def run(self, stopping: asyncio.Event) -> None:
        """Push until told to stop."""
        async with self._pools, asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._directory.run()),
                tasks.create_task(self._pools.run()),
                tasks.create_task(self._upkeep.run()),
            ]
            await self.dispatch.run(stopping)
            for task in beside:
                task.cancel()


def bridges_of(
    settings: Settings,
    context: RoleContext,
    store: Store,
    worker: str,
    owned: Callable[[], Collection[Partition]],
) -> Bridges:
    """Make the bridges of a worker that owns the partitions that `owned` gives."""
    metrics, now_ms, entropy = context.metrics, context.clock.now_ms, context.entropy
    bridges = discover()
    kept, jobs, rates = BridgeCredentials(store), BridgeJobs(store), Rates()
    directory = Directory(kept, bridges, Keyring(read_keys(settings.secret_key)))
    pools = Pools(
        settings.bridge_timeout_s,
        settings.bridge_connect_s,
        allow_private=settings.callback_allow_private,
        metrics=metrics,
    )
    health = Health(directory, kept, metrics, now_ms)
    parts = Parts(
        pools=pools,
        directory=directory,
        authorizations=Authorizations(pools, metrics, now_ms),
        health=health,
        rates=rates,
        jobs=jobs,
        letters=DeadLetters(
            store, LetterBounds(settings.dead_letters, settings.dead_letter_retention_s * 1000)
        ),
        metrics=metrics,
        now_ms=now_ms,
        uniform=entropy.uniform,
        entropy=entropy.bytes,
    )
    hold_s = 2 * settings.bridge_timeout_s + settings.bridge_connect_s + _SLACK_S
    dispatch = Dispatch(
        worker,
        owned,
        jobs,
        Attempts(parts, bridges),
        Gate(directory, bridges, health, rates, owned, now_ms),
        Bounds(
            settings.bridge_concurrency,
            settings.bridge_project_concurrency,
            int(hold_s * 1000),
        ),
        metrics,
        now_ms,
    )
    upkeep = Upkeep(parts.letters, directory, owned, metrics, now_ms)
    return Bridges(dispatch, directory, pools, upkeep)
