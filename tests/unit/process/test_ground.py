"""What a `serve` stands on."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.embedded_store import StoreError
from gateway.settings import Settings
from gateway.supervisor.ground import admin_key, fresh_run_dir, warn_of_store
from router.store.connection import StoreInfo


def test_a_run_directory_or_admin_key_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="cannot be the data directory: Not a directory"):
        fresh_run_dir(tmp_path)
    (tmp_path / "admin.key").mkdir()
    with pytest.raises(StoreError, match=r"Is a directory \(.*admin\.key\)"):
        admin_key(Settings(data_dir=tmp_path), bytes)


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
