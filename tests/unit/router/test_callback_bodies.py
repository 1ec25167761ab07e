"""What callbacks say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.callbacks.bodies import Bodies
from router.model.ids import ProjectId
from router.model.receipt import Event
from router.model.webhook import Kind

NOW = 1_764_000_000_005


def record(event: str, detail: str = "", sent: int = 0, message: str = "m1") -> bytes:
    return f"demo|{message}|dev1|{event}|{NOW}|0|{sent}|{detail}".encode()


@pytest.mark.parametrize("event", sorted(set(Event) - {Event.UPSTREAM, Event.UNREGISTERED}))
def test_a_receipt_names_message_device_event_and_time(event: Event) -> None:
    told = Bodies().read(record(event), b"")
    assert told.kind is Kind.RECEIPTS
    assert json.loads(told.parts[0]) == {
        "message_id": "m1",
        "device_id": "dev1",
        "event": event.value,
        "time": "2025-11-24T16:00:00.005Z",
    }


def test_a_receipt_of_a_message_to_a_topic_as_a_whole_names_the_topic() -> None:
    raw = f"demo|m1|/topics/news.de|expired|{NOW}|0|0|".encode()
    assert json.loads(Bodies().read(raw, b"").parts[0]) == {
        "message_id": "m1",
        "device_id": "",
        "topic": "news.de",
        "event": "expired",
        "time": "2025-11-24T16:00:00.005Z",
    }


@pytest.mark.parametrize(
    "selection",
    [{"condition": "'a' in topics"}, {"filter": {"platform": ["ios"]}}, {}],
    ids=["condition", "filter", "forgotten"],
)
def test_a_receipt_of_a_message_to_a_condition_as_a_whole_names_it(
    selection: dict[str, object],
) -> None:
    raw = f"demo|m1|/topics/*|accepted|{NOW}|0|0|".encode()
    assert (Bodies.selected(raw), Bodies.device_of(raw)) == (b"m1", b"")
    assert Bodies.selected(record("sent")) == b""
    kept = {b"m1": json.dumps(selection).encode()} if selection else {}
    told = json.loads(Bodies().read(raw, b"", selections=kept).parts[0])
    assert told == {
        "message_id": "m1",
        "device_id": "",
        **selection,
        "event": "accepted",
        "time": "2025-11-24T16:00:00.005Z",
    }


@given(st.text().filter(lambda text: max(text, default="a") < "\ud800"))
def test_any_detail_is_quoted(detail: str) -> None:
    failed = json.loads(Bodies().read(record("nacked", detail), b"").parts[0])
    clicked = json.loads(Bodies().read(record("clicked", detail), b"").parts[0])
    assert failed.get("error", "") == detail
    assert clicked.get("action", "") == detail


def test_a_delivery_that_tells_of_its_sending_is_two_receipts() -> None:
    told = Bodies().read(record("delivered", sent=NOW - 3), b"")
    assert [json.loads(part)["event"] for part in told.parts] == ["sent", "delivered"]
    assert json.loads(told.parts[0])["time"] == "2025-11-24T16:00:00.002Z"


def test_a_receipt_names_the_user_of_its_device() -> None:
    users = {b"dev1": json.dumps('a"|b').encode(), b"dev2": b'"other"'}
    told = Bodies().read(record("delivered", sent=NOW - 3), b"", users)
    assert [json.loads(part)["user"] for part in told.parts] == ['a"|b'] * 2
    assert "user" not in json.loads(Bodies().read(record("sent"), b"").parts[0])


@pytest.mark.parametrize("event", ["upstream", "unregistered"])
def test_what_is_no_receipt_asks_for_no_user(event: str) -> None:
    assert Bodies.device_of(record(event)) == b""
    assert Bodies.device_of(record("sent", "a|b")) == b"dev1"


def test_around_receipts_stands_a_body() -> None:
    head, tail = Bodies().around(ProjectId("demo"), NOW)
    body = json.loads(head + b'{"a":1},{"a":2}' + tail)
    assert body == {
        "type": "message.receipts",
        "timestamp": "2025-11-24T16:00:00.005Z",
        "data": {"project": "demo", "receipts": [{"a": 1}, {"a": 2}]},
    }


def test_a_message_without_data_has_an_empty_object() -> None:
    told = Bodies().read(record("upstream", 'x"|y', message=""), b"")
    assert told.kind is Kind.MESSAGE
    assert json.loads(told.parts[0])["data"] == {
        "project": "demo",
        "device_id": "dev1",
        "message_id": 'x"|y',
        "data": {},
    }


def test_the_end_of_a_bridge_is_told_with_its_reason() -> None:
    whole = json.loads(Bodies().read(record("unregistered"), b"").parts[0])
    assert not {"bridge", "reason"} & whole["data"].keys()
    told = Bodies().read(record("unregistered", 'apns|410 "Unregistered"|x'), b"")
    body = json.loads(told.parts[0])
    assert (body["type"], told.kind) == ("device.unregistered", Kind.UNREGISTERED)
    assert body["data"]["device_id"] == whole["data"]["device_id"]
    assert (body["data"]["bridge"], body["data"]["reason"]) == ("apns", '410 "Unregistered"|x')
