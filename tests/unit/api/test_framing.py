"""Where requests begin and end, as far as that is plain."""

import pytest

from gateway.api.framing import Framing

LINE = b"POST /v1/projects/p/messages:send HTTP/1.1\r\n"


def request(*headers: bytes, body: bytes = b"", line: bytes = LINE) -> bytes:
    return line + b"".join(header + b"\r\n" for header in (b"Host: x", *headers)) + b"\r\n" + body


@pytest.mark.parametrize(
    "data",
    [
        request(b"Content-Length: 5", body=b"12345"),
        request(b"content-length: 5", b"Connection: Keep-Alive", body=b"12345"),
        request(line=b"GET /healthz HTTP/1.1\r\n"),
        request(b"Content-Length: 0"),
    ],
)
def test_a_plain_request_is_whole(data: bytes) -> None:
    framing = Framing()
    assert framing.begin(data)
    assert not framing.left
    assert not framing.lost
    assert framing.begin(data), "the next one"


def test_a_body_may_come_in_pieces() -> None:
    framing = Framing()
    assert framing.begin(request(b"Content-Length: 5", body=b"1"))
    assert (framing.left, framing.body) == (4, 5)
    assert framing.go_on(b"23")
    assert framing.go_on(b"45")
    assert not framing.left


def test_the_same_head_may_come_with_another_body_or_more_than_it() -> None:
    framing = Framing()
    assert framing.begin(request(b"Content-Length: 5", body=b"12345"))
    assert framing.begin(request(b"Content-Length: 5", body=b"67"))
    assert framing.left == 3
    assert framing.go_on(b"890")
    assert framing.begin(request(b"Content-Length: 3", body=b"123"))
    assert (framing.left, framing.body) == (0, 3)
    assert not framing.begin(request(b"Content-Length: 3", body=b"1234"))
    assert framing.lost


@pytest.mark.parametrize(
    "data",
    [
        request(b"Content-Length: 5", body=b"12345G"),
        request(b"Content-Length: 5", b"Content-Length: 6", body=b"12345"),
        request(b"Content-Length:5", body=b"12345"),
        request(b"Content-Length : 5", body=b"12345"),
        request(b"Content-Length: +5", body=b"12345"),
        request(b"Content-Length: 5x", body=b"12345"),
        request(b"Content-Length: " + b"9" * 40),
        request(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"12345"),
        request(b"Content-Length: 5", b"Expect: 100-continue"),
        request(b"Connection: close"),
        request(b"Connection: keep-alive", b"Connection: close"),
        request(b"Connection: Upgrade", b"Upgrade: h2c"),
        request(b"X: a\nContent-Length: 5"),
        request(line=b"POST /v1 HTTP/1.0\r\n"),
        request(line=b"POST http://x/v1 HTTP/1.1\r\n"),
        request(line=b"post /v1 HTTP/1.1\r\n"),
        LINE,
        b"garbage",
    ],
)
def test_anything_else_is_left_to_the_parser(data: bytes) -> None:
    framing = Framing()
    assert not framing.begin(data)
    assert framing.lost


def test_more_than_the_body_is_left_to_the_parser() -> None:
    framing = Framing()
    framing.begin(request(b"Content-Length: 5"))
    assert not framing.go_on(b"12345POST")
    assert framing.lost
