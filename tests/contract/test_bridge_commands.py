"""`pushwire project bridge` as a user types it, against a real store."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.cli.main import main
from gateway.sealing_keys import read_keys, write_key
from tests.support import pigeon
from tests.support.bridges import apns_credentials, fcm_credentials

pytestmark = pytest.mark.usefixtures("restored_logs")


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Said]


@pytest.fixture
def run(
    store_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Give a command line with a project called as the result's `project`."""
    monkeypatch.setenv("PUSHWIRE_STORE_URL", store_url)
    monkeypatch.setenv("PUSHWIRE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PUSHWIRE_SECRET_KEY", write_key(b"k" * 32))
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> Said:
        code = main(["project", *words])
        return Said(code, *capfd.readouterr())

    return typed


@pytest.fixture
def project(run: Run) -> str:
    name = f"p-{os.urandom(8).hex()}"
    assert run("create", name).code == 0
    return name


@pytest.fixture
def apns(tmp_path: Path) -> list[str]:
    """The options of APNs, with a real key."""
    raw = apns_credentials()
    (tmp_path / "key.p8").write_text(raw["key"])
    return [
        *("--key-file", "key.p8", "--key-id", raw["key_id"], "--team-id", raw["team_id"]),
        *("--topic", raw["topic"]),
    ]


def test_apns_is_added_listed_and_removed(run: Run, project: str, apns: list[str]) -> None:
    added = run("bridge", "add", project, "apns", *apns, "--sandbox", "--no-test")
    assert (added.code, added.err) == (0, "")
    pairs = dict(line.split(maxsplit=1) for line in added.out.splitlines()[:6])
    assert pairs["bridge"] == "apns"
    assert pairs["topic"] == "com.example.app"
    assert pairs["sandbox"] == "true"
    listed = run("bridge", "list", project)
    assert "key_id=KEY1234567" in listed.out
    (found,) = run("bridge", "list", project, "--json").json
    assert (found["name"], found["state"]) == ("apns", "ok")
    assert "PRIVATE KEY" not in added.out + listed.out + json.dumps(found)
    removed = run("bridge", "remove", project, "apns")
    assert removed.out == f"apns is removed from {project}\n"
    gone = run("bridge", "remove", project, "apns")
    assert (gone.code, gone.err) == (1, "pushwire project: The project has no bridge apns.\n")


def test_fcm_takes_the_file_of_a_service_account(run: Run, project: str, tmp_path: Path) -> None:
    (tmp_path / "account.json").write_text(json.dumps(fcm_credentials()["service_account"]))
    words = ("--service-account", "account.json", "--endpoint", "https://proxy.example")
    added = run("bridge", "add", project, "fcm", *words, "--no-test", "--json")
    assert added.code == 0, added.err
    assert added.json["details"] == {
        "project_id": "firebase-demo",
        "client_email": "sender@firebase-demo.iam.gserviceaccount.com",
        "endpoint": "https://proxy.example",
    }


def test_web_push_needs_nothing_and_is_advised(run: Run, project: str) -> None:
    first = run("bridge", "add", project, "webpush")
    assert first.code == 0, first.err
    assert "warn Give a subject" in first.out
    key = dict(line.split(maxsplit=1) for line in first.out.splitlines()[:4])["public_key"]
    again = run("bridge", "add", project, "webpush", "--subject", "mailto:me@example.org", "--json")
    assert again.json["details"] == {"subject": "mailto:me@example.org", "public_key": key}
    assert again.json["advice"] == ""
    rotated = run("bridge", "add", project, "webpush", "--rotate-keys", "--json").json
    assert rotated["details"]["public_key"] != key
    assert rotated["details"]["subject"] == "mailto:me@example.org"


def test_a_bad_value_is_named_by_its_option(run: Run, project: str, tmp_path: Path) -> None:
    (tmp_path / "key.p8").write_text("hunter2")
    (tmp_path / "account.json").write_text('{"private_key": "hunter2"')
    (tmp_path / "other.json").write_text('{"project_id": "demo"}')
    apns = ("--key-id", "KEY1234567", "--team-id", "TEAM123456", "--topic", "com.example.app")
    refusals = {
        "--key-file: must be the text of the .p8 file": ("apns", "--key-file", "key.p8", *apns),
        "--key-id: must be the id of the key: 10 characters": (
            *("apns", "--key-file", "key.p8", *apns, "--key-id", "hunter2"),
        ),
        "--key-file: nothing.p8 cannot be read: No such file": (
            *("apns", "--key-file", "nothing.p8", *apns),
        ),
        "--service-account: account.json is no JSON file": (
            *("fcm", "--service-account", "account.json"),
        ),
        "--service-account (service_account.client_email): is required": (
            *("fcm", "--service-account", "other.json"),
        ),
        "--subject: must be a mailto: address": ("webpush", "--subject", "hunter2"),
        "--endpoint: http(s)://host[:port]": ("webpush", "--endpoint", "hunter2"),
        "--ca-file: certificates in PEM": ("webpush", "--ca-file", "key.p8"),
    }
    for says, words in refusals.items():
        refused = run("bridge", "add", project, *words)
        assert (refused.code, refused.out) == (1, ""), says
        assert refused.err.startswith(f"pushwire project: {says}")
        assert "hunter2" not in refused.err
    assert run("bridge", "list", project, "--json").json == []


def test_an_unknown_project_or_bridge_is_told(run: Run, project: str) -> None:
    for words in (("add", "nobody-here", "webpush"), ("list", "nobody-here")):
        refused = run("bridge", *words)
        assert (refused.code, "There is no such project." in refused.err) == (1, True)
    assert "there are apns, fcm, webpush" in run("bridge", "remove", project, "smoke").err
    with pytest.raises(SystemExit) as usage:
        run("bridge", "add", project, "smoke")
    assert usage.value.code == 2


def test_a_key_is_made_given_and_replaced(
    run: Run, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PUSHWIRE_SECRET_KEY")
    refused = run("bridge", "add", project, "webpush")
    assert (refused.code, "project bridge new-key" in refused.err) == (1, True)
    old, new = (run("bridge", "new-key").out.strip() for _ in range(2))
    assert len(read_keys(f"{old},{new}")) == 2
    monkeypatch.setenv("PUSHWIRE_SECRET_KEY", old)
    assert run("bridge", "add", project, "webpush").code == 0
    monkeypatch.setenv("PUSHWIRE_SECRET_KEY", new)
    (closed,) = run("bridge", "list", project, "--json").json
    assert closed["state"] == "closed"
    partly = run("bridge", "reseal")
    assert partly.code == 1
    assert f"fail {project} webpush: it is sealed with the key" in partly.out
    monkeypatch.setenv("PUSHWIRE_SECRET_KEY", f"{new},{old}")
    assert "sealed with the newest key" in run("bridge", "reseal").out
    monkeypatch.setenv("PUSHWIRE_SECRET_KEY", new)
    (opened,) = run("bridge", "list", project, "--json").json
    assert opened["state"] == "ok"


def test_another_bridge_brings_its_options_with_its_file(
    run: Run, project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pigeon.settle(tmp_path, monkeypatch)
    (tmp_path / "whistle").write_text(pigeon.SECRET)
    words = ("--loft", "roof", "--whistle-file", "whistle", "--endpoint", "https://loft.example")
    added = run("bridge", "add", project, "pigeon", *words, "--no-test")
    assert (added.code, added.err) == (0, "")
    assert pigeon.SECRET not in added.out
    (found,) = run("bridge", "list", project, "--json").json
    assert found["details"] == {"loft": "roof", "endpoint": "https://loft.example"}
