"""How a process runs its role: readiness, signals, deadlines, exit codes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.waiting import eventually

pytestmark = pytest.mark.xdist_group("processes")

_PROGRAM = """
import asyncio, os, sys
from gateway.process import Supervision, run_role
from gateway.settings import Settings
from router.model.errors import ErrorCode, PushError

async def heeds(settings, context):
    context.ready({"url": "here"})
    await context.stopping.wait()

async def lingers(settings, context):
    context.ready({})
    await context.stopping.wait()
    await asyncio.sleep(60)

async def swallows(settings, context):
    context.ready({})
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def blocks(settings, context):
    context.ready({})
    import time
    time.sleep(60)

async def fails(settings, context):
    raise ValueError("broken")

async def refuses(settings, context):
    raise PushError(ErrorCode.UNAVAILABLE, "not today")

supervision = None
if len(sys.argv) > 3:
    supervision = Supervision(int(sys.argv[3]), os.getppid(), "role-0")
try:
    code = run_role(
        "role", globals()[sys.argv[1]], Settings(),
        supervision=supervision, stop_timeout_s=float(sys.argv[2]),
    )
except PushError as error:
    print(error.message)
    code = 7
sys.exit(code)
"""


async def _start(
    role: str, stop_timeout_s: float = 30.0
) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start a role as a supervisor does, and give what it reported."""
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, role, str(stop_timeout_s), str(writer)),
        pass_fds=(writer,),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(writer)
    loop = asyncio.get_running_loop()
    with os.fdopen(reader, "rb") as pipe:
        return process, await loop.run_in_executor(None, pipe.readline)


async def _end(process: asyncio.subprocess.Process, *, within_s: float) -> int:
    async with asyncio.timeout(within_s):
        return await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_role_reports_and_stops_at_a_signal(number: int) -> None:
    process, report = await _start("heeds")
    assert report == b'{"url":"here"}\n'
    process.send_signal(number)
    assert await _end(process, within_s=10) == 0


async def test_role_that_lingers_is_aborted_at_the_deadline() -> None:
    process, _ = await _start("lingers", stop_timeout_s=0.2)
    process.terminate()
    assert await _end(process, within_s=10) == 1


async def test_second_signal_aborts() -> None:
    process, _ = await _start("lingers")
    process.terminate()
    await asyncio.sleep(0.3)  # two signals of a kind within one tick would be one
    process.terminate()
    assert await _end(process, within_s=10) == 1


async def test_role_that_swallows_its_cancellation_ends_all_the_same() -> None:
    process, _ = await _start("swallows", stop_timeout_s=0.1)
    process.terminate()
    assert await _end(process, within_s=15) == 1


@pytest.mark.parametrize(("role", "code"), [("fails", 1), ("refuses", 7)])
async def test_role_that_ends_before_it_is_ready_reports_nothing(role: str, code: int) -> None:
    process, report = await _start(role)
    assert report == b""
    assert await _end(process, within_s=10) == code


async def test_role_that_is_stuck_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    program = tmp_path / "supervisor.py"
    program.write_text(
        "import os, subprocess, sys\n"
        "reader, writer = os.pipe()\n"
        "words = [sys.executable, '-c', sys.argv[1], 'blocks', '30', str(writer)]\n"
        "child = subprocess.Popen(words, pass_fds=(writer,), stdout=subprocess.DEVNULL)\n"
        "os.read(reader, 10)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    supervisor = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), _PROGRAM),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert supervisor.stdout is not None
    child = int(await supervisor.stdout.readline())
    supervisor.kill()
    await supervisor.wait()
    await eventually(lambda: not Path(f"/proc/{child}").exists(), 15)
