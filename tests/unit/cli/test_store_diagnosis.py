"""What `pushwire doctor` says of the servers of a store."""

from pathlib import Path

import msgspec
import pytest

from gateway.cli.store_diagnosis import store_findings
from gateway.settings import Durability, Settings
from router.store.survey import StoreInfo

PRIMARY = StoreInfo(
    server="valkey",
    version="9.1.2",
    aof=True,
    appendfsync="everysec",
    maxmemory_policy="noeviction",
    where="one:6379",
    replicas=1,
)
REPLICA = msgspec.structs.replace(PRIMARY, where="two:6379", is_replica=True, replicas=0)
SENTINEL = "redis+sentinel://one/push"


def judged(
    *servers: StoreInfo, url: str = "redis://one", **changes: object
) -> dict[str, tuple[bool | None, str]]:
    settings = msgspec.structs.replace(
        Settings(data_dir=Path("/nowhere"), store_url=url), **changes
    )
    return {one.name: (one.good, one.found) for one in store_findings(servers, settings)}


def test_all_is_well_with_a_primary_and_its_replica() -> None:
    assert judged(PRIMARY, REPLICA, url=SENTINEL) == {
        "store": (True, "external: primary valkey 9.1.2, replica valkey 9.1.2"),
        "persistence": (True, "append-only file on, appendfsync everysec"),
        "eviction": (True, "maxmemory-policy noeviction"),
        "replicas": (True, "1 follow the primary"),
    }


def test_servers_of_one_kind_are_counted() -> None:
    found = judged(PRIMARY, PRIMARY, REPLICA, url="redis+cluster://one")
    assert found["store"] == (True, "external: 2 x primary valkey 9.1.2, replica valkey 9.1.2")


def test_the_embedded_server_stands_by_itself() -> None:
    found = judged(PRIMARY, url="")
    assert found["store"] == (True, "valkey 9.1.2, embedded")
    assert "replicas" not in found


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        ({"version": "7.2.0"}, "store", (False, "The store is valkey 7.2.0; Pushwire needs")),
        ({"aof": False}, "persistence", (None, "two:6379: append-only file off, appendfsync")),
        (
            {"maxmemory_policy": "allkeys-lru"},
            "eviction",
            (False, "maxmemory-policy two:6379: all"),
        ),
    ],
)
def test_a_replica_that_is_not_fit_is_named(
    change: dict[str, object], name: str, found: tuple[bool | None, str]
) -> None:
    good, text = judged(PRIMARY, msgspec.structs.replace(REPLICA, **change), url=SENTINEL)[name]
    assert good is found[0]
    assert text.startswith(found[1])


def test_fsync_wants_servers_that_sync_each_write() -> None:
    assert judged(PRIMARY, durability=Durability.FSYNC)["persistence"] == (
        None,
        "one:6379: append-only file on, appendfsync everysec",
    )


@pytest.mark.parametrize(
    ("url", "follow", "wanted", "good"),
    [
        (SENTINEL, 0, 0, None),
        ("redis+cluster://one", 0, 0, None),
        ("redis://one", 1, 2, False),
        ("redis://one", 2, 2, True),
    ],
)
def test_replicas_are_missed_where_something_is_to_take_over(
    url: str, follow: int, wanted: int, good: bool | None
) -> None:
    server = msgspec.structs.replace(PRIMARY, replicas=follow)
    found = judged(server, url=url, store_replicas=wanted)
    assert found["replicas"] == (good, f"{follow} follow the primary")
