"""`pushwire`: find the command, run it, tell its errors in one line.

Exit codes: 0 done; 1 it failed, and why stands on stderr; 2 bad usage or a bad setting;
130 interrupted.
"""

import argparse
import importlib
import os
import pkgutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Final, Protocol, cast

from gateway.cli import commands
from gateway.settings import SettingsError
from router.model.errors import PushError
from router.telemetry import logs

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_ABOUT: Final = """\
Pushwire: a push gateway of your own.

  pushwire demo                     see everything work, in seconds
  pushwire serve                    run it on this machine
  pushwire project create my-app    make keys for an app
  pushwire doctor                   ask whether this machine is fit
"""


class Command(Protocol):
    """What a module in `gateway/cli/commands` holds."""

    NAME: str
    HELP: str
    """A line that says what it does; after an empty line, examples."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it, and give the exit code."""


def command_names() -> list[str]:
    """List the commands: one module each."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))


def load_command(name: str) -> Command:
    """Import the module of a command."""
    return cast(Command, importlib.import_module(f"{commands.__name__}.{name}"))


def build_parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """Make the parser of these commands."""
    parser = argparse.ArgumentParser(
        prog="pushwire", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in names:
        command = load_command(name)
        summary, _, more = command.HELP.strip().partition("\n")
        subparser = subparsers.add_parser(
            command.NAME,
            help=summary,
            description=summary,
            epilog=textwrap.dedent(more).strip("\n"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.configure(subparser)
        subparser.set_defaults(run=command.run, command=command.NAME)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pushwire` and give its exit code.

    Args:
        argv: the words after `pushwire`; those of the process by default.
    """
    _open_standard_streams()
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # while commands are imported, too: that takes most of the start
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return EXIT_FAILED
    except OSError as error:  # a full disk under the output, and whatever a command did not expect
        sys.stderr.write(f"pushwire: {error}\n")
        return EXIT_FAILED


def _open_standard_streams() -> None:
    """Point the standard streams that came closed at nothing.

    Their numbers would go to the next sockets and files, and libuv aborts when it closes one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _run(words: list[str]) -> int:
    known = command_names()
    # A role's process shall not load what the other commands need.
    names = words[:1] if words and words[0] in known else known
    args = build_parser(names).parse_args(words)
    logs.configure("warning")
    try:
        return int(args.run(args))
    except SettingsError as error:
        return _complain(args, str(error), EXIT_USAGE)
    except PushError as error:
        return _complain(args, error.message, EXIT_FAILED)


def _complain(args: argparse.Namespace, message: str, code: int) -> int:
    sys.stderr.write(f"pushwire {args.command}: {message}\n")
    return code
