"""Calls from pages of other origins: a browser may make those that apps make, and no others.

Which those are, `Route.access` says: with the public client key, or as the device itself. Nothing
is guarded by this, as no call works by cookies: it lets pages read the answers.

Source: WHATWG Fetch, "CORS protocol".
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from gateway.api.http_server import Reply
from gateway.api.request import Call
from gateway.api.routing import Access, Route
from router.model.errors import PushError

_OF_APPS: Final = frozenset({Access.CLIENT, Access.DEVICE})
_ANY: Final = "*"
_KEPT_S: Final = 7200
"""The longest that Chromium keeps what it heard."""


class Origins:
    """Which pages may call.

    Args:
        allowed: origins, separated by commas; `*` for all, empty for none.
    """

    def __init__(self, allowed: str) -> None:
        self._allowed = frozenset(filter(None, (each.strip() for each in allowed.split(","))))

    def open(self, route: Route, refusal: Callable[[PushError], Reply]) -> Route:
        """Give a route whose answers pages can read, where apps may call it.

        Args:
            route: as its resource gives it.
            refusal: makes an answer of an error.
        """
        if route.access not in _OF_APPS or not self._allowed:
            return route
        handler = route.handler

        async def answer(call: Call) -> Reply:
            origin = call.header("Origin")
            if not origin:
                return await handler(call)
            try:
                reply = await handler(call)
            except PushError as error:
                reply = refusal(error)
            reply.extra = {**reply.extra, **self._told(origin)}
            return reply

        return msgspec.structs.replace(route, handler=answer)

    def preflight(self, route: Route, origin: str) -> Reply | None:
        """Answer a browser that asks whether a page may make a call; None where it may not."""
        told = self._told(origin) if origin and route.access in _OF_APPS else {}
        if not told:
            return None
        rules = {
            "Access-Control-Allow-Methods": route.method,
            "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Client-Key",
            "Access-Control-Max-Age": str(_KEPT_S),
        }
        return Reply(b"", headers={**told, **rules})

    def _told(self, origin: str) -> Mapping[str, str]:
        if _ANY in self._allowed:
            return {
                "Access-Control-Allow-Origin": _ANY,
                "Access-Control-Expose-Headers": "Retry-After",
            }
        if origin not in self._allowed:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": "Retry-After",
            "Vary": "Origin",
        }
