"""The tables of `make bench-peers`, and their like in the documentation."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.beside.bench import Result
from loadtest.beside.page import ASKED, figures_table, guarantees_table
from loadtest.peer import decode_payload, encode_payload
from loadtest.peers import discover
from loadtest.recorder import Figure

PAGE = Path(__file__).parents[3] / "docs" / "performance.md"


@pytest.fixture
def results() -> list[Result]:
    peers = discover()
    latency = Figure(name="latency, p50", unit="ms", runs=(0.5, 1.25, 7.0))
    cpu = Figure(name="CPU, 100 a call", unit="µs", runs=(12.0,), parts={"api": 4.0, "shard": 8.0})
    return [
        Result("mosquitto", peers["mosquitto"].guarantees, "2.0", figures=[latency]),
        Result("nats", peers["nats"].guarantees, missing="not installed"),
        Result("pushwire", peers["pushwire"].guarantees, "0.1", figures=[latency, cpu]),
    ]


def printed(table: object) -> str:
    out = StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


def test_a_row_is_a_figure_and_a_column_a_server(results: list[Result]) -> None:
    lines = [line[1:-1].split("│") for line in printed(figures_table(results)).splitlines()]
    rows = [[cell.strip() for cell in line] for line in lines if len(line) == 4]
    assert rows == [
        ["latency, p50", "1.25 ms", "", "1.25 ms"],
        ["CPU, 100 a call", "no such call", "", "12.0 µs"],
        ["", "", "", "shard 8.00"],
        ["", "", "", "api 4.00"],
    ]


def test_a_server_that_was_not_measured_is_named(results: list[Result]) -> None:
    assert "left out" in printed(figures_table(results))


def test_everything_that_is_guaranteed_is_printed(results: list[Result]) -> None:
    text = printed(guarantees_table(results))
    assert all(asked in text for asked in ASKED)


@pytest.mark.parametrize("asked", ASKED)
def test_the_documentation_says_what_each_server_guarantees(asked: str) -> None:
    words = [ASKED[asked](peer.guarantees) for peer in discover().values()]
    assert f"| {asked} | {' | '.join(words)} |" in PAGE.read_text()


@pytest.mark.parametrize("size", [28, 200, 300])
def test_a_payload_tells_its_number_and_when_it_was_due(size: int) -> None:
    payload = encode_payload(12, 987_654_321, size)
    assert len(payload) == size
    assert decode_payload(payload) == (12, 987_654_321)
