"""Where a command finds the API, and what it says where that cannot be."""

from pathlib import Path

import pytest

from gateway.cli.api_client import api_url
from gateway.settings import Settings
from router.model.errors import PushError


def test_a_url_is_taken_as_given() -> None:
    assert api_url(Settings(), "https://push.example.com/") == "https://push.example.com"


@pytest.mark.parametrize("given", ["push.example.com", "127.0.0.1:8080", "ws://x", "/"])
def test_what_is_no_url_is_refused_before_it_gets_into_a_file(given: str) -> None:
    with pytest.raises(PushError, match=r"--api-url .* takes a URL such as http://127"):
        api_url(Settings(), given)


def test_without_one_it_is_that_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="127.0.0.1", api_port=9)
    assert api_url(settings, "") == "http://127.0.0.1:9"
