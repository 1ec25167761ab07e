"""Where callbacks may go."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.destinations import is_public, url_violation

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1",  # noqa: S104
    "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1",
    "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::1",
    "64:ff9b:1::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "", "x", "127.1", "2130706433",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1",
          "2606:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_taken(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_carrying_an_address_in_ipv6_changes_nothing(address: ipaddress.IPv4Address) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))
    if not is_public(str(address)):
        assert not is_public(f"64:ff9b::{int(address) >> 16:x}:{int(address) & 0xFFFF:x}")
        assert not is_public(f"2002:{int(address) >> 16:x}:{int(address) & 0xFFFF:x}::1")


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "http://hooks.example.com:8080/a/b?c=d",
        "https://8.8.8.8/hook",
        "https://[2606:4700::1111]/hook",
        "https://127-0-0-1.example.com/",
        "https://123.example.com/",
        "https://my_hooks.example.com./",
        f"https://{'a' * 63}.example.com/",
    ],
)
def test_a_url_that_may_be_set(url: str) -> None:
    assert url_violation(url, allow_private=False) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:pass@hooks.example.com/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:99999/",
        "https://[::1/",
        "https://hooks.example.com/\r\nX: y",
        "https://hooks.example.com/a b",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://h%6foks.example.com/",
        "https://hööks.example.com/",
        "https://hooks..example.com/",
        "https://.example.com/",
        "https://hooks.example.com../",
        "https://.../",
        f"https://{'a' * 64}.example.com/",
        f"https://{'a.' * 130}com/",
        "https://[fe80::1%25eth0]/",
        "https://hooks.example.com/" + "a" * 2100,
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_a_url_that_is_none_is_refused(url: str, allow_private: bool) -> None:
    violation = url_violation(url, allow_private=allow_private)
    assert violation is not None
    assert violation.field == "url"


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.1", "2130706433",
        "0x7f.1", "0x7f000001", "0177.0.0.1", "10.0.0.1", "10.0.0.1.", "[::1]", "[::ffff:10.0.0.1]",
        "169.254.169.254",
    ],
)  # fmt: skip
def test_a_private_url_takes_the_setting(host: str) -> None:
    assert url_violation(f"http://{host}/hook", allow_private=False) is not None
    assert url_violation(f"http://{host}/hook", allow_private=True) is None


@given(st.text(max_size=60))
def test_no_text_is_too_odd(url: str) -> None:
    url_violation(url, allow_private=False)
    url_violation(f"https://{url}", allow_private=False)
    is_public(url)
