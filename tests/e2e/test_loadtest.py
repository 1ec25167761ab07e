"""`pushwire loadtest` as an operator runs it: real processes, the exit codes that it promises."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from loadtest.run.result import Result, read
from tests.support.certificate import make_certificate
from tests.support.false_proxy import Tamper, doubled, false_proxy, without
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


async def load(
    out: Path, *words: str, environment: dict[str, str] | None = None, timeout_s: float = 90.0
) -> tuple[int, str, str]:
    return await pushwire(
        *("loadtest", "run", *words, "--out", str(out)),
        environment=environment,
        timeout_s=timeout_s,
    )


def the_result(out: Path) -> Result:
    (found,) = out.glob("*.json")
    assert found.with_suffix(".html").read_text().startswith("<!doctype html>")
    return read(found)


def results(out: Path) -> list[Path]:
    return list(out.iterdir())


def access(gateway: RunningGateway) -> list[str]:
    return [
        *("--api", gateway.api, "--project", gateway.project),
        *("--api-key", gateway.api_key, "--client-key", gateway.client_key),
    ]


async def test_steady_on_a_gateway_of_its_own(tmp_path: Path) -> None:
    words = ("--devices", "10", "--rate", "40", "--seconds", "2")
    code, out, err = await load(
        tmp_path, "steady", *words, "--set", "callbacks=true", "--set", "duplicates=0.5"
    )
    assert code == 0, err + out
    result = the_result(tmp_path)
    verdict = result.verdict
    assert result.kept
    assert verdict.accepted > 20
    assert verdict.expected == verdict.delivered == verdict.called_back >= verdict.accepted
    assert out.startswith(f"kept: {verdict.accepted} accepted")
    assert result.gateway == "started by the run"
    last = result.points[-1]
    for seen in (last.memory, last.pss, last.descriptors):
        assert {"api-0", "shard-0", "store", "worker-0"} <= {name for name in seen if seen[name]}
    assert last.descriptors["shard-0"] > 10
    assert {life.name for life in result.lives} == set(last.memory)
    assert result.counters["pushwire_acks_total"] >= verdict.delivered
    assert result.latencies["delivery"].count == verdict.delivered


async def test_sdk_devices_users_topics_and_conditions(tmp_path: Path) -> None:
    targets = "targets={ token = 1.0, user = 1.0, topic = 1.0, condition = 1.0 }"
    code, out, err = await load(
        tmp_path,
        *("steady", "--devices", "6", "--rate", "30", "--seconds", "2"),
        *("--set", targets, "--set", "device_kind=sdk", "--set", "topics=2"),
    )
    assert code == 0, err + out
    verdict = the_result(tmp_path).verdict
    assert verdict.delivered == verdict.expected > verdict.accepted


async def test_idle_devices_answer_a_roll_call(tmp_path: Path) -> None:
    code, out, err = await load(tmp_path, "idle", "--devices", "30", "--seconds", "1")
    assert code == 0, err + out
    result = the_result(tmp_path)
    told = [mark.text for mark in result.marks]
    assert "roll call by condition: 30 of 30 devices answered" in told
    assert "roll call by token: 30 of 30 devices answered" in told
    assert result.latencies["roll call"].count == 60
    assert "CPU of the shard at rest, % of a core" in result.figures
    assert "kernel memory per connection, both ends, KiB" in result.figures


async def test_a_shard_is_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    code, out, err = await load(
        tmp_path,
        *("kill-shard", "--devices", "20", "--rate", "60", "--seconds", "4"),
        *("--set", 'faults=[{ do = "kill", at = 1 }]'),
    )
    assert code == 0, err + out
    result = the_result(tmp_path)
    (killed,) = [mark for mark in result.marks if mark.fault]
    assert killed.text == "shard-0 killed (SIGKILL)"
    assert any("serves again" in mark.text for mark in result.marks)
    assert result.verdict.called_back == result.verdict.delivered


async def test_a_replica_takes_over_and_nothing_is_lost(tmp_path: Path) -> None:
    code, out, err = await load(
        tmp_path,
        *("store-failover", "--devices", "20", "--rate", "40", "--seconds", "6"),
        *("--set", 'faults=[{ do = "kill", role = "store", at = 1 }]'),
    )
    assert code == 0, err + out
    result = the_result(tmp_path)
    told = [mark.text for mark in result.marks]
    assert "the primary, store-0, killed (SIGKILL)" in told
    assert any(text.startswith("store-1 is the primary after") for text in told)
    assert any(text.startswith("store-0 follows it after") for text in told)
    assert {"store-0", "store-1", "sentinel-2"} <= set(result.points[-1].memory)
    assert len({life.pid for life in result.lives if life.name == "store-0"}) == 2


async def test_devices_that_were_away_get_everything_when_they_return(tmp_path: Path) -> None:
    code, out, err = await load(
        tmp_path,
        *("offline-resume", "--devices", "10", "--rate", "50", "--seconds", "3"),
        *("--set", 'faults=[{ do = "cut", at = 0.5, share = 1.0, away = 1 }]'),
    )
    assert code == 0, err + out
    latencies = the_result(tmp_path).latencies
    assert latencies["resumed"].count > 10
    assert latencies["handshake"].count == 20


async def test_slow_devices_ack_everything_in_the_end(tmp_path: Path) -> None:
    words = ("--devices", "6", "--rate", "30", "--seconds", "2", "--set", "ack_delay=1")
    code, out, err = await load(tmp_path, "slow-consumers", *words, "--set", "slow=0.5")
    assert code == 0, err + out
    assert the_result(tmp_path).verdict.acked


async def test_what_expires_meanwhile_is_accounted_for(tmp_path: Path) -> None:
    code, out, err = await load(
        tmp_path,
        *("offline-resume", "--devices", "5", "--rate", "30", "--seconds", "4"),
        *("--set", "ttl=1", "--set", "settle=3", "--set", "targets={ token = 1.0 }"),
        *("--set", 'faults=[{ do = "cut", at = 0.5, share = 1.0, away = 3 }]'),
    )
    assert code == 0, err + out
    verdict = the_result(tmp_path).verdict
    assert verdict.expired > 10
    assert verdict.expired + verdict.delivered == verdict.expected


@pytest.mark.parametrize("kind", ["lean", "sdk"])
@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        pytest.param(without("3"), "lost: 2", id="lost"),
        pytest.param(doubled("3"), "seen twice: 2", id="twice"),
    ],
)
async def test_a_broken_promise_is_exit_code_1(
    gateway: RunningGateway, tmp_path: Path, tamper: Tamper, says: str, kind: str
) -> None:
    async with false_proxy(gateway.devices, tamper) as url:
        code, out, err = await load(
            tmp_path,
            *("steady", *access(gateway), "--devices-url", url, "--devices", "2"),
            *("--rate", "40", "--seconds", "1", "--set", "arrivals=constant", "--set", "settle=2"),
            *("--set", f"device_kind={kind}", "--set", "targets={ token = 1.0 }"),
        )
    assert code == 1, err + out
    assert out.startswith("BROKEN: ")
    assert says in out
    result = the_result(tmp_path)
    assert not result.kept
    faults = [*result.verdict.lost, *result.verdict.doubled]
    assert {fault.number for fault in faults} == {3}
    assert all(fault.message for fault in faults)
    assert not result.verdict.out_of_order


async def test_a_bound_that_is_not_kept_is_exit_code_1(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    words = ("--devices", "2", "--rate", "20", "--seconds", "1", "--set", "bounds.p50_ms=0.001")
    code, out, err = await load(tmp_path, "steady", *access(gateway), *words)
    assert code == 1, err
    assert "the bound is 0.001 ms" in out


async def test_a_foreign_gateway_is_left_as_it_was(gateway: RunningGateway, tmp_path: Path) -> None:
    code, out, err = await load(
        tmp_path,
        *("steady", *access(gateway), "--devices", "4", "--rate", "20", "--seconds", "1"),
        *("--ops", gateway.ops, "--data-dir", str(gateway.data_dir)),
    )
    assert code == 0, err + out
    result = the_result(tmp_path)
    assert result.gateway == gateway.api
    assert "shard-0" in result.cpu
    assert result.counters["pushwire_sends_total"] >= result.verdict.accepted
    _, listed = await gateway.call("GET", "/messages?page_size=20")
    messages = cast("list[dict[str, str]]", listed["messages"])
    devices = {message["device_id"] for message in messages if "device_id" in message}
    assert devices
    for device in devices:
        assert (await gateway.call("GET", f"/devices/{device}"))[0] == 404


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["steady", "--rate", "-1"], 2, "rate: accepts messages a second, 0 to 100000, not -1"),
        (["steady", "--set", "devises=3"], 2, "unknown field devises: accepts about, devices"),
        (["nothing"], 2, "no scenario 'nothing': accepts connect-storm"),
        (["steady", "--api", "http://127.0.0.1:1"], 2, "needs --project, --api-key, --client-key"),
        (
            ["kill-shard", "--project", "p", "--api-key", "k", "--client-key", "c"],
            2,
            "this scenario kills processes, which it does only to a gateway that it started",
        ),
        (
            [
                *("steady", "--api", "http://192.0.2.1:8080", "--project", "p"),
                *("--api-key", "k", "--client-key", "c"),
            ],
            1,
            "http://192.0.2.1:8080 is not this machine",
        ),
        (["steady", "--set", "gateway.settings.no_such=1"], 1, "pushwire serve did not come up"),
    ],
)
async def test_what_cannot_be_run_is_refused(
    tmp_path: Path, words: list[str], code: int, says: str
) -> None:
    found, out, err = await load(tmp_path, *words)
    assert (found, out) == (code, ""), err
    assert says in err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["lean", "sdk"])
async def test_devices_connect_over_tls(tmp_path: Path, kind: str) -> None:
    certificate, key = make_certificate(tmp_path)
    tls = {"tls_cert": str(certificate), "tls_key": str(key)}
    async with running_gateway(tmp_path, **tls) as gateway:
        url = gateway.devices.replace("127.0.0.1", "localhost")
        words = ("--devices-url", url, "--devices", "3", "--rate", "20", "--seconds", "1")
        code, out, err = await load(
            tmp_path / "out",
            *("steady", *access(gateway), *words, "--set", f"device_kind={kind}"),
            environment={"SSL_CERT_FILE": str(certificate)},
        )
    assert code == 0, err + out
    assert url.startswith("wss://localhost")


async def test_a_gateway_that_dies_fails_the_run_and_leaves_a_report(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        out = tmp_path / "out"

        async def kill() -> None:
            async def acked() -> bool:  # more than the gateway's own probe does
                return await gateway.metric("pushwire_acks_total") > 40

            busy: bool = await eventually(acked, timeout_s=60)
            assert busy
            gateway.process.kill()

        async with asyncio.TaskGroup() as group:
            words = ("--devices", "5", "--rate", "50", "--seconds", "6", "--set", "settle=2")
            running = group.create_task(load(out, "steady", *access(gateway), *words))
            group.create_task(kill())
        code, said, err = running.result()
    assert code == 1, err + said
    assert said.startswith("BROKEN: "), err
    assert "mailboxes could not be looked at: " in said
    assert "Traceback" not in err
    result = the_result(out)
    assert not result.verdict.acked
    assert result.errors["no answer"] > 0


async def test_a_wrong_key_is_one_line(gateway: RunningGateway, tmp_path: Path) -> None:
    words = access(gateway)
    words[words.index("--api-key") + 1] = "pw_wrong"
    code, out, err = await load(tmp_path, "steady", *words, "--devices", "2", "--seconds", "1")
    assert (code, out) == (1, "")
    assert "register: 401" in err
    assert "Traceback" not in err
    assert not results(tmp_path)


async def test_ctrl_c_ends_the_sending_and_still_judges(tmp_path: Path) -> None:
    later = "faults=[{ do = 'cut', at = 500 }]"
    words = ("loadtest", "run", "steady", "--devices", "3", "--seconds", "600", "--set", later)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words, "--out", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"accepted" not in (line := await process.stderr.readline()):
                assert line, "it ended before it sent anything"
            process.send_signal(signal.SIGINT)
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert out.startswith(b"kept: ")
    assert the_result(tmp_path).verdict.accepted > 0


async def test_results_are_compared_and_reported_anew(
    gateway: RunningGateway, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        words = ("steady", *access(gateway), "--devices", "2", "--rate", "20", "--seconds", "1")
        code, out, err = await load(tmp_path / name, *words)
        assert code == 0, err + out
    (before,), (after,) = (list((tmp_path / name).glob("*.json")) for name in ("one", "two"))
    code, out, err = await pushwire("loadtest", "compare", str(before), str(after))
    assert code == 0, err
    assert "delivery p99, ms" in out
    assert "verdict: A kept, B kept" in out
    page = tmp_path / "again.html"
    code, out, err = await pushwire("loadtest", "report", str(before), "-o", str(page))
    assert (code, out) == (0, f"{page}\n"), err
    assert page.read_text() == before.with_suffix(".html").read_text()
    code, _, err = await pushwire("loadtest", "compare", str(before), str(page))
    assert code == 1
    assert "is no result of a load test" in err


async def test_scenarios_are_listed_and_shown(gateway: RunningGateway, tmp_path: Path) -> None:
    code, out, _ = await pushwire("loadtest", "list")
    assert code == 0
    assert "rolling-restart" in out
    code, out, _ = await pushwire("loadtest", "show", "steady")
    assert code == 0
    own = tmp_path / "own.toml"
    own.write_text(out)
    words = ("--devices", "2", "--rate", "10", "--seconds", "1")
    code, out, err = await load(tmp_path / "out", str(own), *access(gateway), *words)
    assert code == 0, err + out
    (found,) = (tmp_path / "out").glob("own-*.json")
    shown: dict[str, Any] = json.loads(found.read_text())
    assert shown["scenario"] == "own"
