"""URLs of a gateway: where they lead, and whether that is this machine."""

import ipaddress
import socket
import ssl
from typing import Final, NamedTuple
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SAFE: Final = {"https", "wss"}


class Target(NamedTuple):
    """Where to connect."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    authority: str
    """For the Host header."""


def target_of(url: str) -> Target:
    """Take a URL apart.

    Raises:
        ValueError: it is none of http, https, ws, wss with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{url!r} is no URL: accepts http, https, ws or wss, a host, a port")
    tls = ssl.create_default_context() if parts.scheme in _SAFE else None
    port = parts.port or _PORTS[parts.scheme]
    return Target(parts.hostname, port, tls, parts.netloc)


def is_this_machine(url: str) -> bool:
    """Whether a URL leads to a loopback address, and to nothing else.

    Raises:
        ValueError: it is no URL, or its host has no address.
    """
    target = target_of(url)
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{url!r}: {error.strerror}") from None
    return all(ipaddress.ip_address(str(info[4][0])).is_loopback for info in found)
