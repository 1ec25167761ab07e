"""What a `serve` stands on."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.embedded_store import StoreError
from gateway.settings import Settings
from gateway.supervisor.ground import admin_key, fresh_run_dir, warn_of_store
from router.store.survey import StoreInfo


def test_a_run_directory_or_admin_key_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="cannot be the data directory: Not a directory"):
        fresh_run_dir(tmp_path)
    (tmp_path / "admin.key").mkdir()
    with pytest.raises(StoreError, match=r"Is a directory \(.*admin\.key\)"):
        admin_key(Settings(data_dir=tmp_path), bytes)


def test_a_store_that_may_lose_messages_is_warned_of() -> None:
    kept = StoreInfo("valkey", "8.1.0", aof=True, appendfsync="no", maxmemory_policy="noeviction")
    lost = StoreInfo("valkey", "8.1.0", aof=False, appendfsync="", maxmemory_policy="noeviction")
    with capture_logs() as logs:
        warn_of_store([kept])
        assert not logs
        warn_of_store([kept, lost])
    assert [entry["event"] for entry in logs] == ["store.not_persistent"]
