"""A run on a terminal shows what matters, and lines say it where there is none."""

import io

import pytest
from rich.console import Console

from loadtest.run.histogram import Histogram
from loadtest.run.live import LiveScreen, sparkline
from loadtest.run.plain import PlainScreen
from loadtest.run.protocol import DeviceTick, SenderTick
from loadtest.run.samples import Uses
from loadtest.run.spec import parse
from loadtest.run.tally import Tally


def tally() -> Tally:
    latencies = Histogram()
    latencies.note(0, 12_300_000)
    made = Tally(1.0)
    made.senders(SenderTick(due=50, accepted=48, expected=60, errors={"503": 2}, backlog=2))
    made.devices(0, DeviceTick(connected=7, delivered=41, delivery=latencies.take()))
    cpu, memory = {"shard-0": 37.0, "store": 12.0}, {"shard-0": 61.0, "store": 9.0}
    made.close_point(1.0, Uses(cpu=cpu, memory=memory, descriptors={"shard-0": 4321}))
    return made


def test_a_terminal_shows_rates_latencies_processes_and_what_happened() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with LiveScreen("steady", parse("devices = 9"), console) as screen:
        screen.phase("sending")
        screen.show(tally())
        screen.say("shard-0 killed (SIGKILL)")
        shown = out.getvalue()
    last = shown[shown.rindex("pushwire loadtest") :]
    for says in (
        "steady",
        "sending",
        "7 of 9",
        "48",
        "12.3 ms",
        "2 x 503",
        "37 %",
        "61 MiB",
        "4321",
    ):
        assert says in last
    assert "1.0 s  shard-0 killed (SIGKILL)" in last


def test_a_terminal_shows_a_run_that_has_no_figures_yet() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    with LiveScreen("idle", parse("rate = 0"), console) as screen:
        screen.phase("registering")
        assert "registering" in out.getvalue()


def test_a_sparkline_is_as_high_as_its_highest_value() -> None:
    assert sparkline([0, 1, 2, 4]) == "▁▃▅█"
    assert sparkline([0, 0]) == ""
    assert sparkline([]) == ""


def test_lines_hold_the_figures_and_come_seldom(capsys: pytest.CaptureFixture[str]) -> None:
    screen = PlainScreen(every_s=3600)
    screen.phase("sending")
    screen.show(tally())
    screen.show(tally())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("s  sending")
    assert "connected 7, accepted 48/s, delivered 41/s, p50 12.3 ms" in lines[1]
    assert "errors 2, waiting 19, CPU shard-0 37% store 12%" in lines[1]
    assert len(lines) == 2
