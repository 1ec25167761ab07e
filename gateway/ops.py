"""The ops port: metrics, health, readiness."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from router.model.errors import PushError
from router.model.ids import ShardId

PROBE_FRESH_MS: Final = 15_000
"""How old the last probe that came through may be; shards probe every 2 seconds."""
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_SHUTDOWN_S: Final = 1.0

Problems = Mapping[str, str]
"""What is wrong, by part; empty when all is well."""


class Lease(msgspec.Struct):
    """What a shard says of itself in its lease."""

    probe_ms: int = 0
    """When its last probe came through, in epoch milliseconds."""
    connections: int = 0


class Exposition:
    """All metrics as Prometheus reads them.

    Args:
        own: registry of this process.
        shared: the directory in which the other processes keep theirs; None for `own` alone.
    """

    def __init__(self, own: CollectorRegistry, shared: Path | None = None) -> None:
        self._registries = [own]
        if shared is not None:
            together = CollectorRegistry()
            MultiProcessCollector(together, path=str(shared))  # type: ignore[no-untyped-call]
            self._registries.append(together)

    def render(self) -> bytes:
        """Write the values of now."""
        return b"".join(generate_latest(registry) for registry in self._registries)


def forget_process(shared: Path, pid: int) -> None:
    """Drop the gauges of a process that ended; its counters stay."""
    mark_process_dead(pid, str(shared))  # type: ignore[no-untyped-call]


async def store_problems(
    ping: Callable[[], Awaitable[None]],
    shards: Callable[[], Awaitable[Mapping[ShardId, bytes]]],
    now_ms: int,
) -> dict[str, str]:
    """Check the store, and that the probe of a living shard came through lately.

    A probe goes the whole way of a message, from the store through a session to an ack.
    """
    try:
        await ping()
        leases = await shards()
    except PushError as error:
        return {"store": error.message}
    if not leases:
        return {"shards": "no shard holds a lease"}
    stale = [shard for shard, value in leases.items() if not _is_fresh(value, now_ms)]
    return {f"shard {shard}": "its probe does not come through" for shard in stale}


def _is_fresh(value: bytes, now_ms: int) -> bool:
    try:
        lease = msgspec.json.decode(value, type=Lease)
    except msgspec.MsgspecError:
        return False
    return now_ms - lease.probe_ms <= PROBE_FRESH_MS


@contextlib.asynccontextmanager
async def serve_ops(
    host: str,
    port: int,
    exposition: Exposition,
    problems: Callable[[], Awaitable[Problems]],
) -> AsyncIterator[int]:
    """Serve `/metrics`, `/healthz` and `/readyz`, and give the port.

    Args:
        host: address to listen on.
        port: 0 for a free one.
        exposition: what `/metrics` answers.
        problems: what `/readyz` asks; any problem makes it 503.

    Raises:
        OSError: the port is taken.
    """

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=exposition.render(), headers={"Content-Type": _EXPOSITION})

    async def healthz(_request: web.Request) -> web.Response:
        return _json(200, {"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        found = await problems()
        if found:
            return _json(503, {"status": "unready", "problems": dict(found)})
        return _json(200, {"status": "ready"})

    app = web.Application()
    routes: Sequence[web.AbstractRouteDef] = (
        web.get("/metrics", metrics),
        web.get("/healthz", healthz),
        web.get("/readyz", readyz),
    )
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address: tuple[str, int] = runner.addresses[0]
        yield address[1]
    finally:
        await runner.cleanup()


def _json(status: int, body: dict[str, object]) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(body), content_type="application/json"
    )
