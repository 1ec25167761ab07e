"""Whose request it is: the address of a client, behind proxies or not. No I/O.

`X-Forwarded-For` and `Forwarded` (RFC 7239) are written by whoever likes to. They are read from the
right, as long as the one who says it is a proxy of ours: what stands further left is hearsay.
"""

import functools
import ipaddress
import re
from collections.abc import Sequence

import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_FOR = re.compile(r"""(?:^|;)\s*for=(?:"([^"]*)"|([^;,\s"]*))""", re.IGNORECASE)
_QUOTED_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
_V6_PREFIX = 64
"""Bits of an IPv6 address by which clients are told apart: a home has a whole /64."""
_MAX_HOPS = 32


class Clients(msgspec.Struct, frozen=True):
    """How clients are told apart.

    Args:
        proxies: networks whose word counts.
        loopback: whether loopback addresses are clients as others; else they have no name.
    """

    proxies: tuple[Network, ...] = ()
    loopback: bool = False

    def trusts(self, peer: str) -> bool:
        """Tell whether a peer is a proxy of ours."""
        address = parse_address(peer)
        return address is not None and self._is_proxy(address)

    def name(
        self, peer: str, forwarded_for: Sequence[str] = (), forwarded: Sequence[str] = ()
    ) -> str:
        """Name the client by its address, or the /64 of it; empty for one without a limit.

        Args:
            peer: the address of the socket; empty for a unix socket.
            forwarded_for: values of `X-Forwarded-For`, in order.
            forwarded: values of `Forwarded`, in order; they count where the other is missing.
        """
        client = parse_address(peer)
        if client is None:
            return ""
        if self.proxies and self._is_proxy(client):
            hops = _hops(forwarded_for) or _fors(forwarded)
            for hop in reversed(hops[-_MAX_HOPS:]):
                found = parse_address(hop)
                if found is None:
                    break
                client = found
                if not self._is_proxy(client):
                    break
        if client.is_loopback and not self.loopback:
            return ""
        if client.version == 4:  # noqa: PLR2004 - the Internet Protocol's
            return str(client)
        return str(ipaddress.ip_network((client, _V6_PREFIX), strict=False))

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self.proxies)


def parse_proxies(text: str) -> tuple[Network, ...]:
    """Read the setting `trusted_proxies`.

    Raises:
        ValueError: a part is neither an address nor a network.
    """
    parts = [part.strip() for part in text.split(",")]
    return tuple(ipaddress.ip_network(part, strict=False) for part in parts if part)


@functools.lru_cache(maxsize=4096)
def parse_address(text: str) -> Address | None:
    """Read an address, with a port or brackets or not; None where it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _hops(values: Sequence[str]) -> list[str]:
    return [hop.strip() for value in values for hop in value.split(",") if hop.strip()]


def _fors(values: Sequence[str]) -> list[str]:
    hops = [hop for value in values for hop in _QUOTED_COMMA.split(value) if hop.strip()]
    found = [_FOR.search(hop) for hop in hops]
    return ["" if one is None else one[1] or one[2] or "" for one in found]
