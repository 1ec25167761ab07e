"""HTTP/1.1 for the providers that speak it, with every fault that it can have."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.support.providers.faults import Fault, Kind

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Take = Callable[[], Awaitable[web.Response]]


class Http1Server:
    """Listens on a free port of localhost: `async with Http1Server(…) as server`.

    Args:
        routes: handler by method and path, as aiohttp writes paths.
        certificate: for TLS; plain HTTP without.
    """

    def __init__(
        self,
        routes: dict[tuple[str, str], Handler],
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self._app = web.Application(client_max_size=1 << 20)
        for (method, path), handler in routes.items():
            self._app.router.add_route(method, path, handler)
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://localhost:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._stopping.set()
        assert self._runner is not None
        await self._runner.cleanup()

    async def meet(
        self,
        request: web.Request,
        fault: Fault | None,
        take: Take,
        refusal: Callable[[Fault], web.Response],
    ) -> web.StreamResponse:
        """Answer a request by `take`, or as the fault says."""
        if fault is None:
            return await take()
        if fault.kind is Kind.ANSWER:
            return refusal(fault)
        if fault.kind is not Kind.CUT_UNREAD:
            answer = await take()
            if fault.kind is Kind.SLOW:
                await asyncio.sleep(fault.delay_s)
                return answer
            if fault.kind is Kind.NEVER:
                await self._stopping.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)
