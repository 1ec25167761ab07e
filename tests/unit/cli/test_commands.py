"""Commands are found by discovery, and their help teaches."""

import contextlib
import io
import resource
import socket
import textwrap

import pytest

from gateway.cli.diagnosis import clock, descriptors, disk, port
from gateway.cli.main import build_parser, command_names, load_command, main

pytestmark = pytest.mark.usefixtures("restored_logs")

_EXPECTED = {
    "api",
    "demo",
    "device",
    "dlq",
    "doctor",
    "export",
    "group",
    "loadtest",
    "message",
    "project",
    "send",
    "serve",
    "settings",
    "shard",
    "webhook",
    "worker",
}


def test_all_commands_are_found() -> None:
    assert set(command_names()) >= _EXPECTED


@pytest.mark.parametrize("name", sorted(_EXPECTED - {"loadtest"}))
def test_help_says_what_it_does_and_gives_an_example(name: str) -> None:
    command = load_command(name)
    assert name == command.NAME
    summary, _, more = command.HELP.strip().partition("\n")
    assert summary.endswith(".")
    assert f"pushwire {name}" in more
    with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit) as ended:
        build_parser([name]).parse_args([name, "--help"])
    assert ended.value.code == 0
    assert summary.split(":")[0] in out.getvalue()
    assert textwrap.dedent(more).strip("\n") in out.getvalue()


@pytest.mark.parametrize("words", [["run", "steady", "--devices", "5"], ["--help"]])
def test_load_test_takes_all_words(words: list[str]) -> None:
    args = build_parser(["loadtest"]).parse_args(["loadtest", *words])
    assert args.words == words


@pytest.mark.parametrize(
    ("soft", "good"),
    [(256, False), (1024, None), (65_536, True), (resource.RLIM_INFINITY, True)],
)
def test_descriptors(soft: int, good: bool | None) -> None:
    assert descriptors(soft, soft).good is good


@pytest.mark.parametrize(("free_bytes", "good"), [(10**7, False), (10**9, None), (10**11, True)])
def test_disk(free_bytes: int, good: bool | None) -> None:
    assert disk(free_bytes, "/data").good is good


@pytest.mark.parametrize(
    ("ours_ms", "store_ms", "good"),
    [
        (1_800_000_000_000, 1_800_000_000_500, True),
        (1_800_000_005_000, 1_800_000_000_000, None),
        (0, 0, False),
    ],
)
def test_clock(ours_ms: int, store_ms: int, good: bool | None) -> None:
    assert clock(ours_ms, store_ms).good is good


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_a_port_is_free_or_taken(host: str) -> None:
    with socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET) as taken:
        taken.bind((host, 0))
        taken.listen()
        number = taken.getsockname()[1]
        finding = port("api_port", host, number)
        assert finding.good is False
        assert "choose another --api-port" in finding.advice
    assert port("api_port", host, number).good is True
    assert port("api_port", host, 0).good is True


def test_settings_are_shown_with_what_was_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--shards", "3", "--admin-key", "hidden"]) == 0
    out = capsys.readouterr().out
    assert "shards = 3  (set)" in out
    assert "hidden" not in out


def test_the_keys_that_seal_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    assert main(["settings", "--secret-key", key]) == 0
    out = capsys.readouterr().out
    assert "secret_key = …  (set)" in out
    assert key not in out


def test_the_password_of_the_store_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--store-url", "rediss://push:hid@den:6380/1"]) == 0
    out = capsys.readouterr().out
    assert "store_url = rediss://push:…@den:6380/1  (set)" in out
    assert "hid@" not in out


def test_bad_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--shards", "0"]) == 2
    err = capsys.readouterr().err
    assert err == "pushwire settings: --shards: accepts a whole number from 1 to 64, not '0'\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is none"),
        (["t", "--user", "u"], "these are 2: token, --user"),
        (["--topic", "a", "--group", "b"], "these are 2: --topic, --group"),
    ],
)
def test_a_message_has_one_target(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["send", *words, "--project", "p", "--api-key", "k"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("pushwire send: takes one target, a token or --topic, --condition")
    assert err.endswith(f"; {says}\n")
