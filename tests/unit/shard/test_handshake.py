"""The opening handshake: what is accepted, what is refused and how, however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from gateway.shard.handshake import (
    MAX_HEADER_BYTES,
    Accepted,
    Handshake,
    Refusal,
    Refused,
    Terms,
    make_terms,
    refusal_response,
)
from tests.conformance.wire import ACCEPT, JSON, MSGPACK, opening_request

TERMS = make_terms([MSGPACK, JSON], "*")
Outcome = Accepted | Refused | None


def admit() -> Refusal | None:
    return None


def shake(*chunks: bytes, terms: Terms = TERMS) -> Outcome:
    handshake = Handshake(terms, admit)
    outcome = None
    for chunk in chunks:
        assert outcome is None
        outcome = handshake.feed(chunk)
    return outcome


def status(outcome: Outcome) -> int:
    assert isinstance(outcome, Refused)
    return int(outcome.response.split(b" ", 2)[1])


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
def test_accepts_and_answers_the_key(subprotocol: str) -> None:
    outcome = shake(opening_request(subprotocol))
    assert isinstance(outcome, Accepted)
    assert outcome.subprotocol == subprotocol
    assert outcome.rest == b""
    lines = outcome.response.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Sec-WebSocket-Accept: " + ACCEPT in lines
    assert b"Sec-WebSocket-Protocol: " + subprotocol.encode() in lines
    assert outcome.response.endswith(b"\r\n\r\n")


def test_accepts_the_request_of_a_stock_client() -> None:
    uri = parse_uri("ws://localhost/v1/connect?x=1")
    client = ClientProtocol(uri, subprotocols=[Subprotocol(JSON), Subprotocol(MSGPACK)])
    client.send_request(client.connect())
    outcome = shake(b"".join(client.data_to_send()))
    assert isinstance(outcome, Accepted)
    assert outcome.subprotocol == MSGPACK
    client.receive_data(outcome.response)
    assert client.handshake_exc is None
    assert client.subprotocol == MSGPACK


def test_takes_no_extension() -> None:
    offer = {"Sec_WebSocket_Extensions": "permessage-deflate; client_max_window_bits"}
    outcome = shake(opening_request(**offer))
    assert isinstance(outcome, Accepted)
    assert b"Extensions" not in outcome.response


def test_hands_over_what_follows_the_request() -> None:
    request = opening_request() + b"\x81\x80abcd"
    whole = shake(request)
    assert isinstance(whole, Accepted)
    assert whole.rest == b"\x81\x80abcd"


def test_takes_the_request_byte_by_byte() -> None:
    request = opening_request()
    outcome = shake(*(request[index : index + 1] for index in range(len(request))))
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize("at", range(1, 5))
def test_finds_the_end_across_a_cut(at: int) -> None:
    request = opening_request() + b"rest"
    cut = len(request) - 4 - at
    outcome = shake(request[:cut], request[cut:])
    assert isinstance(outcome, Accepted)
    assert outcome.rest == b"rest"


REFUSED = [
    ("another path", opening_request(path="/"), 404),
    ("a longer path", opening_request(path="/v1/connect/x"), 404),
    ("no subprotocol", opening_request(""), 400),
    ("another subprotocol", opening_request("chat"), 400),
    ("POST", opening_request().replace(b"GET", b"POST", 1), 405),
    ("HTTP/1.0", opening_request().replace(b"HTTP/1.1", b"HTTP/1.0", 1), 505),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ("no upgrade", opening_request(drop="Upgrade"), 426),
    ("no connection", opening_request(drop="Connection"), 426),
    ("another upgrade", opening_request(Upgrade="h2c"), 426),
    ("no host", opening_request(drop="Host"), 400),
    ("no key", opening_request(drop="Sec-WebSocket-Key"), 400),
    ("short key", opening_request(Sec_WebSocket_Key="YWJj"), 400),
    ("key of no base64", opening_request(Sec_WebSocket_Key="!" * 24), 400),
    ("no version", opening_request(drop="Sec-WebSocket-Version"), 400),
    ("version 8", opening_request(Sec_WebSocket_Version="8"), 400),
    ("a body", opening_request(Content_Length="5"), 400),
    ("a chunked body", opening_request(Transfer_Encoding="chunked"), 400),
    ("a line of no header", opening_request().replace(b"Host:", b"Host", 1), 400),
    ("a long header", opening_request(X=("x" * MAX_HEADER_BYTES)), 431),
    ("many headers", opening_request(**{f"X{n}": "x" for n in range(80)}), 431),
]


@pytest.mark.parametrize(
    ("request_bytes", "code"), [pytest.param(*c[1:], id=c[0]) for c in REFUSED]
)
def test_refuses(request_bytes: bytes, code: int) -> None:
    outcome = shake(request_bytes)
    assert status(outcome) == code
    assert isinstance(outcome, Refused)
    assert outcome.reason in {"bad_request", "too_large"}
    head, _, body = outcome.response.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head
    assert body


def test_tells_which_subprotocols_and_which_version_it_speaks() -> None:
    outcome = shake(opening_request("chat"))
    assert isinstance(outcome, Refused)
    assert f"{MSGPACK}, {JSON}".encode() in outcome.response
    outcome = shake(opening_request(Sec_WebSocket_Version="8"))
    assert isinstance(outcome, Refused)
    assert b"Sec-WebSocket-Version: 13\r\n" in outcome.response


def test_a_request_without_an_end_is_refused_at_the_limit() -> None:
    handshake = Handshake(TERMS, admit)
    for _ in range(MAX_HEADER_BYTES // 64):
        assert handshake.feed(b"x" * 64) is None
    assert status(handshake.feed(b"x")) == 431
    assert status(shake(b"x" * (MAX_HEADER_BYTES + 1))) == 431


@pytest.mark.parametrize(
    ("allowed", "origin", "accepted"),
    [
        ("*", "https://a.example", True),
        ("*", None, True),
        ("", "https://a.example", False),
        ("", None, True),
        ("https://a.example, https://b.example", "https://b.example", True),
        ("https://a.example", "https://a.example.evil.example", False),
        ("https://a.example", None, True),
    ],
)
def test_checks_the_origin_of_browsers(allowed: str, origin: str | None, accepted: bool) -> None:
    request = opening_request(**({} if origin is None else {"Origin": origin}))
    outcome = shake(request, terms=make_terms([JSON], allowed))
    if accepted:
        assert isinstance(outcome, Accepted)
    else:
        assert status(outcome) == 403


def test_answers_a_health_check_without_asking_for_admission() -> None:
    def full() -> Refusal | None:
        raise AssertionError

    outcome = Handshake(TERMS, full).feed(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status(outcome) == 200


def test_a_full_shard_refuses_and_says_when_to_come_again() -> None:
    outcome = Handshake(TERMS, lambda: Refusal("full", 7)).feed(opening_request())
    assert outcome == Refused(refusal_response(Refusal("full", 7)), "full")
    assert status(outcome) == 503
    assert b"\r\nRetry-After: 7\r\n" in refusal_response(Refusal("full", 7))


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_random_bytes_are_refused_or_wait(chunks: list[bytes], ended: bool) -> None:
    outcome = Handshake(TERMS, admit).feed(b"".join(chunks) + (b"\r\n\r\n" if ended else b""))
    assert not isinstance(outcome, Accepted)
    assert ended is (outcome is not None) or any(b"\r\n\r\n" in chunk for chunk in chunks)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_mutated_request_is_judged(changes: list[tuple[int, int]]) -> None:
    data = bytearray(opening_request())
    for place, value in changes:
        data[place % (len(data) - 4)] = value
    outcome = shake(bytes(data))
    assert isinstance(outcome, Accepted) or 400 <= status(outcome) < 506
