"""Logs: one event a line, its name in `noun.verb` form, ids as fields; no payloads, no secrets.

A person at a terminal gets text; anything else gets one JSON object a line. The standard library's
logging (aiohttp, asyncio) goes the same way.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Final, TextIO, cast

import orjson
import structlog
from typing_extensions import override

SECRET_FIELDS: Final = frozenset(
    {"authorization", "api_key", "client_key", "admin_key", "credential", "secret", "token"}
    | {"password", "private_key", "assertion", "access_token", "payload", "data", "frame"}
)
"""Fields that are never written, whoever logs them."""
_QUIET: Final = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING}

_Event = MutableMapping[str, object]


def configure(
    level: str = "info", form: str = "auto", process: str = "", stream: TextIO | None = None
) -> None:
    """Set up logging for this process; a later call replaces an earlier one.

    Args:
        level: the lowest level that is written, `debug`, `info`, `warning` or `error`.
        form: `json`, `console`, or `auto`, which writes text to a terminal and JSON elsewhere.
        process: name of the process, a field of every line; empty for none.
        stream: where lines go; standard error by default.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    text = form == "console" or (form == "auto" and out.isatty())
    shared = _shared(process)
    structlog.configure(
        processors=[*shared, *_rendering(text=text, colors=out.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Formatter(shared, text=text, colors=out.isatty()))
    # The one place where the standard library's logging is taken over.
    root = logging.getLogger()  # noqa: TID251 - the root, to route foreign libraries
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(number, least))  # noqa: TID251 - the same


def _shared(process: str) -> list[structlog.types.Processor]:
    def name(_logger: object, _method: str, event: _Event) -> _Event:
        if process:
            event.setdefault("process", process)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name,
        redact,
    ]


def redact(_logger: object, _method: str, event: _Event) -> _Event:
    """Blank the fields that must not be written (a processor of structlog)."""
    for field in event.keys() & SECRET_FIELDS:
        event[field] = "[redacted]"
    return event


def _rendering(*, text: bool, colors: bool) -> list[structlog.types.Processor]:
    # No locals in tracebacks: they hold what must not be written.
    if text:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(frames),
        structlog.processors.JSONRenderer(serializer=_dumps),
    ]


def _dumps(event: Mapping[str, object], **_options: object) -> str:
    """Write one line; what JSON does not know is written as text, keys as they are."""
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class _Formatter(logging.Formatter):
    """Writes a record of the standard library as our own lines: event `log.foreign`."""

    def __init__(
        self, shared: list[structlog.types.Processor], *, text: bool, colors: bool
    ) -> None:
        super().__init__()
        self._processors = [*shared, *_rendering(text=text, colors=colors)]

    @override
    def format(self, record: logging.LogRecord) -> str:
        event: _Event = {
            "event": "log.foreign",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            event["exc_info"] = record.exc_info
        value: object = event
        method = record.levelname.lower()
        for processor in self._processors:
            value = processor(None, method, cast("_Event", value))
        return str(value)
