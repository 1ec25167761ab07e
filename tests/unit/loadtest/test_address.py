"""URLs lead where they say, and a load test only to this machine unless told otherwise."""

import pytest

from loadtest.address import is_this_machine, target_of
from loadtest.run.ground import GroundError, check


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, False),
        ("ws://example.com", "example.com", 80, False),
        ("https://example.com/x", "example.com", 443, True),
        ("wss://[::1]:8443", "::1", 8443, True),
    ],
)
def test_a_url_is_taken_apart(url: str, host: str, port: int, tls: bool) -> None:
    target = target_of(url)
    assert (target.host, target.port, target.tls is not None) == (host, port, tls)


@pytest.mark.parametrize("url", ["", "nowhere", "ftp://example.com", "http://", "http:///x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is no URL: accepts http, https, ws or wss"):
        target_of(url)


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:1", True),
        ("ws://127.8.9.1:1", True),
        ("http://[::1]:1", True),
        ("http://192.0.2.1:1", False),
        ("http://[2001:db8::1]:1", False),
        ("http://0.0.0.1:1", False),
    ],
)
def test_this_machine_is_loopback_alone(url: str, here: bool) -> None:
    assert is_this_machine(url) is here
    if here:
        check(url, owned=False)
    else:
        with pytest.raises(GroundError, match="add --i-own-this-server"):
            check(url, owned=False)
    check(url, owned=True)


def test_a_url_that_is_not_known_yet_is_no_fault() -> None:
    check("", owned=False)
    with pytest.raises(GroundError, match="is no URL"):
        check("nowhere", owned=False)
