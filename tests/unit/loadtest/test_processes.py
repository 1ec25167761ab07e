"""What /proc says about this very process and a child of it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtest.gateway import role_of
from loadtest.processes import (
    CpuMeter,
    command,
    cpu_s,
    descendants,
    descriptors,
    memory_bytes,
    parent_of,
)

_CHILD = "import sys; sys.stdout.write('up\\n'); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process
        process.kill()


def test_cpu_time_grows_with_work() -> None:
    meter = CpuMeter({"test": [os.getpid()], "gone": [2**22 + 1]})
    while meter.spent_s()["test"] < 0.05:
        sum(range(100_000))
    assert meter.spent_s()["gone"] == 0.0


def test_memory_of_a_python_is_some_megabytes(child: subprocess.Popen[bytes]) -> None:
    assert 1e6 < memory_bytes(child.pid) < 1e9


def test_descriptors_are_those_that_are_open_now(child: subprocess.Popen[bytes]) -> None:
    before = descriptors(os.getpid())
    with open(os.devnull, "rb"):  # noqa: PTH123 - nothing but a descriptor
        assert descriptors(os.getpid()) == before + 1
    assert descriptors(os.getpid()) == before
    assert descriptors(child.pid) == 3
    with pytest.raises(OSError, match="No such file"):
        descriptors(2**22 + 1)


def test_a_child_is_found(child: subprocess.Popen[bytes]) -> None:
    assert child.pid in descendants(os.getpid())
    assert parent_of(child.pid) == os.getpid()
    assert command(child.pid)[0] == sys.executable


def test_a_process_that_is_gone() -> None:
    gone = 2**22 + 1  # above the kernel's largest pid
    assert command(gone) == []
    assert cpu_s(gone) == 0.0
    with pytest.raises(OSError, match="No such"):
        parent_of(gone)


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (["/venv/bin/valkey-server", "unix:/d/store.sock"], "store"),
        (["redis-server", "*:0"], "store"),
        (["/venv/bin/python", "/venv/bin/pushwire", "shard"], "shard"),
        (["python", "-m", "gateway", "api"], "api"),
        (["python", "-m", "gateway", "worker", "--name", "w"], "worker"),
        (["sleep", "1"], "other"),
        ([], "other"),
    ],
)
def test_the_role_is_told_by_the_command_line(words: list[str], role: str) -> None:
    assert role_of(words) == role
