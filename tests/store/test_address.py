"""Store URLs: what they may say, and what is told of those that are none."""

import pytest

from router.store.address import Address, Sentinels, Servers, describe, parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://store", Address(host="store")),
        ("redis://", Address()),
        ("redis://store:7000/3", Address(host="store", port=7000, database=3)),
        ("redis://store?db=3", Address(host="store", database=3)),
        ("redis://[::1]:7000", Address(host="::1", port=7000)),
        ("redis://[::1]", Address(host="::1")),
        ("rediss://store", Address(host="store", tls=True)),
        (
            "rediss://store?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
            Address(host="store", tls=True, ca_file="/ca.pem", verify=False),
        ),
        ("unix:///run/a%20b.sock?db=2", Address(path="/run/a b.sock", database=2)),
    ],
)
def test_a_url_of_one_server(url: str, address: Address) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize("where", ["redis://{}@store", "unix://{}@/run/s.sock"])
def test_a_login_may_have_any_character(where: str) -> None:
    found = parse_url(where.format("u%40x:p%2Fq"))
    assert isinstance(found, Address)
    assert (found.username, found.password) == ("u@x", "p/q")
    assert "u@x" not in describe(found)


def test_sentinels_have_a_login_of_their_own() -> None:
    url = (
        "rediss+sentinel://push:secret@one,two:7000,[::1]:7001/my%20service/2"
        "?sentinel_username=s&sentinel_password=hidden&ssl_ca_certs=/ca.pem"
    )
    found = parse_url(url)
    assert isinstance(found, Sentinels)
    own = found.sentinels[0]
    assert (own.username, own.password, own.tls, own.ca_file) == ("s", "hidden", True, "/ca.pem")
    assert found.service == "my service"
    assert found.sentinels == (own.at("one", 26_379), own.at("two", 7000), own.at("::1", 7001))
    primary = found.login.at("p", 6379)
    assert (primary.username, primary.password) == ("push", "secret")
    assert (primary.database, primary.tls, primary.ca_file) == (2, True, "/ca.pem")
    assert describe(found) == "my service (by Sentinel one:26379, two:7000, ::1:7001)"


def test_a_cluster_is_known_by_some_of_its_nodes() -> None:
    found = parse_url("rediss+cluster://push:secret@one,two:7000,[::1]:7001?ssl_ca_certs=/ca.pem")
    assert isinstance(found, Servers)
    assert found.seeds == (
        found.login.at("one", 6379),
        found.login.at("two", 7000),
        found.login.at("::1", 7001),
    )
    login = found.login
    assert (login.username, login.password, login.tls) == ("push", "secret", True)
    assert describe(found) == "the cluster of one:6379, two:7000, ::1:7001"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("store:6379", "begins with none of these"),
        ("http://store", "begins with none of these"),
        ("redis://one,two", "names several servers"),
        ("redis://store:port", "a port is a number"),
        ("redis://store:0", "a port is a number"),
        ("redis://store/x", "a database is a number"),
        ("redis://store?db=-1", "a database is a number"),
        ("redis://store?timeout=1", "the options are db, ssl_ca_certs, ssl_cert_reqs"),
        ("unix://", "names no socket"),
        ("redis+cluster://one/1", "no other database than 0"),
        ("redis+cluster://one?db=1", "no other database than 0"),
        ("redis+sentinel://one,two", "names no service"),
        ("redis+sentinel://one/push/x", "a database is a number"),
        ("redis+sentinel://one/push?sentinel=x", "the options are .*sentinel_password"),
    ],
)
def test_what_is_no_url_is_told(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_url(url)
