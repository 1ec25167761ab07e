"""What a `serve` stands on."""

import pytest
from structlog.testing import capture_logs

from gateway.supervisor.ground import warn_of_store
from router.store.connection import StoreInfo


@pytest.mark.parametrize(
    ("aof", "policy", "events"),
    [
        (True, "noeviction", []),
        (False, "noeviction", ["store.not_persistent"]),
        (True, "allkeys-lru", ["store.may_evict"]),
        (False, "volatile-ttl", ["store.not_persistent", "store.may_evict"]),
    ],
)
def test_a_store_that_may_lose_messages_is_warned_of(
    aof: bool, policy: str, events: list[str]
) -> None:
    info = StoreInfo("valkey", "8.1.0", aof, "everysec", policy)
    with capture_logs() as logs:
        warn_of_store(info)
    assert [entry["event"] for entry in logs] == events
