"""Where the store is, as its URL tells: one server, a primary behind Sentinels, a cluster."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

_DEFAULT_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_MAX_PORT: Final = 65_535
_COMMON: Final = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "db"})
_SENTINEL_OPTIONS: Final = _COMMON | {"sentinel_username", "sentinel_password"}


class Address(msgspec.Struct, frozen=True):
    """Where one server is and how to log in."""

    path: str = ""
    host: str = "localhost"
    port: int = _DEFAULT_PORT
    tls: bool = False
    ca_file: str = ""
    verify: bool = True
    username: str = ""
    password: str = ""
    database: int = 0

    def at(self, host: str, port: int) -> "Address":
        """Give another server with the same login."""
        return msgspec.structs.replace(self, host=host, port=port)


class Sentinels(msgspec.Struct, frozen=True):
    """Sentinels that know where the primary of a service is."""

    sentinels: tuple[Address, ...]
    service: str
    login: Address
    """How to log in to the primary; its host and port mean nothing."""


class Servers(msgspec.Struct, frozen=True):
    """A cluster."""

    seeds: tuple[Address, ...]
    """Some of its nodes: they tell of the others."""

    @property
    def login(self) -> Address:
        """How to log in to any node; host and port mean nothing."""
        return self.seeds[0]


Place = Address | Sentinels | Servers

ACCEPTED: Final = (
    "redis://[user:password@]host[:port][/database], unix:///path/to/the/socket, "
    "redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database], or "
    "redis+cluster://[user:password@]host[:port][,host[:port]…]; rediss:// and so on are the same "
    "over TLS; in a password write %40 for @, and so on"
)
"""The forms of a store URL, for whoever gave another one."""


def parse_url(url: str) -> Place:
    """Read a store URL.

    - `redis://[user:password@]host[:port][/database]`, `rediss://` the same over TLS
    - `unix://[user:password@]/path/to/socket[?db=number]`
    - `redis+sentinel://[user:password@]host[:port][,host[:port]…]/service[/database]`, and
      `rediss+sentinel://`, with `sentinel_username` and `sentinel_password` as options
    - `redis+cluster://[user:password@]host[:port][,host[:port]…]`, and `rediss+cluster://`

    TLS takes `?ssl_ca_certs=<file>` and `?ssl_cert_reqs=none`.

    Raises:
        ValueError: the text is no such URL. What it says quotes nothing: it may be a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "unix":
        return _socket(url)
    if scheme in {"redis", "rediss"}:
        (server,), path, login = _read(rest, scheme, _DEFAULT_PORT, _COMMON, most=1)
        return msgspec.structs.replace(
            login, host=server[0], port=server[1], database=_database(path or str(login.database))
        )
    if scheme in {"redis+sentinel", "rediss+sentinel"}:
        return _sentinels(rest, scheme)
    if scheme in {"redis+cluster", "rediss+cluster"}:
        return _cluster(rest, scheme)
    raise ValueError("it begins with none of these")


def describe(place: Place) -> str:
    """Name the store for a person, without its password."""
    if isinstance(place, Sentinels):
        return f"{place.service} (by Sentinel {', '.join(map(describe, place.sentinels))})"
    if isinstance(place, Servers):
        return f"the cluster of {', '.join(map(describe, place.seeds))}"
    return place.path or f"{place.host}:{place.port}"


def _socket(url: str) -> Address:
    parts = urlsplit(url)
    options = _options(parts.query, _COMMON)
    path = unquote(parts.path)
    if not path:
        raise ValueError("it names no socket: write unix:///path/to/store.sock")
    return Address(
        path=path,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=_database(options.get("db", "0")),
    )


def _sentinels(rest: str, scheme: str) -> Sentinels:
    servers, path, login = _read(rest, scheme, _SENTINEL_PORT, _SENTINEL_OPTIONS)
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("it names no service: write redis+sentinel://host,host,host/mymaster")
    options = _options(rest.partition("?")[2], _SENTINEL_OPTIONS)
    own = msgspec.structs.replace(
        login,
        username=options.get("sentinel_username", ""),
        password=options.get("sentinel_password", ""),
        database=0,
    )
    return Sentinels(
        sentinels=tuple(own.at(host, port) for host, port in servers),
        service=unquote(service),
        login=msgspec.structs.replace(login, database=_database(database or str(login.database))),
    )


def _cluster(rest: str, scheme: str) -> Servers:
    servers, path, login = _read(rest, scheme, _DEFAULT_PORT, _COMMON)
    if path or login.database:
        raise ValueError("a cluster has no other database than 0: leave it out")
    return Servers(tuple(login.at(host, port) for host, port in servers))


def _read(
    rest: str, scheme: str, port: int, known: frozenset[str], most: int = 100
) -> tuple[list[tuple[str, int]], str, Address]:
    """Take `[user:password@]host[:port][,…][/path][?options]` apart.

    `urlsplit` knows nothing of several hosts.
    """
    body, _, query = rest.partition("?")
    authority, _, path = body.partition("/")
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    servers = [_server(one, port) for one in hosts.split(",")]
    if len(servers) > most:
        raise ValueError(
            "it names several servers, which takes redis+sentinel:// or redis+cluster://"
        )
    options = _options(query, known)
    login = Address(
        tls=scheme.startswith("rediss"),
        ca_file=options.get("ssl_ca_certs", ""),
        verify=options.get("ssl_cert_reqs", "required") != "none",
        username=unquote(username),
        password=unquote(password),
        database=_database(options.get("db", "0")),
    )
    return servers, path.strip("/"), login


def _server(text: str, port: int) -> tuple[str, int]:
    """Read `host`, `host:port`, `[::1]` or `[::1]:port`."""
    host, bracket, behind = text.rpartition("]")
    if bracket:
        host, number = host.lstrip("["), behind.lstrip(":")
    else:
        host, _, number = text.partition(":")
    if number and not (number.isascii() and number.isdigit() and 0 < int(number) <= _MAX_PORT):
        raise ValueError("a port is a number")
    return host or "localhost", int(number or port)


def _options(query: str, known: frozenset[str]) -> Mapping[str, str]:
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    if not options.keys() <= known:
        message = f"the options are {', '.join(sorted(known))}"
        raise ValueError(message)
    return options


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError("a database is a number")
    return int(text)
