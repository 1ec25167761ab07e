"""What a refused body is told: the field, and what is accepted there."""

from typing import Any

import pytest

from gateway.api.resources.groups import NewGroup
from gateway.api.resources.topics import Tokens
from gateway.api.resources.webhooks import NewWebhook
from gateway.api.violations import Reader

_TOKENS = "must be an array of 1 to 1000 tokens"


@pytest.mark.parametrize(
    ("model", "body", "field", "description"),
    [
        (Tokens, {"tokens": []}, "tokens", f"{_TOKENS}, not of 0"),
        (Tokens, {"tokens": ["x"] * 1001}, "tokens", f"{_TOKENS}, not of 1001"),
        (Tokens, {"tokens": "x"}, "tokens", _TOKENS),
        (Tokens, {"tokens": None}, "tokens", f"{_TOKENS}, not null"),
        (Tokens, {"tokens": ["x", 1]}, "tokens[1]", "must be a token"),
        (Tokens, {"tokens": [["x"]]}, "tokens[0]", "must be a token, not an array"),
        (
            NewGroup,
            {"group": "g", "tokens": ["x"] * 1001},
            "tokens",
            "must be an array of up to 1000 tokens, not of 1001",
        ),
        (NewWebhook, {"url": 5}, "url", "must be an http or https URL with a host"),
    ],
)
def test_a_fault_says_what_is_accepted(
    model: type[Any], body: object, field: str, description: str
) -> None:
    reader = Reader()
    reader.read(body, model, "", "")
    (fault,) = reader.violations
    assert (fault.field, fault.description) == (field, description)
