"""What `pushwire doctor` thinks of the servers of the store."""

from collections import Counter
from collections.abc import Sequence

from gateway.cli.finding import Finding
from gateway.settings import Durability, Settings
from router.model.errors import PushError
from router.store.survey import StoreInfo, refuse_old


def store_findings(servers: Sequence[StoreInfo], settings: Settings) -> list[Finding]:
    """Judge the servers; the replicas too, as each may be the primary tomorrow."""
    return [
        _servers(servers, settings),
        _persistence(servers, settings),
        _eviction(servers),
        *_replicas(servers, settings),
    ]


def _servers(servers: Sequence[StoreInfo], settings: Settings) -> Finding:
    for info in servers:
        try:
            refuse_old(info)
        except PushError as error:
            return Finding("store", good=False, found=str(error))
    if not settings.store_url:
        (info,) = servers
        return Finding("store", good=True, found=f"{info.server} {info.version}, embedded")
    kinds = Counter(
        f"{'replica' if info.is_replica else 'primary'} {info.server} {info.version}"
        for info in servers
    )
    counted = [f"{count} x {kind}" if count > 1 else kind for kind, count in kinds.items()]
    return Finding("store", good=True, found=f"external: {', '.join(counted)}")


def _persistence(servers: Sequence[StoreInfo], settings: Settings) -> Finding:
    advice = (
        "CONFIG SET appendonly yes (and appendfsync always for durability = fsync): without it a "
        "crash of the store loses messages that were accepted"
    )
    fsync = settings.durability is Durability.FSYNC
    found = [
        f"append-only file {'on' if info.aof else 'off'}, appendfsync "
        f"{info.appendfsync or 'unknown'}"
        for info in servers
    ]
    poor = [
        f"{info.where}: {told}"
        for info, told in zip(servers, found, strict=True)
        if not info.aof or (fsync and info.appendfsync != "always")
    ]
    good = None if poor else True
    return Finding("persistence", good, "; ".join(poor or dict.fromkeys(found)), advice)


def _eviction(servers: Sequence[StoreInfo]) -> Finding:
    poor = [
        f"{info.where}: {info.maxmemory_policy}"
        for info in servers
        if info.maxmemory_policy != "noeviction"
    ]
    found = f"maxmemory-policy {', '.join(poor) or 'noeviction'}"
    advice = "CONFIG SET maxmemory-policy noeviction: any other one throws messages away"
    return Finding("eviction", good=not poor, found=found, advice=advice)


def _replicas(servers: Sequence[StoreInfo], settings: Settings) -> list[Finding]:
    """Look at what could take over; a server by itself is nobody's mistake."""
    primaries = [info for info in servers if not info.is_replica]
    least = min(info.replicas for info in primaries)
    wanted = settings.store_replicas
    if "+" not in settings.store_url.partition("://")[0] and not wanted:
        return []
    good: bool | None = True if least > 0 else None
    if least < wanted:
        good = False
    advice = (
        f"store_replicas = {wanted} refuses every send where fewer follow"
        if wanted
        else "nothing takes over when the primary dies: add a replica"
    )
    return [Finding("replicas", good, f"{least} follow the primary", advice)]
