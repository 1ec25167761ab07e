"""Flags that several commands share."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.settings import Settings, fields, load

_STORE_FLAGS: Final = ("data_dir", "store_url")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command takes: where the data is."""
    add_settings(parser, _STORE_FLAGS)


def add_all_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting."""
    add_settings(parser, [field.name for field in fields()])


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add flags for some settings, and `--config`."""
    wanted = set(names)
    group = parser.add_argument_group(
        "settings", "Each is also PUSHWIRE_<NAME> in the environment, and a line in pushwire.toml."
    )
    group.add_argument("--config", metavar="FILE", help="the pushwire.toml to read")
    for field in fields():
        if field.name in wanted:
            group.add_argument(
                "--" + field.name.replace("_", "-"),
                dest=field.name,
                metavar=field.name.rpartition("_")[2].upper(),
                help=_help(field.help, field.default).replace("%", "%%"),
            )


def unicode_text(word: str) -> str:
    """Take a word that may go into JSON: the shell passes on any bytes.

    Raises:
        argparse.ArgumentTypeError: it is no UTF-8.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("must be text in UTF-8") from None
    return word


def settings_of(args: argparse.Namespace) -> Settings:
    """Read the settings, with the flags of a command.

    Raises:
        SettingsError: one has a bad value.
    """
    return load(flags_of(args), config=config_of(args))


def flags_of(args: argparse.Namespace) -> dict[str, object]:
    """Give the settings that stand on the command line."""
    given: dict[str, object] = vars(args)
    return {field.name: given.get(field.name) for field in fields()}


def config_of(args: argparse.Namespace) -> Path | None:
    """Give the file that the command line names."""
    return Path(args.config) if args.config else None


def _help(text: str, default: str) -> str:
    return f"{text} Default: {default}." if default else text
