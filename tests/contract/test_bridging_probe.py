"""Authorizations and the probe of credentials, against providers that speak the real protocols."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from router.bridge import AnyBridge, Authorization, Misconfigured, RetryAfter
from router.bridges import discover
from router.bridging.authorizations import Authorizations, Place
from router.bridging.pools import Account, Pools
from router.bridging.probe import Prober, Verdict
from router.model.ids import ProjectId
from router.policy.webpush_keys import new_private_key
from router.telemetry.metrics import Metrics
from tests.support.bridges import (
    apns_credentials,
    ec_key,
    fcm_credentials,
    pem,
    rsa_key,
)
from tests.support.certificate import make_certificate
from tests.support.providers import faults
from tests.support.providers.apns import ApnsProvider
from tests.support.providers.fcm import FcmProvider

BRIDGES = discover()
PROJECT = ProjectId("demo")
NOW_MS = 1_900_000_000_000


class Clock:
    ms = NOW_MS

    def __call__(self) -> int:
        return self.ms

    def seconds(self) -> float:
        return self.ms / 1000


class Providers:
    """APNs and FCM, and what a project would set up for them."""

    def __init__(self, apns: ApnsProvider, fcm: FcmProvider, ca: str, clock: Clock) -> None:
        self.apns, self.fcm, self.ca, self.clock = apns, fcm, ca, clock
        self.metrics = Metrics(CollectorRegistry())

    def apns_setup(self, **changes: Any) -> tuple[AnyBridge, Any]:
        bridge = BRIDGES["apns"]
        given = apns_credentials(endpoint=self.apns.server.url, ca=self.ca)
        return bridge, bridge.credentials({**given, **changes})

    def fcm_setup(self, **changes: Any) -> tuple[AnyBridge, Any]:
        bridge = BRIDGES["fcm"]
        account = self.fcm.service_account(pem(rsa_key()))
        account.pop("client_id")
        raw = fcm_credentials(f"{self.fcm.url}/token", endpoint=self.fcm.url)
        raw["service_account"] |= changes
        return bridge, bridge.credentials(raw)

    async def probe(self, setup: tuple[AnyBridge, Any]) -> Verdict:
        prober = Prober(self.metrics, self.clock, timeout_s=5.0)
        return await prober.probe(PROJECT, *setup)


@pytest.fixture
async def providers(tmp_path: Path) -> AsyncIterator[Providers]:
    certificate, clock = make_certificate(tmp_path), Clock()
    apns = ApnsProvider(certificate, ec_key().public_key(), now_s=clock.seconds)
    fcm = FcmProvider(rsa_key().public_key(), now_s=clock.seconds)
    async with apns.server, fcm:
        yield Providers(apns, fcm, certificate[0].read_text(), clock)


async def test_good_credentials_are_told_so_and_nobody_gets_a_push(providers: Providers) -> None:
    providers.apns.unknown.add("0" * 64)
    for setup in (providers.apns_setup(), providers.fcm_setup()):
        verdict = await providers.probe(setup)
        assert verdict.good, verdict.says
    assert not providers.apns.taken
    assert not providers.fcm.taken


async def test_webpush_has_nothing_to_be_asked(providers: Providers) -> None:
    bridge = BRIDGES["webpush"]
    raw = {"private_key": new_private_key(b"k" * 32), "subject": "mailto:ops@example.com"}
    verdict = await providers.probe((bridge, bridge.credentials(raw)))
    assert verdict.good
    assert "offers nothing" in verdict.says


async def test_refused_credentials_are_told_with_the_providers_reason(
    providers: Providers,
) -> None:
    verdict = await providers.probe(providers.apns_setup(key_id="OTHER12345"))
    assert (verdict.good, verdict.refused) == (False, True)
    assert "InvalidProviderToken" in verdict.says
    verdict = await providers.probe(providers.fcm_setup(client_email="who@example.com"))
    assert (verdict.good, verdict.refused) == (False, True)
    assert "invalid_grant" in verdict.says
    verdict = await providers.probe(providers.fcm_setup(project_id="another-project"))
    assert (verdict.good, verdict.refused) == (False, True)
    assert "PERMISSION_DENIED" in verdict.says


async def test_a_provider_that_cannot_be_asked_does_not_make_credentials_bad(
    providers: Providers,
) -> None:
    nowhere = "https://127.0.0.1:1"
    for setup in (
        providers.apns_setup(endpoint=nowhere),
        providers.apns_setup(ca=""),  # the system trusts no certificate of a test
        providers.fcm_setup(token_uri=f"{nowhere}/token"),
    ):
        verdict = await providers.probe(setup)
        assert (verdict.good, verdict.refused) == (False, False)
        assert verdict.says
    providers.apns.faults.always = faults.answer(503, "ServiceUnavailable")
    verdict = await providers.probe(providers.apns_setup())
    assert (verdict.good, verdict.refused) == (False, False)
    assert "ServiceUnavailable" in verdict.says


class Desk:
    """Authorizations for FCM, whose provider grants them."""

    def __init__(self, providers: Providers, pools: Pools) -> None:
        self.providers = providers
        self.kept = Authorizations(pools, providers.metrics, providers.clock)
        self.bridge, self.credentials = providers.fcm_setup()
        audience = self.bridge.audience(self.credentials, None)
        self.place = Place(Account(PROJECT, "fcm", 1), audience)

    async def get(self) -> Authorization | RetryAfter | Misconfigured:
        return await self.kept.get(self.bridge, self.place, self.credentials)


@pytest.fixture
async def desk(providers: Providers) -> AsyncIterator[Desk]:
    async with Pools(5.0, 5.0, allow_private=True, metrics=providers.metrics) as pools:
        yield Desk(providers, pools)


async def test_many_who_want_one_at_once_get_the_same(desk: Desk) -> None:
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(desk.get()) for _ in range(50)]
    assert len({task.result() for task in asked}) == 1
    assert desk.providers.fcm.grants == 1


async def test_many_who_want_one_at_once_get_the_same_refusal(desk: Desk) -> None:
    desk.providers.fcm.token_faults.then(faults.answer(503, "unavailable"))
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(desk.get()) for _ in range(50)]
    assert {type(task.result()) for task in asked} == {RetryAfter}
    assert desk.providers.fcm.grants == 0, "nobody asked again"
    assert isinstance(await desk.get(), Authorization)


async def test_one_is_renewed_ahead_of_its_end(desk: Desk) -> None:
    first = await desk.get()
    assert isinstance(first, Authorization)
    desk.providers.clock.ms = first.renew_ms - 1
    assert await desk.get() == first
    desk.providers.clock.ms = first.renew_ms
    assert await desk.get() != first
    assert desk.providers.fcm.grants == 2


async def test_while_it_cannot_be_renewed_it_is_used_to_its_end(desk: Desk) -> None:
    first = await desk.get()
    assert isinstance(first, Authorization)
    desk.providers.fcm.token_faults.always = faults.answer(503, "unavailable")
    desk.providers.clock.ms = first.renew_ms
    assert await desk.get() == first
    desk.providers.clock.ms = first.ends_ms
    assert isinstance(await desk.get(), RetryAfter)
    desk.providers.fcm.token_faults.always = None
    assert isinstance(await desk.get(), Authorization)


async def test_a_refused_one_is_replaced_once_whoever_tells(desk: Desk) -> None:
    first = await desk.get()
    assert isinstance(first, Authorization)
    assert desk.kept.refuse(desk.place, first)
    second = await desk.get()
    assert second != first
    assert desk.kept.refuse(desk.place, first)
    assert await desk.get() == second
    assert desk.providers.fcm.grants == 2


async def test_one_that_may_not_be_made_anew_yet_is_not(desk: Desk) -> None:
    bridge, credentials = desk.providers.apns_setup()
    place = Place(Account(PROJECT, "apns", 1), bridge.audience(credentials, None))
    first = await desk.kept.get(bridge, place, credentials)
    assert isinstance(first, Authorization)
    assert not desk.kept.refuse(place, first)
    desk.providers.clock.ms = first.earliest_ms
    assert desk.kept.refuse(place, first)
    assert await desk.kept.get(bridge, place, credentials) != first
