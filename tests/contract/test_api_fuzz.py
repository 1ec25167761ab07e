"""Anything may be posted: the answer is never a 5xx, never a traceback, always the one shape."""

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.fcm_v1 import SendRequest, parse_batch, parse_send
from router.model.errors import ErrorCode, PushError
from tests.contract.api_server import ADMIN_KEY, Api
from tests.unit.api.test_fcm_v1 import EVERY_FIELD, NOW_MS
from tests.unit.api.tokens import TOKEN

NAMES = sorted({*EVERY_FIELD, *EVERY_FIELD["android"], *EVERY_FIELD["android"]["notification"]})

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text()
    | st.sampled_from([TOKEN, "3.5s", "-1s", "high", "#ffffff", "2030-01-31T08:00:00Z", "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=20,
)
messages = st.fixed_dictionaries(
    {"token": st.just(TOKEN)},
    optional={name: values | st.just(EVERY_FIELD[name]) for name in EVERY_FIELD if name != "token"},
)
bodies = (
    st.binary(max_size=200)
    | values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | messages.map(lambda message: json.dumps({"message": message}).encode())
    | st.integers(1, 5000).map(lambda depth: b'{"message":' * depth)
)

hard = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def outcome(parse: Callable[[bytes, int], object], body: bytes) -> object:
    """Give what was read, or why it was refused."""
    try:
        return parse(body, NOW_MS)
    except PushError as refused:
        return refused


@given(messages | values)
def test_any_message_is_read_or_refused(message: Any) -> None:
    found = outcome(parse_send, json.dumps({"message": message}).encode())
    if isinstance(found, PushError):
        assert found.code is ErrorCode.INVALID_ARGUMENT
    else:
        assert isinstance(found, SendRequest)
        assert found.message.token == TOKEN


@given(bodies)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for parse in (parse_send, parse_batch):
        found = outcome(parse, body)
        if isinstance(found, PushError):
            assert found.code is ErrorCode.INVALID_ARGUMENT
            assert found.violations or "JSON" in found.message


@given(messages)
def test_what_is_accepted_can_be_stored(message: Any) -> None:
    found = outcome(parse_send, json.dumps({"message": message}).encode())
    if isinstance(found, SendRequest):
        assert orjson.dumps(msgspec.to_builtins(found.message))


@hard
@given(data=st.data())
async def test_no_request_breaks_the_server(api: Api, data: st.DataObject) -> None:
    method = data.draw(st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]))
    path = data.draw(
        st.sampled_from(
            [
                "messages:send",
                "messages:sendBatch",
                "messages/x",
                "devices",
                "devices/0123456789abcdef",
                "devices/0123456789abcdef:rotateToken",
                "keys",
                "/oauth2/token",
                "/v1/projects",
            ]
        )
        | st.text("abz:/%.{}~ü", max_size=20).map(lambda text: "/" + text)
    )
    headers = data.draw(
        st.dictionaries(
            st.sampled_from(["Idempotency_Key", "X_Client_Key", "Content_Type", "Expect"]),
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
        )
    )
    key = data.draw(st.sampled_from([api.key, ADMIN_KEY, "", "pw_" + "x" * 32, "ü"]))
    body = data.draw(bodies)
    try:
        answer = await api.call(method, path, body, key=key, **headers)
    except aiohttp.InvalidURL:
        return
    assert answer.status < 500, answer.text
    if answer.status >= 400 and path != "/oauth2/token":
        assert answer.error
