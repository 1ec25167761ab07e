"""The APNs of the tests with a clock, an independent client, and what the bridge sends to it."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from router.bridge import Authorization, Recipient, Request, Response
from router.bridges.apns import BRIDGE, ApnsContent
from router.model.ids import DeviceId, MessageId
from tests.support.bridges import APNS_TOKEN, NOW_MS, apns_credentials, ec_key, push
from tests.support.certificate import make_certificate
from tests.support.providers.apns import ApnsProvider


class Clock:
    now_s = NOW_MS / 1000

    def __call__(self) -> float:
        return self.now_s


class Apple:
    """The provider, an independent client, and what the bridge would send."""

    def __init__(self, provider: ApnsProvider, context: ssl.SSLContext, clock: Clock) -> None:
        self.provider, self.context, self.clock = provider, context, clock
        self.http = httpx.AsyncClient(http2=True, verify=context)
        self.credentials = BRIDGE.credentials(apns_credentials(endpoint=provider.server.url))

    def request(self, number: int = 0, token: str = APNS_TOKEN, **fields: Any) -> Request:
        now_ms = int(self.clock() * 1000)
        content = BRIDGE.content(push(now_ms, id=MessageId(f"message-{number}"), **fields))
        assert isinstance(content, ApnsContent)
        to = Recipient(DeviceId("device"), BRIDGE.address({"type": "apns", "token": token}))
        return BRIDGE.encode(content, self.credentials, to, self.authorization(), now_ms)

    def authorization(self) -> Authorization:
        return BRIDGE.authorize(self.credentials, "", int(self.clock() * 1000))

    async def post(self, request: Request, **headers: str | None) -> Response:
        """Send by httpx, with some headers changed or (None) left out."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        changed = {**dict(request.headers), **given}
        sent = {name: value for name, value in changed.items() if value is not None}
        answer = await self.http.post(
            request.origin + request.path, headers=sent, content=request.body
        )
        assert answer.http_version == "HTTP/2"
        return Response(answer.status_code, dict(answer.headers), answer.content)


@contextlib.asynccontextmanager
async def opened_apple(folder: Path) -> AsyncIterator[Apple]:
    """Let the provider listen, and close all connections in the end."""
    certificate = make_certificate(folder)
    clock = Clock()
    provider = ApnsProvider(certificate, ec_key().public_key(), now_s=clock)
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.set_alpn_protocols(["h2"])
    async with provider.server:
        made = Apple(provider, context, clock)
        yield made
        await made.http.aclose()
