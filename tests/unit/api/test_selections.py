"""Conditions and filters of messages: what is accepted, and how a fault is named."""

import json
from typing import Any

import pytest

from gateway.api.fcm_v1 import parse_send
from router.model.errors import PushError
from router.model.ids import BROADCAST
from router.model.message import Message, ReceiptMode
from router.model.selection import Filter, Selection
from tests.unit.api.tokens import TOKEN

NOW_MS = 1_900_000_000_000


def send(**message: Any) -> Message:
    return parse_send(json.dumps({"message": message}).encode(), NOW_MS).message


def faults(**message: Any) -> dict[str, str]:
    with pytest.raises(PushError) as refusal:
        send(**message)
    return {one.field: one.description for one in refusal.value.violations}


def test_a_condition_is_kept_in_its_canonical_form() -> None:
    message = send(condition="( \"a\" in topics )||!( 'b' in topics)")
    assert message.selection == Selection("'a' in topics || !'b' in topics")
    assert (message.log, message.topic) == (BROADCAST, None)
    assert message.receipts is ReceiptMode.AGGREGATE


def test_a_filter_takes_a_text_or_several() -> None:
    message = send(
        filter={
            "platform": ["ios", "android", "ios"],
            "language": "de",
            "app_version": " >=2.3.0 <3 ",
            "attributes": {"plan": ["pro", ""], "cohort": "a"},
        }
    )
    assert message.selection == Selection(
        filter=Filter(
            platform=("ios", "android"),
            language=("de",),
            app_version=">=2.3.0 <3",
            attributes={"plan": ("pro", ""), "cohort": ("a",)},
        )
    )
    assert message.log == BROADCAST
    assert send(filter={"appVersion": "1"}).selection == Selection(filter=Filter(app_version="1"))


def test_a_filter_selects_among_the_devices_of_a_topic_or_a_condition() -> None:
    ios = Filter(platform=("ios",))
    with_topic = send(topic="news", filter={"platform": "ios"})
    assert (with_topic.log, with_topic.selection) == ("news", Selection(filter=ios))
    both = send(condition="'a' in topics", filter={"platform": "ios"})
    assert both.selection == Selection("'a' in topics", ios)


def test_an_error_in_a_condition_points_at_the_column() -> None:
    with pytest.raises(
        PushError, match=r"message\.condition is wrong at column 17: expected a topic"
    ):
        send(condition="'a' in topics &&")


@pytest.mark.parametrize(
    ("filters", "path", "says"),
    [
        ({}, "filter", "must ask for something"),
        ({"platform": []}, "filter.platform", "1 to 100 texts"),
        ({"platform": ["i os"]}, "filter.platform", "such as android; 'i os' is none"),
        ({"platform": 1}, "filter.platform", "1 to 100 texts or a text"),
        ({"platform": ["x"] * 101}, "filter.platform", "1 to 100 texts"),
        ({"language": "german language"}, "filter.language", "BCP 47"),
        ({"region": ["DE", "_"]}, "filter.region", "such as DE or us-east; '_' is none"),
        ({"app_version": "new"}, "filter.app_version", "such as >=2.3.0 <3; 'new' is none"),
        ({"appVersion": "1 ||"}, "filter.appVersion", "a part of it is empty"),
        ({"attributes": {"plan": 1}}, "filter.attributes.plan", "a text of up to 256"),
        ({"attributes": {"x" * 65: "a"}}, "filter.attributes", "keys of 1 to 64 characters"),
        (
            {"attributes": {f"k{n}": "v" * 200 for n in range(20)}},
            "filter",
            "at most 4096 are accepted",
        ),
        ({"plan": "pro"}, "filter.plan", "unknown field"),
    ],
)
def test_a_bad_filter_names_its_field(filters: dict[str, Any], path: str, says: str) -> None:
    (found,) = faults(filter=filters).items()
    assert found[0] == f"message.{path}"
    assert says in found[1]


@pytest.mark.parametrize("target", [{"token": TOKEN}, {"user": "u"}, {"group": "g"}])
def test_a_filter_stands_beside_no_single_device(target: dict[str, str]) -> None:
    (found,) = faults(filter={"platform": "ios"}, **target).items()
    assert found[0] == "message.filter"
    assert next(iter(target)) in found[1]


def test_a_condition_is_the_only_target() -> None:
    assert list(faults(condition="'a' in topics", topic="news")) == ["message.condition"]
    assert list(faults(condition="'a' in topics", token=TOKEN)) == ["message.condition"]
