"""A directory as a sink: whole files under their names, whatever happens."""

import os
from pathlib import Path

import pytest

from router.export.sink import Destination, File, SinkError
from router.export.sinks import file as sink_module
from router.export.sinks.file import DirectorySink
from tests.support.exported import files_in

NOW = 1_764_000_000_000
FILE = File("date=2025-11-24/a.ndjson", b"one\n", "application/x-ndjson", "")


async def put(directory: Path, file: File = FILE, now_ms: int = NOW) -> None:
    async with DirectorySink(directory, lambda: now_ms) as sink:
        await sink.put(file)


async def test_a_file_stands_under_its_name(tmp_path: Path) -> None:
    url = tmp_path.joinpath("a b").as_uri()
    async with sink_module.make(Destination(url), lambda: NOW) as sink:
        await sink.put(FILE)
    assert (tmp_path / "a b" / FILE.name).read_bytes() == FILE.data


async def test_a_file_that_is_given_again_replaces_itself(tmp_path: Path) -> None:
    await put(tmp_path)
    await put(tmp_path)
    assert [path.read_bytes() for path in files_in(tmp_path)] == [FILE.data]


async def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "a.ndjson").symlink_to("/dev/full")
    with pytest.raises(SinkError, match=f"cannot write to {tmp_path}: No space left on device"):
        await put(tmp_path)
    assert files_in(tmp_path) == []
    assert list((tmp_path / ".unfinished").iterdir()) == []
    await put(tmp_path)
    assert len(files_in(tmp_path)) == 1


async def test_a_path_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(SinkError, match=r"cannot write to .*/out: (Not a directory|File exists)"):
        await put(tmp_path / "out")


async def test_what_killed_workers_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    unfinished = tmp_path / ".unfinished"
    unfinished.mkdir()
    for name, age_s in {"old": 7_200, "young": 60}.items():
        (unfinished / name).write_text("half")
        written_s = NOW / 1000 - age_s
        os.utime(unfinished / name, (written_s, written_s))
    await put(tmp_path)
    assert [path.name for path in unfinished.iterdir()] == ["young"]
