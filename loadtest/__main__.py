"""`pushwire loadtest`: put load on a gateway, and account for every message.

    pushwire loadtest list
    pushwire loadtest run steady
    pushwire loadtest run steady --set devices=1000 --set rate=500
    pushwire loadtest run my-own.toml --api https://push.example.com --i-own-this-server …
    pushwire loadtest compare before.json after.json

Exit codes: 0 every promise was kept; 1 one was not, or the run could not be carried out; 2 bad
usage or a bad scenario; 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import catalog
from loadtest.command import Given, OutOfReachError, Wanted, carry_out
from loadtest.report.chart import Chart
from loadtest.report.compare import compare
from loadtest.report.page import charts, page
from loadtest.report.svg import svg
from loadtest.run.ground import GroundError
from loadtest.run.member import MemberError
from loadtest.run.result import read
from loadtest.run.spec import SpecError, parse
from loadtest.senders import SendError

BAD_USAGE = 2
INTERRUPTED = 130
_FLAGS = (
    ("--api", "API_URL", "URL of a gateway that runs already; without it the run starts one"),
    ("--devices-url", "DEVICE_URL", "where devices connect, if not where the API says"),
    ("--project", "PROJECT", "the project, with --api"),
    ("--api-key", "API_KEY", "its API key, with --api"),
    ("--client-key", "CLIENT_KEY", "its client key, with --api"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.act(options))
    except SpecError as error:
        return _complain(str(error), BAD_USAGE)
    except OutOfReachError as error:
        return _complain(str(error), BAD_USAGE)
    except (GroundError, MemberError, SendError, OSError, ValueError) as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"pushwire loadtest: {text}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pushwire loadtest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = words.add_parser("list", help="list the scenarios")
    listing.set_defaults(act=_list)
    showing = words.add_parser("show", help="print a scenario: a start for one of your own")
    showing.add_argument("scenario", metavar="SCENARIO")
    showing.set_defaults(act=_show)
    raw = argparse.RawDescriptionHelpFormatter
    _configure_run(words.add_parser("run", help="run a scenario", formatter_class=raw))
    comparing = words.add_parser("compare", help="compare two results")
    comparing.add_argument("before", type=Path, metavar="A.json")
    comparing.add_argument("after", type=Path, metavar="B.json")
    comparing.set_defaults(act=_compare)
    reporting = words.add_parser("report", help="make the HTML report of a result anew")
    reporting.add_argument("result", type=Path, metavar="A.json")
    reporting.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: A.html")
    reporting.add_argument(
        "--svg", type=Path, metavar="FILE", help="write charts as one SVG file instead"
    )
    reporting.add_argument(
        "--charts", metavar="TITLE,…", help="which, by the beginnings of their titles"
    )
    reporting.set_defaults(act=_report)
    return parser


def _configure_run(run: argparse.ArgumentParser) -> None:
    scenarios = "\n".join(f"  {name:<16} {_about(name)}" for name in catalog.names())
    run.epilog = f"scenarios:\n{scenarios}\n"
    run.add_argument("scenario", metavar="SCENARIO", help="a name, or a TOML file of your own")
    run.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="another value than the scenario's, as in TOML; may be repeated",
    )
    for flag, field in (("--devices", "devices"), ("--rate", "rate"), ("--seconds", "duration")):
        run.add_argument(flag, metavar="N", help=f"the same as --set {field}=N")
    target = run.add_argument_group("a gateway that runs already")
    for flag, variable, text in _FLAGS:
        target.add_argument(flag, metavar="…", help=f"{text} (or PUSHWIRE_{variable})")
    target.add_argument("--ops", metavar="URL", help="its ops port, for its metrics")
    target.add_argument(
        "--data-dir", type=Path, help="its data directory, if it runs here: to see its processes"
    )
    target.add_argument(
        "--i-own-this-server",
        dest="owned",
        action="store_true",
        help="allow a gateway that is not on this machine",
    )
    run.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the JSON result and the HTML report go (loadtest-results)",
    )
    run.add_argument("--plain", action="store_true", help="plain lines, no live view")
    run.set_defaults(act=_run)


def _about(name: str) -> str:
    return parse(catalog.text_of(name)[1]).about


def _list(_options: argparse.Namespace) -> int:
    for name in catalog.names():
        sys.stdout.write(f"{name:<16} {_about(name)}\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    sys.stdout.write(catalog.text_of(options.scenario)[1])
    return 0


def _run(options: argparse.Namespace) -> int:
    name, text = catalog.text_of(options.scenario)
    short = {"devices": options.devices, "rate": options.rate, "duration": options.seconds}
    overrides = [f"{field}={value}" for field, value in short.items() if value is not None]
    given = Given(
        **{
            flag[2:].replace("-", "_"): getattr(options, flag[2:].replace("-", "_")) or ""
            for flag, _, _ in _FLAGS
        },
        ops=options.ops or "",
        data_dir=options.data_dir,
        owned=options.owned,
    )
    wanted = Wanted(
        name, parse(text, [*overrides, *options.overrides]), given, options.out, plain=options.plain
    )
    return carry_out(wanted)


def _compare(options: argparse.Namespace) -> int:
    sys.stdout.write(compare(read(options.before), read(options.after)) + "\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    if options.svg:
        options.svg.write_text(svg(_chosen(charts(read(options.result)), options.charts or "")))
        sys.stdout.write(f"{options.svg}\n")
        return 0
    output = options.output or options.result.with_suffix(".html")
    output.write_text(page(read(options.result)))
    sys.stdout.write(f"{output}\n")
    return 0


def _chosen(found: Sequence[Chart], wanted: str) -> list[Chart]:
    """Give the charts whose titles begin as is wanted, in that order; all where nothing is."""
    chosen: list[Chart] = []
    for beginning in wanted.split(","):
        fitting = [one for one in found if one.title.lower().startswith(beginning.strip().lower())]
        if not fitting:
            titles = ", ".join(one.title for one in found)
            raise SpecError(f"no chart {beginning!r}: there are {titles}")
        chosen += fitting
    return chosen


if __name__ == "__main__":
    sys.exit(main())
