"""Where callbacks may go: a guard against requests into our own network (SSRF).

Whoever may set up a webhook chooses its URL, and through it the machine that our worker talks to.
So the form of the URL is checked when it is set, and each address that its host resolves to when
it is used; the connection is made to the very address that was checked.
"""

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from router.model.errors import FieldViolation

MAX_URL_CHARS: Final = 2048
_ACCEPTED: Final = "an http or https URL with a host, without user and fragment"
_PUBLIC: Final = (
    "a public address: private and loopback ones take the setting callback_allow_private"
)
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
"""RFC 1035, section 2.3.4; underscores are no part of host names, and in use."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SITE_LOCAL: Final = ipaddress.IPv6Network("fec0::/10")


def url_violation(url: str, *, allow_private: bool) -> FieldViolation | None:
    """Check the URL of a webhook; what its host resolves to is checked at each connection."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return FieldViolation("url", _ACCEPTED)
    plain = len(url) <= MAX_URL_CHARS and url.isascii() and url.isprintable() and " " not in url
    fits = plain and parts.scheme in {"http", "https"} and host and port != 0
    name = host.removesuffix(".")
    if not fits or "@" in parts.netloc or "#" in url or "\\" in url or not _is_host(name):
        return FieldViolation("url", _ACCEPTED)
    if allow_private:
        return None
    if name == "localhost" or name.endswith(".localhost") or _is_refused_literal(name):
        return FieldViolation("url", _PUBLIC)
    return None


def is_public(address: str) -> bool:
    """Tell whether an IP address may be connected to: global, unicast, and no way to a private one.

    Refused are private, loopback, link-local, unique-local, shared (CGNAT), multicast, unspecified,
    documentation and reserved addresses, and IPv6 forms that carry such an IPv4 address.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        carried = _carried(parsed)
        if carried is not None:
            return _is_global(carried)
        if parsed in _SITE_LOCAL:
            return False
    return _is_global(parsed)


def _is_global(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _carried(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Give the IPv4 address that an IPv6 one leads to: mapped, NAT64, 6to4, Teredo, compatible."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _is_host(name: str) -> bool:
    """Tell whether there can be such a name, or such an IPv6 address."""
    if ":" not in name:
        return _NAME.fullmatch(name) is not None
    try:
        ipaddress.IPv6Address(name)
    except ValueError:
        return False
    return "%" not in name


def _is_refused_literal(host: str) -> bool:
    """Tell whether a host is an address, in any of its forms, that is not public.

    `127.1`, `0x7f.1` and `2130706433` reach the loopback through some resolvers.
    """
    labels = host.split(".")
    if all(label.isalnum() and _is_number(label) for label in labels):
        return not is_public(host)
    return ":" in host and not is_public(host)


def _is_number(label: str) -> bool:
    digits = label.removeprefix("0x")
    return bool(digits) and all(
        c in "0123456789abcdef" if label.startswith("0x") else c.isdigit() for c in digits
    )
