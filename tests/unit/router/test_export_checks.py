"""Settings of the export that do not fit are refused by name."""

import pytest

from router.export.checks import parse_headers, violation
from router.export.sink import sink_modules


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///var/lib/pushwire/export",
        "file://localhost/srv/a%20b",
        "http://127.0.0.1:9000/bucket",
        "https://collector.example.com/in?sig=a%2Bb",
    ],
)
def test_a_destination_that_fits(url: str) -> None:
    assert violation(url, "ndjson", "auto", "") == ""


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("/var/lib/export", "URLs that begin with file or http or https"),
        ("s3://bucket", "URLs that begin with file or http or https"),
        ("file://export", "file:///var/lib/pushwire/export"),
        ("file:///a?b=c", "file:///var/lib/pushwire/export"),
        ("https://", "a host"),
        ("https://user:secret@example.com/", "without user"),
        ("https://example.com/#a", "fragment"),
        ("https://example.com:0/", "a host"),
        ("https://example.com:x/", "a host"),
        ("https://exa mple.com/", "a host"),
    ],
)
def test_a_destination_that_does_not_fit(url: str, accepted: str) -> None:
    told = violation(url, "ndjson", "auto", "")
    assert told.startswith("export_url: accepts ")
    assert accepted in told
    assert "secret" not in told


def test_headers_stand_one_a_line() -> None:
    assert parse_headers(" Authorization: Bearer a:b \n\nx-ms-blob-type:BlockBlob\n") == (
        ("Authorization", "Bearer a:b"),
        ("x-ms-blob-type", "BlockBlob"),
    )


@pytest.mark.parametrize(
    "text", ["secret", ": secret", "a b: secret", "a:", "a: secret\x01", "Host: secret", "a: sé"]
)
def test_headers_that_do_not_fit_are_not_quoted(text: str) -> None:
    assert parse_headers(text) is None
    told = violation("https://example.com/", "ndjson", "auto", text)
    assert told.startswith("export_headers: accepts ")
    assert "secret" not in told


def test_every_sink_is_found_by_its_schemes() -> None:
    assert set(sink_modules()) == {"file", "http", "https"}
