"""The state file: what is kept, what survives, what is refused."""

import os
import resource
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk_client.errors import StateError
from sdk_client.state import Registration, StateFile

ROOT = Path(__file__).parents[3]
MINE = Registration(
    url="http://h",
    project="p",
    device_id="d",
    token="t",  # noqa: S106 - an address
    credential="c",
    about={"platform": "python"},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "device.json"


def saved(path: Path, *ids: str, limit: int = 100) -> StateFile:
    state = StateFile.read(path, limit)
    state.save(MINE)
    for message_id in ids:
        state.add(message_id)
    return state


def test_a_file_that_is_not_there_is_an_empty_state(path: Path) -> None:
    state = StateFile.read(path)
    assert state.registration is None
    assert not list(state.seen)
    assert not path.exists()


def test_everything_comes_back(path: Path) -> None:
    saved(path, "a", "b\n☃").close()
    state = StateFile.read(path)
    assert state.registration == MINE
    assert list(state.seen) == ["a", "b\n☃"]
    state.add("c")
    state.replace(token="new", void=True)  # noqa: S106 - an address
    state.add("d")
    state.close()
    again = StateFile.read(path)
    assert again.registration is not None
    assert (again.registration.token, again.registration.void) == ("new", True)
    assert list(again.seen) == ["a", "b\n☃", "c", "d"]


def test_an_id_costs_one_line(path: Path) -> None:
    state = saved(path)
    inode, size = path.stat().st_ino, path.stat().st_size
    state.add("0123456789abcdef")
    state.add("fedcba9876543210")
    state.close()
    assert path.stat().st_ino == inode
    assert path.stat().st_size == size + 2 * 19


def test_the_file_does_not_grow_without_a_bound(path: Path) -> None:
    state = saved(path, *map(str, range(1000)), limit=10)
    state.close()
    assert len(path.read_bytes().splitlines()) <= 11
    assert list(StateFile.read(path, 10).seen) == [str(number) for number in range(990, 1000)]


def test_only_its_owner_may_read_it(path: Path) -> None:
    path.write_bytes(b"")
    path.chmod(0o666)
    path.unlink()
    before = os.umask(0)
    try:
        saved(path, "a").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_in_the_place_of_the_new_file_is_not_followed(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text("mine")
    path.with_name(f".{path.name}.new").symlink_to(victim)
    saved(path).close()
    assert victim.read_text() == "mine"
    assert StateFile.read(path).registration == MINE


def test_nothing_changes_where_nothing_is_new(path: Path) -> None:
    state = saved(path)
    inode = path.stat().st_ino
    state.replace(token=MINE.token)
    state.close()
    assert path.stat().st_ino == inode


def test_without_a_path_it_lives_in_memory() -> None:
    state = StateFile.read(None, 2)
    state.save(MINE)
    for message_id in "abc":
        state.add(message_id)
    assert list(state.seen) == ["b", "c"]
    state.delete()
    assert state.registration is None
    with pytest.raises(StateError, match="no registration"):
        state.replace(void=True)


def test_delete_removes_the_file(path: Path) -> None:
    state = saved(path, "a")
    state.delete()
    state.delete()
    assert list(path.parent.iterdir()) == []


# Damage.


@given(cut=st.integers(0, 60))
def test_an_append_that_was_cut_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("state") / "device.json"
    saved(path).close()
    head = path.stat().st_size
    saved(path, "first", "second", "third").close()
    whole = path.read_bytes()
    path.write_bytes(whole[: max(head, len(whole) - cut)])
    state = StateFile.read(path)
    assert state.registration == MINE
    ids = list(state.seen)
    assert ids == ["first", "second", "third"][: len(ids)]
    state.add("fourth")
    state.close()
    assert list(StateFile.read(path).seen) == [*ids, "fourth"]


DAMAGED = {
    "empty": b"",
    "without a whole line": b'{"pushwire_state": 1',
    "of another kind": b'{"name": "package"}\n',
    "of the future": b'{"pushwire_state": 2, "registration": null, "seen": []}\n',
    "not JSON": b"\x00\x00\x00\n",
    "a list": b"[]\n",
    "with a bad registration": b'{"pushwire_state": 1, "registration": [], "seen": []}\n',
    "with half a registration": b'{"pushwire_state": 1, "registration": {"url": ""}, "seen": []}\n',
    "with bad ids": b'{"pushwire_state": 1, "registration": null, "seen": [1]}\n',
    "without ids": b'{"pushwire_state": 1, "registration": null}\n',
    "with a bad line": b'{"pushwire_state": 1, "registration": null, "seen": []}\n"a"\n{\n"b"\n',
    "with bad facts": (
        b'{"pushwire_state": 1, "registration": {"url": "", "project": "", "device_id": "", '
        b'"token": "", "credential": "", "device_url": "", "about": 1}, "seen": []}\n'
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_and_named(path: Path, damage: str) -> None:
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(StateError, match=r"device\.json.*register anew"):
        StateFile.read(path)
    assert path.read_bytes() == DAMAGED[damage]


def test_what_cannot_be_read_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StateError, match="cannot read"):
        StateFile.read(path)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    state = StateFile.read(tmp_path / "no" / "such" / "device.json")
    with pytest.raises(StateError, match="cannot write"):
        state.save(MINE)
    assert state.registration is None
    path = tmp_path / "device.json"
    path.mkdir()
    (path / "file").touch()
    stuck = StateFile(path, MINE, state.seen)
    with pytest.raises(StateError, match="cannot write"):
        stuck.add("a")
    assert "a" not in stuck.seen
    assert {each.name for each in tmp_path.iterdir()} == {"device.json"}
    with pytest.raises(StateError, match="cannot remove"):
        stuck.delete()


def test_half_a_line_on_a_full_disk_is_taken_back(path: Path) -> None:
    """A limit of the file's size plays the full disk: the kernel writes what still fits."""
    state = saved(path, "first")
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, before[1]))
        for _ in range(2):
            with pytest.raises(StateError, match="cannot write"):
                state.add("a long id that does not fit")
        assert path.stat().st_size == size
        with pytest.raises(StateError, match="cannot write"):
            state.save(replace(MINE, credential="x" * 9999))
        assert state.registration == MINE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    state.add("second")
    state.close()
    found = StateFile.read(path)
    assert found.registration == MINE
    assert list(found.seen) == ["first", "second"]


WRITER = """
import sys
from sdk_client.state import Registration, StateFile

state = StateFile.read(sys.argv[1], 8)
number = 0
while True:
    if number % 3 == 0:
        state.save(Registration("u", "p", "d", str(number), "c" * 500))
    state.add(str(number))
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("lines", [1, 2, 7, 30, 100])
def test_a_kill_leaves_a_whole_file(path: Path, lines: int) -> None:
    """Whenever the writer is killed, what it said was kept is there, and nothing is torn."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.kill()
        said += [int(line) for line in writer.stdout.read().split()]
    state = StateFile.read(path, 8)
    kept = [int(message_id) for message_id in state.seen]
    assert kept[-1] in {said[-1], said[-1] + 1}
    assert kept == list(range(max(0, kept[-1] - 7), kept[-1] + 1))
    assert state.registration is not None
    assert int(state.registration.token) in {(kept[-1] + 1) // 3 * 3, kept[-1] // 3 * 3}
