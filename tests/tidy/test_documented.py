"""Whatever a user can meet by name stands in the documentation."""

import re

import msgspec
import pytest

from gateway.settings import Settings
from router.model.errors import CloseCode, ErrorCode
from tests.tidy import metrics_page
from tests.tidy.tree import ROOT, pages


def documentation() -> str:
    return "\n".join(text for page, text in pages().items() if ROOT / "docs" in page.parents)


def test_the_page_of_metrics_is_what_the_code_says() -> None:
    remedy = "run: python -m tests.tidy.metrics_page"
    assert metrics_page.PAGE.read_text() == metrics_page.page(), remedy


def test_every_metric_says_what_it_tells_in_a_sentence() -> None:
    assert len(metrics_page.metrics()) > 10
    for metric in metrics_page.metrics():
        assert metric._documentation.endswith("."), metric._name


@pytest.mark.parametrize("setting", [field.name for field in msgspec.structs.fields(Settings)])
def test_a_setting_is_documented(setting: str) -> None:
    assert re.search(rf"`(?:PUSHWIRE_{setting.upper()}|{setting})`", documentation())


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_an_error_is_documented(code: ErrorCode) -> None:
    names = {code.value.fcm or code.name, code.value.status, code.name}
    documented = documentation()
    assert f"`{code.value.http}`" in documented or f" {code.value.http} " in documented
    assert any(f"`{name}`" in documented for name in names)


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_a_close_code_is_documented(code: CloseCode) -> None:
    assert re.search(rf"\b{code.value}\b", (ROOT / "docs" / "protocol.md").read_text())
