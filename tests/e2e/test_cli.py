"""The commands as a user types them, against a real gateway."""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from gateway.supervisor.ground import running_endpoints
from tests.support.certificate import make_certificate
from tests.support.gateway import RunningGateway, pushwire
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


async def test_project_without_serve_starts_the_store_for_its_duration(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "data"))
    code, out, err = await pushwire("project", "create", "My App", *where)
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["project", "api_key", "client_key", "user_secret"]
    secret = out.splitlines()[3].split()[1]
    code, out, _ = await pushwire("project", "rotate-user-secret", "my-app", *where)
    rotated = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rotated.keys() == {"user_secret", "previous_until"}
    assert secret != rotated["user_secret"]
    code, _, err = await pushwire(
        "project", "rotate-user-secret", "my-app", "--overlap", "-1", *where
    )
    assert (code, "--overlap takes 0 to 604800 seconds" in err) == (1, True)
    code, out, _ = await pushwire("project", "list", "--json", *where)
    assert [project["id"] for project in json.loads(out)] == ["my-app"]
    code, out, err = await pushwire("project", "create", "my app", *where)
    assert (code, out) == (1, "")
    says = "The project my-app exists, or did before; choose another name."
    assert err == f"pushwire project: {says}\n"
    code, out, _ = await pushwire("project", "keys", "my-app", "--json", *where)
    assert sorted(key["client"] for key in json.loads(out)) == [False, True]


async def test_the_limits_of_a_project_are_shown_and_changed(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path / "data"))

    async def limits(*words: str) -> tuple[int, str, str]:
        return await pushwire("project", "limits", "my-app", *words, *where)

    await pushwire("project", "create", "my-app", *where)
    code, out, _ = await limits()
    shown = dict(line.split() for line in out.splitlines())
    assert (code, set(shown.values())) == (0, {"default"})
    assert set(shown) == {
        "sends_per_second",
        "key_sends_per_second",
        "publishes_per_second",
        "device_sends_per_minute",
        "topic_publishes_per_minute",
    }
    code, out, _ = await limits("--sends-per-second", "20000.5", "--device-sends-per-minute", "0")
    changed = dict(line.split() for line in out.splitlines())
    assert code == 0
    assert changed == {**shown, "sends_per_second": "20000.5", "device_sends_per_minute": "0"}
    code, out, _ = await limits("--sends-per-second", "default", "--json")
    assert (code, json.loads(out)) == (0, {"device_sends_per_minute": 0.0})
    for wrong in ("many", "nan", "inf", "-1"):
        code, _, err = await limits("--sends-per-second", wrong)
        assert (code, "--sends-per-second" in err) == (2, True)
    code, out, _ = await limits("--json")
    assert (code, json.loads(out)) == (0, {"device_sends_per_minute": 0.0})
    code, _, err = await pushwire("project", "limits", "nobody", *where)
    assert (code, "no such project" in err) == (1, True)


async def test_a_limit_that_a_command_sets_holds(gateway: RunningGateway) -> None:
    where = ("--data-dir", str(gateway.data_dir))
    code, out, err = await pushwire("project", "create", "slow", "--json", *where)
    assert code == 0, err
    environment = {"PUSHWIRE_PROJECT": "slow", "PUSHWIRE_API_KEY": json.loads(out)["api_key"]}
    code, _, err = await pushwire(
        "project", "limits", "slow", "--publishes-per-second", "0.001", *where
    )
    assert code == 0, err
    send = ("send", "--topic", "news", "--title", "Hello", *where)
    code, _, err = await pushwire(*send, environment=environment)
    assert code == 0, err
    code, out, err = await pushwire(*send, environment=environment)
    assert (code, out) == (1, "")
    assert "pushwire project limits PROJECT --publishes-per-second N" in err


async def test_service_account_names_this_gateway(gateway: RunningGateway) -> None:
    code, out, err = await pushwire(
        *("project", "service-account", "demo", "--data-dir", str(gateway.data_dir))
    )
    assert code == 0, err
    account = json.loads(out)
    assert account["type"] == "service_account"
    assert account["project_id"] == gateway.project
    assert account["token_uri"] == f"{gateway.api}/oauth2/token"
    assert account["private_key"].startswith("-----BEGIN PRIVATE KEY-----")


async def test_a_message_by_commands_alone(gateway: RunningGateway, tmp_path: Path) -> None:
    where = ("--data-dir", str(gateway.data_dir))
    state = ("--state", str(tmp_path / "device.json"))
    environment = {
        "PUSHWIRE_PROJECT": gateway.project,
        "PUSHWIRE_API_KEY": gateway.api_key,
        "PUSHWIRE_CLIENT_KEY": gateway.client_key,
    }
    code, out, err = await pushwire(
        "device", "register", "--json", *state, *where, environment=environment
    )
    assert code == 0, err
    token = json.loads(out)["token"]
    words = ("--title", "Hello", "--data", "order=17", "--ttl", "2419200", "--priority", "high")
    code, out, err = await pushwire("send", token, *words, *where, environment=environment)
    assert code == 0, err
    message_id = out.strip()
    code, out, err = await pushwire("device", "listen", "--count", "1", "--json", *state, *where)
    assert code == 0, err
    shown = json.loads(out)
    assert shown["id"] == message_id
    assert shown["notification"]["title"] == "Hello"
    assert shown["data"] == {"order": "17"}
    code, out, err = await pushwire(
        "message", "show", message_id, "--json", *where, environment=environment
    )
    assert code == 0, err
    assert json.loads(out)["state"] == "delivered"
    code, out, err = await pushwire("message", "show", message_id, *where, environment=environment)
    assert code == 0, err
    assert "delivered" in out


async def test_groups_users_and_topics_by_commands_alone(gateway: RunningGateway) -> None:
    _, first = await gateway.call("POST", "/devices", {"platform": "x", "user": "anna"})
    _, second = await gateway.call("POST", "/devices", {"platform": "x"})

    async def run(*words: str) -> tuple[int, str, str]:
        return await pushwire(
            *words,
            *("--data-dir", str(gateway.data_dir)),
            environment={
                "PUSHWIRE_PROJECT": gateway.project,
                "PUSHWIRE_API_KEY": gateway.api_key,
            },
        )

    made = await run("group", "create", "family", str(first["token"]))
    assert made == (0, "family: create 1\n", "")
    assert (await run("group", "add", "family", str(second["token"])))[0] == 0
    code, out, _ = await run("group", "show", "family", "--json")
    assert code == 0
    everybody = sorted([str(first["device_id"]), str(second["device_id"])])
    assert json.loads(out)["devices"] == everybody
    code, _, err = await run("group", "remove", "family", str(second["token"]), "nonsense")
    assert (code, "nonsense: No device has this token" in err) == (1, True)
    assert (await run("group", "show", "family"))[1] == f"{first['device_id']}\n"
    assert "family" in (await run("group", "list"))[1]
    for target in (("--group", "family"), ("--user", "anna"), ("--topic", "news")):
        code, out, err = await run("send", *target, "--title", "Hello")
        assert code == 0, err
        assert (await gateway.status(out.strip()))["target"] == target[0][2:]
    assert (await run("group", "delete", "family"))[0] == 0
    code, _, err = await run("send", "--group", "family", "--title", "Hello")
    assert (code, "no such group" in err) == (1, True)


async def test_webhooks_by_commands_alone(gateway: RunningGateway) -> None:
    async def run(*words: str) -> tuple[int, str, str]:
        return await pushwire(
            "webhook",
            *words,
            *("--project", gateway.project, "--api-key", gateway.api_key),
            *("--data-dir", str(gateway.data_dir)),
        )

    code, out, err = await run(
        "add", "https://example.com/x", "--event", "device.message", "--json"
    )
    assert code == 0, err
    made = json.loads(out)
    assert made["secret"].startswith("whsec_")
    assert made["events"] == ["device.message"]
    code, out, _ = await run("list")
    assert (code, made["id"] in out, "secret" in out) == (0, True, False)
    assert (await run("remove", made["id"]))[0] == 0
    assert made["id"] not in (await run("list"))[1]
    assert (await run("remove", made["id"]))[0] == 1


async def test_refusals_of_the_api_are_one_line(gateway: RunningGateway) -> None:
    code, out, err = await pushwire(
        *("send", "not-a-token", "--title", "x", "--data-dir", str(gateway.data_dir)),
        environment={"PUSHWIRE_PROJECT": gateway.project, "PUSHWIRE_API_KEY": gateway.api_key},
    )
    assert (code, out) == (1, "")
    assert err.startswith("pushwire send: ")
    assert err.count("\n") == 1


async def test_api_away_is_one_line(tmp_path: Path) -> None:
    code, out, err = await pushwire(
        *("send", "t", "--api-url", "http://127.0.0.1:9", "--project", "p-1", "--api-key", "k"),
        *("--data-dir", str(tmp_path)),
    )
    assert (code, out) == (1, "")
    assert "does not answer" in err
    assert "Traceback" not in err


async def test_role_alone_uses_the_store_of_the_running_serve(tmp_path: Path) -> None:
    code, _, err = await pushwire("worker", "--data-dir", str(tmp_path))
    assert code == 1
    assert "no `pushwire serve` runs" in err


async def test_doctor_examines_the_running_store(gateway: RunningGateway) -> None:
    code, out, err = await pushwire("doctor", "--json", "--data-dir", str(gateway.data_dir))
    findings = {finding["name"]: finding for finding in json.loads(out)}
    assert code == int(any(finding["good"] is False for finding in findings.values())), err
    assert findings["persistence"]["good"] is True
    assert findings["eviction"]["good"] is True
    assert gateway.api in findings["ports"]["found"]


async def test_a_taken_port_is_one_line(gateway: RunningGateway, tmp_path: Path) -> None:
    taken = gateway.api.rpartition(":")[2]
    for flag in ("--api-port", "--device-port", "--ops-port"):
        ports = {"--api-port": "0", "--device-port": "0", "--ops-port": "0", flag: taken}
        words = [word for pair in ports.items() for word in pair]
        code, out, err = await pushwire(
            "serve", "--data-dir", str(tmp_path), "--log-level", "error", *words
        )
        assert (code, out) == (1, "")
        setting = flag[2:].replace("-", "_")
        assert err.startswith(f"pushwire serve: {setting}: cannot listen on 127.0.0.1:{taken} ")
        assert err.endswith(f"choose another {flag}\n")
        assert err.count("\n") == 1


async def test_a_role_alone_tells_of_its_taken_port_in_one_line(gateway: RunningGateway) -> None:
    taken = gateway.ops.rpartition(":")[2]
    where = ("--data-dir", str(gateway.data_dir), "--log-level", "error")
    for role, flag in (("api", "--api-port"), ("shard", "--device-port"), ("worker", "--ops-port")):
        code, out, err = await pushwire(role, flag, taken, *where)
        assert (code, out) == (1, "")
        setting = flag[2:].replace("-", "_")
        assert err.startswith(f"pushwire {role}: {setting}: cannot listen on 127.0.0.1:{taken} ")
        assert err.count("\n") == 1


async def test_a_bad_certificate_stops_the_start(tmp_path: Path) -> None:
    certificate, encrypted = make_certificate(tmp_path, "passphrase")
    bad = tmp_path / "bad.pem"
    bad.write_text("none")
    for files in ((bad, bad), (tmp_path / "none", tmp_path / "none"), (certificate, encrypted)):
        code, out, err = await pushwire(
            *("serve", "--data-dir", str(tmp_path / "data")),
            *("--tls-cert", str(files[0]), "--tls-key", str(files[1])),
        )
        assert (code, out) == (2, "")
        assert err.startswith("pushwire serve: tls_cert and tls_key: accept the PEM files ")
        assert err.count("\n") == 1
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full"])
async def test_serve_needs_no_standard_streams(tmp_path: Path, streams: str) -> None:
    ports = ("--api-port", "0", "--device-port", "0", "--ops-port", "0", "--drain-s", "0")
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "gateway", "serve"),
        *("--data-dir", str(tmp_path), *ports),
    )

    async def serves() -> bool:
        endpoints = running_endpoints(tmp_path)
        if endpoints is None:
            return False
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"{endpoints.ops}/readyz") as is_up,
            ):
                return is_up.status == 200
        return False

    try:
        served: bool = await eventually(serves, 45)
        assert served
        process.terminate()
        async with asyncio.timeout(45):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("serve", "--api-port", "x"), "--api-port: accepts a whole number from 0 to 65535"),
        (("doctor", "--durability", "never"), "--durability: accepts everysec or fsync"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        (("send", "t", "--data", "x"), "--data: takes NAME=VALUE, not 'x'"),
        (("send", "t", "--title", "\udcff"), "--title: must be text in UTF-8"),
        (("send", "t", "--data", "x=\udcff"), "--data: must be text in UTF-8"),
        (("project", "create", "abc\udcff"), "name: must be text in UTF-8"),
    ],
)
async def test_bad_usage_exits_2_without_a_traceback(words: tuple[str, ...], says: str) -> None:
    code, out, err = await pushwire(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


async def test_steady_load_accounts_for_every_message(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    code, out, err = await pushwire(
        *("loadtest", "run", "steady", "--devices", "3", "--rate", "50", "--seconds", "1"),
        *("--set", "arrivals=constant", "--out", str(tmp_path)),
        environment={
            "PUSHWIRE_API_URL": gateway.api,
            "PUSHWIRE_PROJECT": gateway.project,
            "PUSHWIRE_API_KEY": gateway.api_key,
            "PUSHWIRE_CLIENT_KEY": gateway.client_key,
        },
    )
    assert code == 0, err + out
    assert "kept: 50 accepted" in out


async def test_load_test_lists_its_scenarios() -> None:
    code, out, err = await pushwire("loadtest", "run", "--help")
    assert code == 0, err
    assert "steady" in out


async def test_device_of_a_wrong_url_or_key_is_one_line(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "device.json"))
    for words, says in (
        (("--api-url", "nowhere"), "takes a URL such as http://127.0.0.1:8080, not 'nowhere'"),
        (("--api-url", gateway.api), "UNAUTHENTICATED"),
    ):
        code, out, err = await pushwire(
            *("device", "register", "--project", gateway.project, "--client-key", "pwc_none"),
            *(*words, *state),
        )
        assert (code, out) == (1, "")
        assert says in err
        assert err.count("\n") == 1


async def test_counts_below_what_makes_sense_are_refused(tmp_path: Path) -> None:
    load = ("loadtest", "run", "steady", "--project", "p", "--api-key", "k", "--client-key", "c")
    code, _, err = await pushwire(*load, "--rate", "-1")
    assert code == 2
    assert "rate: accepts messages a second" in err
    code, _, err = await pushwire("device", "listen", "--count", "-1", "--state", str(tmp_path))
    assert code == 1
    assert err == "pushwire device: --count takes 0 (no end) or more\n"


def test_output_to_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        words = [sys.executable, "-m", "gateway", "settings"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[0] == "pushwire: [Errno 28] No space left on device"
    assert b"Traceback" not in done.stderr
