"""What the servers of a store say of themselves, and whether they are fit."""

import asyncio

import msgspec

from router.model.errors import ErrorCode, PushError
from router.store.address import Address, Place, Servers, describe
from router.store.finders import finder_of
from router.store.link import LinkError, Reply, open_link
from router.store.node import Durability, appendfsync, text
from router.store.slots import SLOTS
from router.store.topology import look, primaries_of, replicas_of

_OLDEST_VALKEY = (8, 0)
_OLDEST_REDIS = (7, 2)


class StoreInfo(msgspec.Struct, frozen=True):
    """What one server says of itself."""

    server: str
    """`valkey` or `redis`."""
    version: str
    aof: bool
    appendfsync: str
    """`always`, `everysec`, `no`, or empty where the server does not tell."""
    maxmemory_policy: str
    where: str = ""
    is_replica: bool = False
    replicas: int = 0
    """Replicas that follow it now."""
    in_cluster: bool = False


async def survey(place: Place, patience_s: float) -> list[StoreInfo]:
    """Ask all servers of a store what they are: the primaries, then the replicas that are known.

    Raises:
        LinkError: a primary does not let us in, or cannot be found.
        TimeoutError: it does not answer.
        PushError: the URL does not fit what stands there.
    """
    primaries, replicas = await _servers(place)
    found = [await look_at(one, patience_s) for one in primaries]
    if found[0].in_cluster and not isinstance(place, Servers):
        message = f"The store at {found[0].where} is a node of a cluster: use redis+cluster://"
        raise PushError(ErrorCode.UNAVAILABLE, message)
    for one in replicas:
        try:
            found.append(await look_at(one, patience_s))
        except (LinkError, TimeoutError):
            continue  # it may be on its way down, or up; nobody counts on it
    return found


async def _servers(place: Place) -> tuple[list[Address], list[Address]]:
    if isinstance(place, Servers):
        view = await look(place.seeds)
        if view.covered < SLOTS:
            message = f"it serves {view.covered} of {SLOTS} slots"
            raise LinkError(message)
        login = place.login
        primaries = [login.at(*where) for where in primaries_of(view.ranges)]
        return primaries, [login.at(*where) for where in replicas_of(view.ranges)]
    finder = finder_of(place)
    try:
        return [await finder.find()], await finder.replicas()
    finally:
        finder.close()


async def look_at(address: Address, patience_s: float) -> StoreInfo:
    """Ask a server, on a connection of its own: one that is too old has no other.

    Raises:
        LinkError: the server does not let us in.
        TimeoutError: it does not answer.
    """
    link = await open_link(address, patience_s)
    try:
        async with asyncio.timeout(patience_s):
            info = _read(await link.request("INFO"))
            policy = await appendfsync(link)
    finally:
        link.abort()
    return StoreInfo(
        server="valkey" if "valkey_version" in info else "redis",
        version=info.get("valkey_version", info.get("redis_version", "0")),
        aof=info.get("aof_enabled") == "1",
        appendfsync=policy,
        maxmemory_policy=info.get("maxmemory_policy", ""),
        where=describe(address),
        is_replica=info.get("role") == "slave",
        replicas=int(info.get("connected_slaves", "0")),
        in_cluster=info.get("cluster_enabled") == "1",
    )


def refuse_unfit(info: StoreInfo, durability: Durability) -> None:
    """Stop where a server would not keep what Pushwire answers for.

    Raises:
        PushError: it is too old, throws messages away when it is full, or has no append-only file
            where one is asked for.
    """
    refuse_old(info)
    if info.maxmemory_policy not in {"", "noeviction"}:
        message = (
            f"The store at {info.where} has the maxmemory-policy {info.maxmemory_policy}, which "
            "throws messages away: set `maxmemory-policy noeviction` there."
        )
        raise PushError(ErrorCode.UNAVAILABLE, message)
    if durability.fsync and not info.aof:
        message = (
            'durability = "fsync" needs the append-only file: set `appendonly yes` on the store at '
            f"{info.where}."
        )
        raise PushError(ErrorCode.UNAVAILABLE, message)


def refuse_old(info: StoreInfo) -> None:
    """Stop where a server does not have the commands that Pushwire uses.

    Raises:
        PushError: it is too old.
    """
    oldest = _OLDEST_VALKEY if info.server == "valkey" else _OLDEST_REDIS
    if _number(info.version) < oldest:
        message = (
            f"The store is {info.server} {info.version}; Pushwire needs Valkey 8.0 or Redis 7.2 or "
            "newer. Leave out the store URL to use the embedded one."
        )
        raise PushError(ErrorCode.UNAVAILABLE, message)


def _read(reply: Reply) -> dict[str, str]:
    lines = (line.partition(":") for line in text(reply).splitlines())
    return {name: value.strip() for name, _, value in lines}


def _number(version: str) -> tuple[int, int]:
    major, minor, *_ = [*version.split("."), "0", "0"]
    return int(major), int(minor)
