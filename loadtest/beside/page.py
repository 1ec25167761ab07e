"""The tables that `make bench-peers` prints. Pure."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from loadtest.beside.bench import Result, names_of
from loadtest.peer import Guarantees
from loadtest.recorder import Figure, number

ASKED: Final[dict[str, Callable[[Guarantees], str]]] = {
    "an accepted message is": lambda given: given.accepted,
    "what a death loses": lambda given: given.killed,
    "delivered is told by": lambda given: given.delivered,
    "a device that was away gets": lambda given: given.away,
    "the sender learns": lambda given: given.told,
}


def figures_table(results: Sequence[Result]) -> Table:
    """Put the figures side by side: a row for each, a column for each server."""
    table = Table(title="Beside others: the same work, in turns", title_justify="left")
    table.add_column("median of the rounds", no_wrap=False)
    for result in results:
        table.add_column(f"{result.name}\n{result.version or 'left out'}", justify="right")
    for name in names_of(results):
        cells = [_cell(_found(result, name), result) for result in results]
        table.add_row(name, *cells)
    return table


def guarantees_table(results: Sequence[Result]) -> Table:
    """Say what each server promises for that."""
    title = "What each of them guarantees, as it is set up here"
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("")
    for result in results:
        table.add_column(result.name)
    for asked, answer in ASKED.items():
        table.add_row(asked, *(answer(result.guarantees) for result in results))
    return table


def _found(result: Result, name: str) -> Figure | None:
    return next((figure for figure in result.figures if figure.name == name), None)


def _cell(figure: Figure | None, result: Result) -> str:
    if figure is None:
        return "" if result.missing else "no such call"
    text = f"{number(figure.median)} {figure.unit}"
    if len(figure.parts) > 1:
        parts = sorted(figure.parts.items(), key=lambda part: -part[1])
        text += "".join(f"\n[dim]{role} {number(value)}[/dim]" for role, value in parts)
    return text
