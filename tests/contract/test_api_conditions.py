"""Conditions, filters and scheduled publishing over HTTP, against a real store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.api_server import Api


async def status_of(api: Api, name: str) -> Any:
    return (await api.call("GET", f"/v1/{name}", key=api.key)).json


async def sent(api: Api, **message: Any) -> Any:
    answer = await api.send({"data": {"k": "v"}, **message})
    assert answer.status == 200, answer.text
    return await status_of(api, answer.json["name"])


async def test_the_status_tells_whom_a_message_is_for(api: Api) -> None:
    wanted = {"platform": ["ios"], "attributes": {"plan": ["pro"]}}
    condition = await sent(api, condition="'a' in topics && \"b\" in topics", filter=wanted)
    assert (condition["state"], condition["target"]) == ("in_progress", "condition")
    assert condition["condition"] == "'a' in topics && 'b' in topics"
    assert condition["filter"] == wanted
    assert condition["counts"] == {"accepted": 1}
    alone = await sent(api, filter={"language": "de"})
    assert (alone["target"], alone["filter"]) == ("filter", {"language": ["de"]})
    assert "condition" not in alone
    topic = await sent(api, topic="news", filter={"language": "de"})
    assert (topic["target"], topic["topic"], topic["filter"]) == ("topic", "news", alone["filter"])


async def test_a_condition_can_be_cancelled_validated_and_repeated(api: Api) -> None:
    message = {"condition": "'a' in topics"}
    checked = await api.send(message, validate_only=True)
    assert checked.json["name"].endswith("/fake_message_id")
    names = [(await api.send(message, idempotency_key="k")).json["name"] for _ in range(2)]
    assert names[0] == names[1]
    cancelled = await api.call("DELETE", f"/v1/{names[0]}", key=api.key)
    assert (cancelled.json["state"], cancelled.json["counts"]["cancelled"]) == ("done", 1)


async def test_a_batch_takes_all_kinds_of_targets(api: Api) -> None:
    device = await api.device()
    messages = [
        {"condition": "'a' in topics"},
        {"token": device["token"]},
        {"condition": "'a' in"},
        {"filter": {"platform": "ios"}},
        {"topic": "news"},
    ]
    answer = await api.call("POST", "messages:sendBatch", {"messages": messages}, key=api.key)
    responses = answer.json["responses"]
    assert ["name" in one for one in responses] == [True, True, False, True, True]
    targets = [(await status_of(api, responses[at]["name"]))["target"] for at in (0, 1, 3, 4)]
    assert targets == ["condition", "token", "filter", "topic"]


@pytest.mark.parametrize("target", [{"topic": "news"}, {"condition": "'a' in topics"}])
async def test_a_scheduled_message_to_many_waits_and_can_be_cancelled(
    api: Api, target: dict[str, str]
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    status = await sent(api, **target, send_at=later)
    assert (status["state"], status["counts"]) == ("scheduled", {"scheduled": 1})
    assert status["created_at"] < status["send_at"] < status["expires_at"]
    assert (await api.call("GET", "topics/news", key=api.key)).json["messages"] == 0
    cancelled = await api.call("DELETE", f"/v1/{status['name']}", key=api.key)
    assert (cancelled.json["state"], cancelled.json["counts"]) == (
        "done",
        {"scheduled": 1, "cancelled": 1},
    )
