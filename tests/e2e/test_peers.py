"""Each server that is measured beside Pushwire really gets the work, and does it.

The figures are not for a test to say. Servers that this machine lacks are left out, and say so.
"""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from loadtest.beside.__main__ import main
from loadtest.beside.bench import QUICK, Result, measure
from loadtest.beside.side import beside
from loadtest.peers import discover
from loadtest.processes import command

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

PEERS = discover()
NAMES = sorted(PEERS)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found = str(request.param)
    if missing := PEERS[found].missing():
        pytest.skip(f"{found} is {missing}")
    return found


async def test_all_work_arrives_once_at_every_device(name: str, tmp_path: Path) -> None:
    """A device that lacks a message is an error of the measurement itself (`Side`)."""
    async with beside(PEERS[name], tmp_path, "127.0.0.7", settle_s=0.0) as side:
        await side.connect(5)
        memory = await side.connect(5)
        assert set(memory) == set(side.server.pids())
        assert min((await side.fan_out(2, 3, 200)).values()) >= 0
        assert min((await side.lives(200, 1, 300)).values()) >= 0
        if PEERS[name].batches:
            assert min((await side.lives(200, 100, 300)).values()) >= 0
        latencies_us = await side.latencies_us(50, 500.0, 300)
        assert len(latencies_us) == 50
        assert min(latencies_us) > 0
        pids = [pid for group in side.server.pids().values() for pid in group]
    assert not [words for pid in pids if (words := command(pid))]


async def test_a_server_that_is_missing_is_left_out_with_its_reason() -> None:
    class Missing:
        name = "missing"
        guarantees = PEERS["pushwire"].guarantees
        batches = True
        serve = PEERS["pushwire"].serve
        device = staticmethod(PEERS["pushwire"].device)

        def missing(self) -> str:
            return "not installed"

    said: list[str] = []
    results = await measure({"missing": Missing()}, QUICK, said.append)
    guarantees = PEERS["pushwire"].guarantees
    assert results == [Result("missing", guarantees, missing="not installed")]
    assert said == ["missing: left out: not installed"]


async def bench(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.beside", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_quick_run_puts_every_figure_in_the_table_and_the_record(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    code, out, err = await bench("--quick", "--json", str(record), "pushwire", "mosquitto")
    assert code == 0, err
    ours = json.loads(record.read_text())["results"][-1]
    assert ours["name"] == "pushwire"
    assert [figure["name"] for figure in ours["figures"]] == [
        "memory per connected device",
        "CPU per delivery to a topic",
        "CPU per message to one device, one a call",
        "CPU per message to one device, 100 a call",
        "latency send → device, p50",
        "latency send → device, p99",
    ]
    assert all(f" {figure['name']} " in out for figure in ours["figures"])
    assert set(ours["figures"][1]["parts"]) >= {"api", "shard", "store", "worker"}
    assert "the sender learns" in out
    assert ("left out" in out) == bool(PEERS["mosquitto"].missing())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nonsense"], "no such peer: nonsense; there are mosquitto, nats, nchan, pushwire"),
        (["--devices", "100"], "--devices: takes 101 to 15000"),
        (["--devices", "15001"], "--devices: takes 101 to 15000"),
    ],
)
def test_bad_usage_is_refused(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert reason in capsys.readouterr().err
