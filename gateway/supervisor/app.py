"""The whole of one `serve`: store, roles, ops port, in order."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from gateway.embedded_store import EmbeddedStore, StoreError, own_directory
from gateway.ops import Exposition, Problems, serve_ops, store_problems
from gateway.process import RoleContext, opening, tie_to_parent
from gateway.settings import Durability, Settings, shown_host
from gateway.supervisor.child import Life, RoleProcess, Watch
from gateway.supervisor.ground import (
    Endpoints,
    admin_key,
    forget_endpoints,
    fresh_run_dir,
    reserve,
    secret_key,
    warn_of_store,
    write_endpoints,
)
from router.store.connection import Store, StoreOptions
from router.store.leases import Leases
from router.telemetry.metrics import SupervisorMetrics

_log: structlog.stdlib.BoundLogger = structlog.get_logger("supervisor")

_STARTING: Final = 8
"""Processes that start at once."""
STOP_DEADLINES: Final = 4
"""Roles stop in two steps, then the store: so many single deadlines are enough for all."""


class Supervisor:
    """Everything that one `serve` runs.

    Args:
        settings: with fixed ports, the store's URL and the admin key.
        context: of this process.
        run_dir: where `serve.json` and the metrics stand.
        store: the embedded store, or None for an external one.
    """

    def __init__(
        self, settings: Settings, context: RoleContext, run_dir: Path, store: EmbeddedStore | None
    ) -> None:
        self._settings = settings
        self._context = context
        self._run_dir = run_dir
        self._store = store
        self._ops_port = 0
        self.metrics_dir = run_dir / "metrics"
        self._registry = CollectorRegistry()
        metrics = SupervisorMetrics(self._registry)
        watch = Watch(context.clock, metrics, self._write, asyncio.Semaphore(_STARTING))
        self._restarts = metrics.restarts
        counts = (("api", settings.apis), ("shard", settings.shards), ("worker", settings.workers))
        self._roles = [
            RoleProcess(role, index, needed(role, settings), self.metrics_dir, watch)
            for role, count in counts
            for index in range(count)
        ]

    async def serve(self, client: Store) -> None:
        """Run everything until told to stop, then stop it in order.

        Raises:
            GivenUpError: a process died too often.
            PushError: the ops port is taken.
        """
        leases = Leases(client)

        async def problems() -> Problems:
            down = {role.name: "is down" for role in self._roles if not role.ready.is_set()}
            now_ms = self._context.clock.now_ms()
            return {**down, **await store_problems(client.ping, leases.shards, now_ms)}

        settings = self._settings
        exposition = Exposition(self._registry, self.metrics_dir)
        async with AsyncExitStack() as stack:
            ops = serve_ops(settings.host, settings.ops_port, exposition, problems)
            with opening("ops_port", settings.host, settings.ops_port):
                self._ops_port = await stack.enter_async_context(ops)
            try:
                async with asyncio.TaskGroup() as group:
                    keepers = [group.create_task(role.keep()) for role in self._roles]
                    if self._store is not None:
                        keepers.append(group.create_task(self._keep_store(self._store)))
                    announcer = group.create_task(self._announce())
                    await self._context.stopping.wait()
                    announcer.cancel()
                    await self._stop()
                    for keeper in keepers:
                        keeper.cancel()
            except asyncio.CancelledError:
                for role in self._roles:
                    role.kill()
                raise
            finally:
                await self._stop()
                forget_endpoints(self._run_dir)

    async def _announce(self) -> None:
        for role in self._roles:
            await role.ready.wait()
        self._write()
        here = self._endpoints()
        _tell(f"ready api={here.api} devices={here.devices} ops={here.ops}\n")
        self._context.ready({"api": here.api, "devices": here.devices, "ops": here.ops})

    async def _stop(self) -> None:
        for names in (("api", "shard"), ("worker",)):
            async with asyncio.TaskGroup() as group:
                for role in self._roles:
                    if role.role in names:
                        group.create_task(role.stop())

    async def _keep_store(self, store: EmbeddedStore) -> None:
        life = Life("store", self._context.clock)
        while True:
            since = self._context.clock.monotonic()
            code = await store.wait()
            _log.warning("process.ended", child="store", code=code)
            served_s: float | None = self._context.clock.monotonic() - since
            while True:
                await asyncio.sleep(life.died(served_s))
                self._restarts.labels("store").inc()
                try:
                    await store.start()
                    break
                except StoreError as error:
                    _log.error("store.not_started", reason=str(error))
                    served_s = None
            self._write()

    def _endpoints(self) -> Endpoints:
        settings = self._settings
        host = shown_host(settings.host)
        processes = {role.name: role.pid for role in self._roles}
        if self._store is not None:
            processes["store"] = self._store.pid
        return Endpoints(
            pid=os.getpid(),
            api=f"http://{host}:{settings.api_port}",
            devices=f"{'wss' if settings.tls_cert else 'ws'}://{host}:{settings.device_port}",
            ops=f"http://{host}:{self._ops_port}",
            store_url=settings.store_url,
            processes=processes,
        )

    def _write(self) -> None:
        write_endpoints(self._run_dir, self._endpoints())


def needed(role: str, settings: Settings) -> Settings:
    """Give the settings of a role: what faces devices does not get what opens credentials."""
    return msgspec.structs.replace(settings, secret_key="") if role == "shard" else settings


def _tell(line: str) -> None:
    """Write to stdout, or, where nobody reads it, to nothing: that is no reason to stop."""
    try:
        sys.stdout.write(line)
        sys.stdout.flush()
    except OSError as error:
        _log.warning("serve.ready_not_told", reason=error.strerror)
        with Path(os.devnull).open("w") as nothing:  # the line is still in stdout's buffer
            os.dup2(nothing.fileno(), sys.stdout.fileno())


async def run(settings: Settings, context: RoleContext) -> None:
    """Be `pushwire serve`.

    Raises:
        StoreError: the data directory is in use, or the store cannot start.
        GivenUpError: a process died too often.
        PushError: a port is taken, or the external store is of no use.
    """
    data_dir = settings.data_dir.resolve()
    async with AsyncExitStack() as stack:
        stack.callback((await own_directory(data_dir, "serve")).release)
        run_dir = fresh_run_dir(data_dir)
        # Before the store answers: who finds it running finds the key too.
        sealing = secret_key(settings, context.entropy.bytes)
        ports = [
            stack.enter_context(reserve(name, settings.host, port))
            for name, port in (
                ("api_port", settings.api_port),
                ("device_port", settings.device_port),
            )
        ]
        store = None
        fsync = settings.durability is Durability.FSYNC
        if not settings.store_url:
            store = EmbeddedStore(data_dir, fsync=fsync, tie=tie_to_parent(os.getpid()))
            await store.start()
            stack.push_async_callback(store.stop)
        settings = msgspec.structs.replace(
            settings,
            data_dir=data_dir,
            store_url=settings.store_url if store is None else store.url,
            admin_key=admin_key(settings, context.entropy.bytes),
            secret_key=sealing,
            api_port=ports[0],
            device_port=ports[1],
        )
        client = await stack.enter_async_context(
            Store(
                StoreOptions(settings.store_url, fsync, settings.store_replicas),
                context.metrics,
                context.clock.now_ms,
                context.entropy.bytes,
            )
        )
        servers = await client.check()
        if store is None:
            warn_of_store(servers)
        await Supervisor(settings, context, run_dir, store).serve(client)
