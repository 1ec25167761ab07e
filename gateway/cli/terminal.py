"""What a person reads. Colour and progress only on a terminal; plain lines otherwise."""

import sys
from collections.abc import Iterable, Mapping

import msgspec
from rich.console import Console
from rich.text import Text


class Terminal:
    """Standard output for people and for pipes."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line."""
        self._console.print(Text(text, style=style))

    def mark(self, good: bool | None, text: str) -> None:  # noqa: FBT001 - three-valued
        """Print one line with a mark: True is well, False is wrong, None is a warning."""
        word, style = {True: ("ok", "green"), False: ("fail", "red"), None: ("warn", "yellow")}[
            good
        ]
        marked = Text.assemble((f"{word:<5}", style), text)
        self._console.print(marked)

    def pairs(self, pairs: Mapping[str, str]) -> None:
        """Print names and values in two columns."""
        width = max(len(name) for name in pairs) + 2
        for name, value in pairs.items():
            self._console.print(Text.assemble((name.ljust(width), "bold"), value))

    def table(self, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
        """Print columns under a head, each as wide as it needs."""
        lines = [list(head), *(list(row) for row in rows)]
        widths = [max(len(line[at]) for line in lines) + 2 for at in range(len(lines[0]))]
        for number, line in enumerate(lines):
            cells = "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.line(cells.rstrip(), "bold" if number == 0 else "")

    def json(self, value: object) -> None:
        """Print JSON, indented, in one piece."""
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")
        sys.stdout.flush()
