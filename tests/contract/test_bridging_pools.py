"""Which way a request goes: HTTP/2 where it is needed or offered, else HTTP/1.1, guarded or not."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from router.bridge import AnyBridge, Credentials, Request
from router.bridges import discover
from router.bridging.pools import Account, Pools
from router.bridging.transport import (
    ForbiddenError,
    SilentError,
    UnknownError,
    UnreachableError,
)
from router.model.ids import ProjectId
from router.policy.webpush_keys import new_private_key
from router.telemetry.metrics import Metrics
from tests.support.bridges import apns_credentials, fcm_credentials
from tests.support.certificate import make_certificate
from tests.support.providers import faults
from tests.support.providers.faults import Fault
from tests.support.providers.http1 import Http1Server
from tests.support.providers.http2 import Answer, Call, Http2Server

BRIDGES = discover()


def request(origin: str) -> Request:
    return Request("POST", origin, "/x?y=1", (("authorization", "a"),), b"{}", 0)


class Way:
    """Pools, and the certificate of the servers that they talk to."""

    def __init__(self, pools: Pools, certificate: tuple[Path, Path]) -> None:
        self.pools, self.certificate = pools, certificate
        self.ca = certificate[0].read_text()

    def credentials(self, bridge: str, **changes: str) -> tuple[AnyBridge, Credentials]:
        raw = {
            "apns": apns_credentials(ca=self.ca),
            "fcm": fcm_credentials(ca=self.ca),
            "webpush": {"private_key": new_private_key(b"k" * 32), "ca": self.ca},
        }[bridge]
        kind = BRIDGES[bridge]
        subject = {"subject": "mailto:ops@example.com"} if bridge == "webpush" else {}
        return kind, kind.credentials({**raw, **subject, **changes})

    async def send(self, bridge: str, origin: str, **changes: str) -> tuple[int, bytes]:
        kind, credentials = self.credentials(bridge, **changes)
        account = Account(ProjectId("demo"), bridge, 1)
        answer = await self.pools.send(kind, account, credentials, request(origin))
        return answer.status, answer.body


@contextlib.asynccontextmanager
async def opened(folder: Path, *, allow_private: bool) -> AsyncIterator[Way]:
    metrics = Metrics(CollectorRegistry())
    async with Pools(1.0, 1.0, allow_private=allow_private, metrics=metrics) as pools:
        yield Way(pools, make_certificate(folder))


@pytest.fixture
async def way(tmp_path: Path) -> AsyncIterator[Way]:
    async with opened(tmp_path, allow_private=True) as made:
        yield made


@contextlib.asynccontextmanager
async def http2(way: Way) -> AsyncIterator[str]:
    def judge(call: Call) -> Answer:
        return Answer(200, [], b"two " + call.value(":path").encode())

    def choose(_call: Call) -> Fault | None:
        return None

    def refusal(_fault: Fault) -> Answer:
        return Answer(500, [])

    server = Http2Server(way.certificate, judge, choose, refusal, first_streams=10)
    async with server:
        yield server.url


@contextlib.asynccontextmanager
async def http1(way: Way, fault: Fault | None = None) -> AsyncIterator[str]:
    async def take() -> web.Response:
        return web.Response(body=b"one")

    def refusal(told: Fault) -> web.Response:
        return web.Response(status=told.status, headers=told.headers)

    async def handle(asked: web.Request) -> web.StreamResponse:
        return await server.meet(asked, fault, take, refusal)

    server = Http1Server({("POST", "/x"): handle}, way.certificate)
    async with server:
        yield server.url


async def test_http2_is_spoken_where_it_is_needed_or_offered(way: Way) -> None:
    async with http2(way) as origin:
        assert await way.send("apns", origin) == (200, b"two /x?y=1")
        assert await way.send("fcm", origin) == (200, b"two /x?y=1")


async def test_http1_is_spoken_where_http2_is_not_offered(way: Way) -> None:
    async with http1(way) as origin:
        assert await way.send("fcm", origin) == (200, b"one")
        assert await way.send("fcm", origin) == (200, b"one")
        with pytest.raises(UnreachableError, match="does not speak HTTP/2"):
            await way.send("apns", origin)


async def test_what_devices_name_is_spoken_to_over_http1(way: Way) -> None:
    async with http1(way) as origin:
        assert await way.send("webpush", origin, endpoint=origin) == (200, b"one")
        with pytest.raises(UnreachableError, match=r"(?i)certificate"):
            await way.send("webpush", origin)  # the project's certificates are not for others


async def test_a_private_host_that_a_device_names_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, allow_private=False) as way, http1(way) as origin:
        port = origin.rpartition(":")[2]
        for host in ("localhost", "127.0.0.1", "[::1]"):
            with pytest.raises(ForbiddenError):
                await way.send("webpush", f"https://{host}:{port}")
        assert await way.send("webpush", origin, endpoint=origin) == (200, b"one")


async def test_a_redirect_is_not_followed(way: Way) -> None:
    away = faults.answer(302, location="http://127.0.0.1:1/")
    async with http1(way, away) as origin:
        assert (await way.send("fcm", origin))[0] == 302


@pytest.mark.slow
async def test_a_lost_connection_and_a_late_answer_are_of_unknown_outcome(way: Way) -> None:
    async with http1(way, faults.CUT_READ) as origin:
        with pytest.raises(UnknownError):
            await way.send("fcm", origin)
    async with http1(way, faults.NEVER) as origin:
        with pytest.raises(SilentError):
            await way.send("fcm", origin)


async def test_nobody_listening_is_no_connection(way: Way) -> None:
    for bridge in ("apns", "fcm", "webpush"):
        with pytest.raises(UnreachableError):
            await way.send(bridge, "https://127.0.0.1:1")
