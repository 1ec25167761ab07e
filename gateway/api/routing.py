"""Which handler answers a path: resources list `Route`s, `Routes` finds them.

`{name}` in a path matches one segment; a verb after a colon, as in `messages:send`, is part of the
path. Nothing is decoded that no handler asked for.
"""

import enum
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from urllib.parse import unquote

import msgspec

from gateway.api.errors import MethodNotAllowedError
from gateway.api.http_server import Reply
from gateway.api.request import Call
from router.model.errors import ErrorCode, PushError


class Access(enum.StrEnum):
    """Who may call, for the API's description; the handlers enforce it."""

    OPEN = "open"
    PROJECT = "project"
    """API key or OAuth access token."""
    CLIENT = "client"
    """Client key, or as PROJECT."""
    DEVICE = "device"
    """The device's own credential, or as PROJECT."""
    ADMIN = "admin"
    """The admin key."""


class Query(msgspec.Struct, frozen=True):
    """A parameter in the query of a call: its name and what it takes."""

    name: str
    description: str
    required: bool = False


class Route(msgspec.Struct, frozen=True):
    """One call of the API.

    `request` and `response` are the structs of the JSON bodies, None for none. A body may also be
    too large, which `errors` need not say.
    """

    method: str
    path: str
    handler: Callable[[Call], Awaitable[Reply]]
    summary: str
    access: Access
    request: object = None
    response: object = None
    status: int = 200
    errors: tuple[ErrorCode, ...] = ()
    query: tuple[Query, ...] = ()
    detail: str = ""


_COLONS: Final = "{user}"
"""A parameter that may hold colons, which many clients do not encode."""


class _Node:
    __slots__ = ("children", "colons", "methods", "parameter")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.methods: dict[str, Route] = {}
        self.colons = False


class Routes:
    """A tree of the segments of all paths."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.all = sorted(routes, key=lambda route: (route.path, route.method))
        self._root = _Node()
        for route in self.all:
            self._add(route)

    def find(self, method: str, target: str) -> tuple[Route, list[str]]:
        """Give the route of a request target and the values of its parameters, in order.

        Raises:
            PushError: NOT_FOUND, or METHOD_NOT_ALLOWED naming what is allowed.
        """
        path = target.partition("?")[0]
        node = self._root
        parameters: list[str] = []
        for part in path.replace(":", "/:").split("/"):
            child = node.children.get(part)
            if child is None and node.colons and part[:1] == ":":
                parameters[-1] += unquote(part)
                continue
            if child is None:
                child = node.parameter
                if child is None or not part or part[0] == ":":
                    raise _no_path()
                parameters.append(unquote(part) if "%" in part else part)
            node = child
        if not node.methods:
            raise _no_path()
        route = node.methods.get(method)
        if route is None and method == "HEAD":
            route = node.methods.get("GET")
        if route is None:
            raise MethodNotAllowedError(path, node.methods)
        return route, parameters

    def _add(self, route: Route) -> None:
        node = self._root
        for part in route.path.replace(":", "/:").split("/"):
            if part.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
                node.colons = part == _COLONS
            else:
                node = node.children.setdefault(part, _Node())
        if route.method in node.methods:
            raise ValueError(f"two routes for {route.method} {route.path}")
        node.methods[route.method] = route


def _no_path() -> PushError:
    return PushError(ErrorCode.NOT_FOUND, "No such path. GET /docs lists all of them.")
