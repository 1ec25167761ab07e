"""A guard against requests into our own network (SSRF), for hosts that others name.

Callbacks go to where app servers say, Web Push to where devices say.
"""

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from router.policy.destinations import is_public

_RESOLVERS: Final = 32
"""Names that are looked up at once: a dead name server holds one for long."""


class RefusedAddressError(OSError):
    """A host has no address that may be connected to."""

    def __init__(self) -> None:
        super().__init__("its addresses are not public (callback_allow_private is off)")


class GuardedResolver(AbstractResolver):
    """Looks names up, and gives only addresses that may be connected to.

    aiohttp connects to what it is given here and asks nobody again, so a name that resolves to
    something else a moment later gains nothing.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM
        )
        found = await loop.run_in_executor(self._threads, look_up)
        results = [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
            if is_public(str(address[0]))
        ]
        if not results:
            raise RefusedAddressError
        return results

    @override
    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_refused(url: str) -> bool:
    """Check a host that is an address: it is not looked up."""
    host = urlsplit(url).hostname or ""
    literal = ":" in host or host.replace(".", "").isdigit()
    return literal and not is_public(host)


def is_refusal(error: BaseException) -> bool:
    """Tell whether it was the guard that made a request fail."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, RefusedAddressError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
