"""Whether this process lives, and whether messages would get through."""

import msgspec

from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.ops import PROBE_FRESH_MS, Lease
from router.model.errors import ErrorCode, PushError


class Health(msgspec.Struct, frozen=True):
    """`ok`, or what is missing."""

    status: str


class Readiness(msgspec.Struct, frozen=True):
    """What a send needs: the store, and shards through which a probe came lately."""

    status: str
    store: str
    shards: int
    connections: int


_lease_decoder = msgspec.json.Decoder(Lease)


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    return [
        Route(
            "GET",
            "/healthz",
            handlers.health,
            "Tell that this process serves.",
            Access.OPEN,
            None,
            Health,
        ),
        Route(
            "GET",
            "/readyz",
            handlers.ready,
            "Tell whether messages get through: store, and probes that went the whole way.",
            Access.OPEN,
            None,
            Readiness,
            errors=(ErrorCode.UNAVAILABLE,),
        ),
    ]


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._store = services.store
        self._leases = services.leases

    async def health(self, _call: Call) -> Reply:
        return reply(Health("ok"))

    async def ready(self, call: Call) -> Reply:
        await self._store.ping()
        healthy = connections = 0
        for value in (await self._leases.shards()).values():
            try:
                lease = _lease_decoder.decode(value)
            except (msgspec.MsgspecError, UnicodeError):
                continue
            if call.now_ms - lease.probe_ms <= PROBE_FRESH_MS:
                healthy += 1
                connections += lease.connections
        if not healthy:
            raise PushError(
                ErrorCode.UNAVAILABLE,
                "No connection server has proven lately that messages get through.",
                retry_after_s=1.0,
            )
        return reply(Readiness("ok", "ok", healthy, connections))
