"""Logs: one line an event, machine-readable off a terminal, and nothing secret in them."""

import io
import logging

import orjson
import pytest
import structlog
from typing_extensions import override

from router.telemetry import logs

pytestmark = pytest.mark.usefixtures("restored_logs")


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_off_a_terminal_a_line_is_a_json_object() -> None:
    out = io.StringIO()
    logs.configure("info", "auto", "api-0", out)
    structlog.get_logger("x").info("message.sent", message="m1", count=2)
    (line,) = lines(out)
    assert line["event"] == "message.sent"
    assert (line["message"], line["count"]) == ("m1", 2)
    assert (line["level"], line["process"]) == ("info", "api-0")
    assert str(line["timestamp"]).endswith("Z")


def test_on_a_terminal_a_line_is_text() -> None:
    out = Terminal()
    logs.configure("info", "auto", "", out)
    structlog.get_logger().info("message.sent", shard="s1")
    assert "message.sent" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_a_format_that_is_named_wins_over_the_terminal() -> None:
    out = Terminal()
    logs.configure("info", "json", "", out)
    structlog.get_logger().info("message.sent")
    assert lines(out)[0]["event"] == "message.sent"


def test_lower_levels_are_not_written() -> None:
    out = io.StringIO()
    logs.configure("warning", "json", "", out)
    structlog.get_logger().info("message.sent")
    logging.getLogger("aiohttp.server").info("hello")
    assert out.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_are_blanked(form: str) -> None:
    out = io.StringIO()
    logs.configure("info", form, "", out)
    fields = dict.fromkeys(("token", "credential", "data"), "hush")
    structlog.get_logger().info("device.registered", **fields)
    assert "hush" not in out.getvalue()
    assert "[redacted]" in out.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_written_without_its_locals(form: str) -> None:
    out = io.StringIO()
    logs.configure("info", form, "", out)
    payload = "hu" + "sh"
    try:
        int(payload[:0])
    except ValueError:
        structlog.get_logger().exception("session.failed")
        logging.getLogger("aiohttp.server").exception("Error handling request")
    assert "ValueError" in out.getvalue()
    assert "test_logs.py" in out.getvalue()
    assert "hush" not in out.getvalue()


def test_the_standard_library_logs_the_same_way() -> None:
    out = io.StringIO()
    logs.configure("info", "json", "shard-1", out)
    logging.getLogger("aiohttp.server").warning("slow by %d s", 3)
    (line,) = lines(out)
    assert line["event"] == "log.foreign"
    assert (line["logger"], line["message"]) == ("aiohttp.server", "slow by 3 s")
    assert (line["level"], line["process"]) == ("warning", "shard-1")


def test_access_logs_stay_out() -> None:
    out = io.StringIO()
    logs.configure("info", "json", "", out)
    logging.getLogger("aiohttp.access").info("GET /")
    assert out.getvalue() == ""


def test_what_json_does_not_know_is_written_as_text() -> None:
    out = io.StringIO()
    logs.configure("info", "json", "", out)
    structlog.get_logger().info("message.sent", path=Exception("odd"))
    assert lines(out)[0]["path"] == "odd"


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.configure("info", "json", "", first)
    logs.configure("info", "json", "", second)
    logging.getLogger("x").warning("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1
