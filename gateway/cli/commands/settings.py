"""`pushwire settings`."""

import argparse
import re
from typing import Final

from gateway.cli.arguments import add_all_settings, config_of, flags_of, settings_of
from gateway.cli.terminal import Terminal
from gateway.settings import SECRETS, fields, given_names

NAME: Final = "settings"
HELP: Final = """Show every setting: what it does, its value here, and whether it was set.

    pushwire settings
    pushwire settings --config /etc/pushwire.toml
    pushwire settings --markdown > docs/settings.md
"""

_PASSWORD: Final = re.compile(r"(://[^:/]*:).*(@)")
_QUERY: Final = re.compile(r"\?.*")
_INTRODUCTION: Final = """\
# Settings

Made from `gateway/settings.py` by `pushwire settings --markdown`.

Every setting is a flag of the commands that use it (`--api-port`), a variable in the environment
(`PUSHWIRE_API_PORT`) and a line in `pushwire.toml` (`api_port = 8080`). The flag goes before the
environment, the environment before the file, the file before the default. The file is the one that
`--config` or `PUSHWIRE_CONFIG` names, else `pushwire.toml` in the working directory, else in the
data directory. A bad value stops the start with the name and what it accepts (exit code 2).

| setting | default | accepts | what it does |
| --- | --- | --- | --- |
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--markdown", action="store_true", help="print docs/settings.md")
    add_all_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Show them."""
    terminal = Terminal()
    if args.markdown:
        terminal.line(page().rstrip())
        return 0
    settings = settings_of(args)
    given = given_names(flags_of(args), config=config_of(args))
    for field in fields():
        shown = _shown(field.name, str(getattr(settings, field.name))) or "(empty)"
        terminal.line(f"{field.name} = {shown}{'  (set)' if field.name in given else ''}", "bold")
        terminal.line(f"    {field.help} Accepts {field.accepts}.")
    return 0


def _shown(name: str, value: str) -> str:
    """Give a value without its secrets."""
    if name in SECRETS:
        return value and "…"
    if name == "export_url":
        return _QUERY.sub("?…", value)  # it may be signed
    return _PASSWORD.sub(r"\1…\2", value) if name == "store_url" else value


def page() -> str:
    """Write docs/settings.md."""
    rows = [
        f"| `{field.name}` | {f'`{field.default}`' if field.default else 'empty'} "
        f"| {field.accepts.replace('|', chr(92) + '|')} | {field.help} |"
        for field in fields()
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n"
