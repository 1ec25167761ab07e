"""A report is one page that needs nothing else, and a comparison tells what changed."""

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from typing_extensions import override

from loadtest.report.chart import Chart, Line, clock, draw, linear_ticks, log_ticks, number, percent
from loadtest.report.compare import compare, rows
from loadtest.report.page import CPU, RECONNECTS, charts, of_processes, page
from loadtest.report.svg import svg
from loadtest.run.account import Fault, Verdict
from loadtest.run.result import read, write
from loadtest.run.spec import parse
from tests.unit.loadtest.results import result

_VOID = {"meta", "line", "br"}


class Outline(HTMLParser):
    """Checks that every tag is closed, and notes what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in _VOID:
            self.open.append(tag)

    @override
    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    return found


def test_a_page_is_well_formed_and_loads_nothing() -> None:
    text = page(result())
    found = outline(text)
    assert not found.open
    assert not found.loads
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    assert found.tags.count("svg") == 10
    assert "prefers-color-scheme: dark" in text


def test_a_page_escapes_what_it_shows() -> None:
    text = page(result(scenario="<script>alert(1)</script>"))
    assert "<script>alert" not in text
    assert "2 x &lt;CPU&gt;" in text
    assert "A &amp; B." in text


def test_faults_are_marked_in_the_charts_over_time_and_listed() -> None:
    text = page(result())
    assert text.count('class="mark"') == 9
    assert "<h2>Faults</h2><ol><li>2.0 s: shard-0 killed</li></ol>" in text
    assert "it serves again" in text


def test_a_broken_promise_stands_out() -> None:
    lost = Verdict(
        accepted=2, expected=2, delivered=1, repeats=0, acked=True, lost=(Fault(0, "token 0", 1),)
    )
    text = page(result(kept=False, verdict=lost, report=lost.report()))
    assert "a promise was broken" in text
    assert "What was broken" in text
    assert "device 0, token 0 #1" in text


def test_a_run_without_figures_has_a_page_all_the_same() -> None:
    assert not outline(page(result(points=[], latencies={}, marks=[], figures={}))).open


def test_a_chart_has_a_value_for_every_x_and_a_gap_where_there_is_none() -> None:
    lines = [Line("a", [1.0, None, 3.0]), Line("b", [0.0, 2.0, 2.0])]
    figure = draw(Chart(title="T", unit="ms", xs=[0.0, 1.0, 2.0], lines=lines))
    first, second = re.findall(r'class="line"[^>]* d="([^"]*)"', figure)
    assert (first.count("M"), first.count("L")) == (2, 0)
    assert (second.count("M"), second.count("L")) == (1, 2)
    found = re.search(r'data-chart="([^"]*)"', figure)
    assert found is not None
    data = json.loads(html.unescape(found[1]))
    assert [line["values"] for line in data["lines"]] == [[1.0, None, 3.0], [0.0, 2.0, 2.0]]
    assert len(data["xs"]) == len(data["labels"]) == 3


def test_a_logarithmic_chart_leaves_out_what_is_nothing() -> None:
    lines = [Line("a", [0.0, 10.0, 20.0])]
    figure = draw(Chart(title="T", unit="ms", xs=[0.0, 1.0, 2.0], lines=lines, log=True))
    (path,) = re.findall(r'class="line"[^>]* d="([^"]*)"', figure)
    assert (path.count("M"), path.count("L")) == (1, 1)


@pytest.mark.parametrize("highest", [0.0, 0.3, 1, 4, 7.5, 10, 99, 101, 12_345, 3e6])
def test_ticks_are_few_and_reach_the_highest(highest: float) -> None:
    ticks = linear_ticks(highest)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] == 0
    assert ticks[-1] >= highest * 0.999


def test_logarithmic_ticks_enclose_the_values() -> None:
    assert log_ticks([2.0, 30.0]) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks([0.02, 3000.0]) == [0.01, 0.1, 1, 10, 100, 1000, 10_000]
    assert log_ticks([]) == [1, 2, 5, 10]


def test_numbers_and_times_are_short() -> None:
    assert [number(value) for value in (0.25, 1234, 25_000, 3e6)] == ["0.25", "1234", "25k", "3M"]
    assert [clock(value) for value in (5, 65, 3723)] == ["5 s", "1:05", "1:02:03"]
    assert percent(3) == pytest.approx(99.9)


def test_many_processes_share_a_line_by_role() -> None:
    many = [{f"shard-{nth}": 1.0 for nth in range(30)} | {"store": 5.0}, {}]
    lines = of_processes(many)
    assert [(line.name, list(line.values)) for line in lines] == [
        ("shard (30)", [30.0, None]),
        ("store", [5.0, None]),
    ]
    assert [line.name for line in of_processes([{"b": 1.0, "a": 2.0}])] == ["a", "b"]


def test_charts_are_written_as_a_picture_that_needs_nothing_else() -> None:
    found = [chart for chart in charts(result()) if chart.title in {CPU, RECONNECTS}]
    picture = svg(found)
    root = ET.fromstring(picture)  # noqa: S314 - our own
    assert root.tag.endswith("svg")
    assert root.get("height") == str(2 * 284)
    assert picture.count('class="line"') == 3
    assert "shard-0 killed" in picture
    assert "told to wait, or failed</text>" in picture
    assert "--c1:" in picture
    assert "url(" not in picture


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    before = result()
    write(before, tmp_path / "a.json")
    after = read(tmp_path / "a.json")
    assert after == before
    assert after.latencies["delivery"].decoded().count == 2000
    assert isinstance(json.loads((tmp_path / "a.json").read_text())["spec"]["duration"], float)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json is no result of a load test"):
        read(tmp_path / "a.json")


def test_a_comparison_gives_both_and_the_change() -> None:
    other = result(figures={"CPU per delivery, µs": 125.0, "new": 1.0}, kept=False)
    found = {row.name: row for row in rows(result(), other)}
    assert found["CPU per delivery, µs"].change == "+25.0 %"
    assert (found["new"].before, found["new"].after, found["new"].change) == (None, 1.0, "")
    assert found["delivery p50, ms"].change == "+0.0 %"
    text = compare(result(), other)
    assert "verdict: A kept, B BROKEN" in text
    assert "differs" not in text


def test_a_comparison_says_in_what_the_runs_differ() -> None:
    other = result(spec=parse("devices = 7"), scenario="idle", machine="another")
    text = compare(result(), other)
    for says in ("scenario: A steady, B idle", "machine: A 2 x <CPU>, B another", "B 7"):
        assert says in text
