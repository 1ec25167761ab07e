"""`pushwire serve`."""

import argparse
from typing import Final

from gateway.cli.arguments import add_all_settings, settings_of
from gateway.process import run_role
from gateway.supervisor.app import STOP_DEADLINES
from gateway.supervisor.app import run as run_supervisor
from gateway.supervisor.ground import check_certificate
from router.telemetry import logs

NAME: Final = "serve"
HELP: Final = """Run everything on this machine: store, APIs, connection servers, workers.

One line on stdout says when it serves and where; logs go to stderr.

    pushwire serve --data-dir ./data
    pushwire serve --data-dir ./data --shards 4 --apis 2 --host 0.0.0.0
    pushwire serve --store-url redis://store:6379    an external Valkey 8+ or Redis 7.2+
    pushwire serve --api-port 0 --device-port 0 --ops-port 0    free ports

Ctrl-C or SIGTERM: devices are sent away, requests finished, the store flushed; exit code 0.
A second Ctrl-C ends it at once. A process that dies is started again; one that dies again and
again ends `serve` with exit code 1.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_all_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    settings = settings_of(args)
    check_certificate(settings)
    logs.configure(settings.log_level, settings.log_format, NAME)
    deadline_s = settings.stop_timeout_s * STOP_DEADLINES
    return run_role(NAME, run_supervisor, settings, stop_timeout_s=deadline_s)
