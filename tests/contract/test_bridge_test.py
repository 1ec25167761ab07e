"""Trying credentials, by command and over HTTP, with providers that speak the real protocols."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.sealing_keys import write_key
from router.store.bridge_credentials import BridgeCredentials
from tests.contract.api_server import Api, running_api
from tests.support.bridges import NOW_MS, apns_credentials, ec_key, fcm_credentials, pem, rsa_key
from tests.support.certificate import make_certificate
from tests.support.gateway import pushwire
from tests.support.providers import faults
from tests.support.providers.apns import ApnsProvider
from tests.support.providers.fcm import FcmProvider

KEY = write_key(b"k" * 32)


class Providers:
    """APNs and FCM on loopback, and the credentials that they take."""

    def __init__(self, apns: ApnsProvider, fcm: FcmProvider, ca: Path) -> None:
        self.apns, self.fcm, self.ca = apns, fcm, ca

    def raw(self, name: str) -> dict[str, Any]:
        if name == "apns":
            return apns_credentials(endpoint=self.apns.server.url, ca=self.ca.read_text())
        raw = fcm_credentials(f"{self.fcm.url}/token", endpoint=self.fcm.url)
        raw["service_account"] |= self.fcm.service_account(pem(rsa_key()))
        return raw

    def unknown_key(self, name: str) -> dict[str, Any]:
        """Well-formed credentials that the provider does not know."""
        raw = self.raw(name)
        if name == "apns":
            return {**raw, "key_id": "OTHERKEY12"}
        return {**raw, "service_account": {**raw["service_account"], "client_email": "x@example"}}


@pytest.fixture
async def providers(tmp_path: Path) -> AsyncIterator[Providers]:
    certificate = make_certificate(tmp_path)
    apns = ApnsProvider(certificate, ec_key().public_key())
    fcm = FcmProvider(rsa_key().public_key())
    async with apns.server, fcm:
        yield Providers(apns, fcm, certificate[0])


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with running_api(store_url, secret_key=KEY) as running:
        yield running


async def verdict_of(api: Api, name: str, raw: dict[str, Any]) -> Any:
    """Give what is said of the bridge after a test."""
    made = await api.call("PUT", f"bridges/{name}", raw, key=api.key)
    assert made.status == 200, made.text
    answer = await api.call("POST", f"bridges/{name}:test", key=api.key)
    assert answer.status == 200, answer.text
    assert (await api.call("GET", f"bridges/{name}", key=api.key)).json == answer.json
    return answer.json["last_test"]


@pytest.mark.parametrize("name", ["apns", "fcm"])
async def test_good_credentials_pass_and_reach_nobody(
    api: Api, providers: Providers, name: str
) -> None:
    found = await verdict_of(api, name, providers.raw(name))
    assert found["ok"], found
    assert not found["refused"]
    assert {push.token for push in providers.apns.taken} <= {"0" * 64}, "no device has that token"
    assert not providers.fcm.taken


@pytest.mark.parametrize(
    ("name", "says"), [("apns", "InvalidProviderToken"), ("fcm", "invalid_grant")]
)
async def test_credentials_that_the_provider_does_not_know_are_refused_and_kept(
    api: Api, providers: Providers, name: str, says: str
) -> None:
    found = await verdict_of(api, name, providers.unknown_key(name))
    assert (found["ok"], found["refused"]) == (False, True)
    assert says in found["says"]


async def test_a_provider_that_is_away_says_nothing_about_credentials(
    api: Api, providers: Providers
) -> None:
    raw = {**providers.raw("apns"), "endpoint": "https://localhost:1"}
    found = await verdict_of(api, "apns", raw)
    assert (found["ok"], found["refused"]) == (False, False)
    providers.apns.faults.then(faults.answer(503, "ServiceUnavailable"))
    busy = await verdict_of(api, "apns", providers.raw("apns"))
    assert (busy["ok"], busy["refused"]) == (False, False)
    assert "ServiceUnavailable" in busy["says"]


async def test_nobody_can_be_asked_about_web_push(api: Api) -> None:
    found = await verdict_of(api, "webpush", {})
    assert found["ok"]
    assert "nothing to try it with" in found["says"]


async def test_a_test_that_passes_ends_suspensions_and_one_that_fails_does_not(
    api: Api, providers: Providers
) -> None:
    await api.call("PUT", "bridges/apns", providers.raw("apns"), key=api.key)
    kept = BridgeCredentials(api.services.store)
    bridge = await kept.get(api.project, "apns")
    assert bridge is not None
    generation = bridge.state.generation
    await kept.suspend(api.project, "apns", generation, "https://apple", "Forbidden", NOW_MS)
    providers.apns.faults.then(faults.answer(403, "Forbidden"))
    failed = (await api.call("POST", "bridges/apns:test", key=api.key)).json
    assert (failed["state"], failed["last_test"]["refused"]) == ("suspended", True)
    passed = (await api.call("POST", "bridges/apns:test", key=api.key)).json
    assert (passed["state"], passed["last_test"]["ok"]) == ("ok", True)
    again = (await api.call("PUT", "bridges/apns", providers.raw("apns"), key=api.key)).json
    assert "last_test" not in again, "it was of the credentials before"


async def test_testing_takes_a_bridge_that_opens_and_the_scope_admin(
    api: Api, store_url: str
) -> None:
    missing = await api.call("POST", "bridges/apns:test", key=api.key)
    assert missing.error["status"] == "NOT_FOUND"
    assert (await api.call("POST", "bridges/apns:test", key="pw_" + "x" * 32)).status == 401
    await api.call("PUT", "bridges/webpush", {}, key=api.key)
    async with running_api(store_url, secret_key=write_key(b"x" * 32)) as other:
        there = f"/v1/projects/{api.project}/bridges/webpush:test"
        closed = await other.call("POST", there, key=api.key)
        assert closed.error["status"] == "FAILED_PRECONDITION"


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
async def test_add_tests_at_once_and_says_what_it_heard(
    api: Api, providers: Providers, store_url: str, tmp_path: Path
) -> None:
    environment = {"PUSHWIRE_STORE_URL": store_url, "PUSHWIRE_SECRET_KEY": KEY}
    where = ("--data-dir", str(tmp_path / "data"))
    key_file = tmp_path / "AuthKey.p8"
    key_file.write_text(providers.raw("apns")["key"])
    words = [
        *("project", "bridge", "add", api.project, "apns", "--key-file", str(key_file)),
        *("--key-id", "KEY1234567", "--team-id", "TEAM123456", "--topic", "com.example.app"),
        *("--endpoint", providers.apns.server.url, "--ca-file", str(providers.ca), *where),
    ]
    code, out, err = await pushwire(*words, environment=environment)
    assert (code, err) == (0, "")
    assert f"ok   {providers.apns.server.url} takes them" in out
    code, out, err = await pushwire(*words, "--key-id", "OTHERKEY12", environment=environment)
    assert code == 0, "they are kept"
    assert "fail" in out
    assert "InvalidProviderToken" in out
    test = ("project", "bridge", "test", api.project, "apns", *where)
    code, out, err = await pushwire(*test, environment=environment)
    assert (code, "InvalidProviderToken" in out) == (1, True)
    code, out, _ = await pushwire(*words, "--no-test", "--json", environment=environment)
    assert (code, json.loads(out)["last_test"]) == (0, None)
    code, out, _ = await pushwire(*test, "--json", environment=environment)
    assert (code, json.loads(out)["last_test"]["ok"]) == (0, True)
    listed = ("project", "bridge", "list", api.project, *where)
    code, out, _ = await pushwire(*listed, environment=environment)
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [["apns", "ok", "passed"]]
    away = [*words, "--endpoint", "https://localhost:1", "--json"]
    code, out, _ = await pushwire(*away, environment=environment)
    found = json.loads(out)["last_test"]
    assert (code, found["ok"], found["refused"]) == (0, False, False)
    assert os.fspath(key_file) not in out
