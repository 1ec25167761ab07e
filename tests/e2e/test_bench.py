"""`make bench` measures what it says; whether the figures are good is not for a test to say."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

CASES = ("idle", "single", "callbacks", "export")


async def bench(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.bench", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_quick_run_gives_every_figure_of_its_cases(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    code, out, err = await bench("--quick", "--json", str(record), *CASES)
    assert code == 0, err
    found = json.loads(record.read_text())
    names = [figure["name"] for figure in found["figures"]]
    assert names == [
        "shard memory per idle device",
        "CPU per connect",
        "CPU at rest, all devices connected",
        "CPU per message",
        "worker CPU per receipt told by a callback",
        "worker CPU per event, no export",
        "worker CPU per event, exported as NDJSON",
        "worker CPU per event, exported as Parquet",
    ]
    assert all(f"| {name} " in out for name in names)
    assert all(runs and min(runs) >= 0 for runs in (f["runs"] for f in found["figures"]))
    assert set(found["figures"][3]["parts"]) >= {"api", "shard", "store", "worker"}


async def test_unknown_case_is_refused_by_name() -> None:
    code, out, err = await bench("nonsense")
    assert (code, out) == (2, "")
    assert "no such case: nonsense" in err
