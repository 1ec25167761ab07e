"""Whose request it is; nobody may say that it is somebody else's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import Clients, parse_address, parse_proxies

PROXIES = Clients(parse_proxies("10.0.0.0/8, 192.0.2.7,2001:db8:1::/48"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),  # a client cannot speak for others
        ("10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # nor through a proxy
        ("10.1.1.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.1.1.1", ["1.1.1.1, 203.0.113.9, 192.0.2.7"], "203.0.113.9"),
        ("10.1.1.1", ["10.2.2.2"], "10.2.2.2"),
        ("10.1.1.1", ["203.0.113.9:5678"], "203.0.113.9"),
        ("10.1.1.1", ["nonsense"], "10.1.1.1"),
        ("10.1.1.1", ["1.1.1.1, nonsense, 192.0.2.7"], "192.0.2.7"),
        ("2001:db8:1::5", ["[2001:db8:ff:1::9]:443"], "2001:db8:ff:1::/64"),
        ("2001:db8:2:3:4:5:6:7", [], "2001:db8:2:3::/64"),
        ("::ffff:198.51.100.1", [], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", [], ""),
        ("::1", [], ""),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_the_client_is_who_the_nearest_proxy_names(
    peer: str, forwarded_for: list[str], client: str
) -> None:
    assert PROXIES.name(peer, forwarded_for) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["for=203.0.113.9"], "203.0.113.9"),
        (['For="[2001:db8:ff:1::9]:47011"'], "2001:db8:ff:1::/64"),
        (["for=1.1.1.1;proto=http, for=203.0.113.9;by=10.1.1.1"], "203.0.113.9"),
        (["proto=https; for=203.0.113.9"], "203.0.113.9"),
        (["for=1.1.1.1, for=unknown"], "10.1.1.1"),
        (["for=1.1.1.1, for=_hidden"], "10.1.1.1"),
        (["for=1.1.1.1, proto=http"], "10.1.1.1"),
        (['for="203.0.113.9, for=1.1.1.1"'], "10.1.1.1"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_says(forwarded: list[str], client: str) -> None:
    assert PROXIES.name("10.1.1.1", (), forwarded) == client


@given(st.lists(st.text(max_size=60), max_size=4), st.lists(st.text(max_size=60), max_size=4))
def test_a_stranger_is_its_own_address_whatever_it_says(
    forwarded_for: list[str], forwarded: list[str]
) -> None:
    assert PROXIES.name("198.51.100.1", forwarded_for, forwarded) == "198.51.100.1"


@given(st.lists(st.text(max_size=60), max_size=4))
def test_what_a_client_adds_on_the_left_changes_nothing(said: list[str]) -> None:
    assert PROXIES.name("10.1.1.1", [*said, "203.0.113.9"]) == "203.0.113.9"


def test_without_proxies_nobody_is_heard() -> None:
    assert Clients().name("10.1.1.1", ["203.0.113.9"], ["for=203.0.113.9"]) == "10.1.1.1"


def test_loopback_counts_where_it_is_asked_for() -> None:
    assert Clients(loopback=True).name("127.0.0.1") == "127.0.0.1"


def test_networks_are_checked() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        parse_proxies("10.0.0.0/99")


def test_what_is_no_address_has_none() -> None:
    assert parse_address("example.com") is None
