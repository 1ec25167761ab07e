"""Sending, status and cancelling over HTTP, against a real store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.api_server import Api


async def test_a_send_is_stored_and_its_status_told(api: Api) -> None:
    device = await api.device()
    sent = await api.send({"token": device["token"], "notification": {"title": "t"}, "ttl": "60s"})
    assert sent.status == 200
    name = sent.json["name"]
    assert name.startswith(f"projects/{api.project}/messages/")
    status = (await api.call("GET", f"/v1/{name}", key=api.key)).json
    assert status["name"] == name
    assert status["state"] == "accepted"
    assert status["counts"] == {"accepted": 1}
    assert status["deliveries"] == [
        {"device_id": device["device_id"], "state": "accepted", "attempts": 0}
    ]
    assert [entry["type"] for entry in status["timeline"]] == ["accepted"]
    assert status["created_at"].endswith("Z")
    assert status["created_at"] < status["expires_at"]


async def test_a_cancelled_message_is_gone(api: Api) -> None:
    device = await api.device()
    name = (await api.send({"token": device["token"]})).json["name"]
    cancelled = await api.call("DELETE", f"/v1/{name}", key=api.key)
    assert cancelled.json["state"] == "cancelled"
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 0


@pytest.mark.parametrize("ttl", ["0s", "60s"])
async def test_a_scheduled_message_says_so(api: Api, ttl: str) -> None:
    device = await api.device()
    at_ms = api.services.clock.now_ms() + 3_600_000
    sent = await api.send({"token": device["token"], "sendAt": rfc3339_text(at_ms), "ttl": ttl})
    status = (await api.call("GET", f"/v1/{sent.json['name']}", key=api.key)).json
    assert status["state"] == "scheduled"
    assert status["created_at"] < status["send_at"] <= status["expires_at"]


def rfc3339_text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


async def test_unknown_messages_are_not_found(api: Api) -> None:
    for identifier in ("x", "00" + "0" * 9 + "a" * 16):
        for method in ("GET", "DELETE"):
            answer = await api.call(method, f"messages/{identifier}", key=api.key)
            assert answer.status == 404
            assert answer.error["status"] == "NOT_FOUND"


async def test_messages_of_other_projects_are_not_found(api: Api) -> None:
    device = await api.device()
    name = (await api.send({"token": device["token"]})).json["name"]
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    identifier = name.rsplit("/", 1)[1]
    answer = await api.call(
        "GET", f"/v1/projects/{other.project}/messages/{identifier}", key=other.api_key
    )
    assert answer.status == 404


async def test_errors_of_a_send(api: Api) -> None:
    device = await api.device()
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    body: Any = {"message": {"token": device["token"]}}
    foreign = await api.call(
        "POST", f"/v1/projects/{other.project}/messages:send", body, key=other.api_key
    )
    assert (foreign.status, foreign.fcm_code) == (403, "SENDER_ID_MISMATCH")
    await api.call("POST", f"devices/{device['device_id']}:rotateToken", key=api.key)
    old = await api.send({"token": device["token"]})
    assert (old.status, old.fcm_code) == (404, "UNREGISTERED")
    bad = await api.send({"token": device["token"], "android": {"foo": 1}})
    assert (bad.status, bad.fcm_code) == (400, "INVALID_ARGUMENT")
    assert bad.fields == ["message.android.foo"]
    large = await api.send({"token": device["token"], "data": {"a": "x" * 4097}})
    assert (large.status, large.fcm_code) == (400, "INVALID_ARGUMENT")


async def test_validate_only_sends_nothing(api: Api) -> None:
    device = await api.device()
    token = device["token"]
    good = await api.send({"token": token}, validate_only=True)
    assert good.json == {"name": f"projects/{api.project}/messages/fake_message_id"}
    unknown = token[:-1] + ("a" if token[-1] != "a" else "b")
    assert (await api.send({"token": unknown}, validate_only=True)).status == 404
    large = {"token": token, "data": {"a": "x" * 4097}}
    assert (await api.send(large, validate_only=True)).status == 400
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    foreign = await api.call(
        "POST",
        f"/v1/projects/{other.project}/messages:send",
        {"message": {"token": token}, "validateOnly": True},
        key=other.api_key,
    )
    assert foreign.fcm_code == "SENDER_ID_MISMATCH"
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 0


@pytest.mark.parametrize("place", ["fcm_options", "android"])
@pytest.mark.parametrize("kind", ["token", "scheduled", "topic"])
async def test_the_status_carries_the_analytics_label_and_rates(
    api: Api, place: str, kind: str
) -> None:
    options: Any = {"analytics_label": "winter.sale~1"}
    options = options if place == "fcm_options" else {"fcm_options": options}
    target = {"topic": "news"} if kind == "topic" else {"token": (await api.device())["token"]}
    if kind == "scheduled":
        target["send_at"] = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    answer = await api.send({**target, place: options})
    assert answer.status == 200, answer.text
    name = answer.json["name"].rpartition("/")[2]
    status = (await api.call("GET", f"messages/{name}", key=api.key)).json
    assert status["analytics_label"] == "winter.sale~1"
    assert status["rates"] == dict.fromkeys(
        ["delivered", "displayed", "opened", "clicked", "dismissed"], 0.0
    )


async def test_a_topic_that_is_not_counted_has_no_rates(api: Api) -> None:
    answer = await api.send({"topic": "news", "receipts": "none"})
    name = answer.json["name"].rpartition("/")[2]
    status = (await api.call("GET", f"messages/{name}", key=api.key)).json
    assert "rates" not in status
    assert "analytics_label" not in status


async def test_an_idempotency_key_answers_the_first_result(api: Api) -> None:
    device = await api.device()
    body = {"message": {"token": device["token"]}}

    async def send(content: Any, key: str) -> Any:
        return await api.call("POST", "messages:send", content, key=api.key, Idempotency_Key=key)

    first = await send(body, "one")
    again = await send(body, "one")
    assert first.json == again.json
    assert (await send(body, "two")).json != first.json
    reused = await send({"message": {"token": device["token"], "ttl": "5s"}}, "one")
    assert reused.status == 422
    inside = [
        (await api.send({"token": device["token"]}, idempotency_key="three")).json for _ in range(2)
    ]
    assert inside[0] == inside[1]
    assert (await send(body, "x" * 256)).fields == ["Idempotency-Key"]


async def test_a_batch_answers_each_message_in_order(api: Api) -> None:
    device = await api.device()
    token = device["token"]
    unknown = token[:-1] + ("a" if token[-1] != "a" else "b")
    messages = [{"token": token}, {"token": unknown}, {"token": token, "ttl": 1}] * 3
    answer = await api.call("POST", "messages:sendBatch", {"messages": messages}, key=api.key)
    assert answer.status == 200
    kinds = [
        "name" if "name" in one else one["error"]["details"][0]["errorCode"]
        for one in answer.json["responses"]
    ]
    assert kinds == ["name", "UNREGISTERED", "INVALID_ARGUMENT"] * 3
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 3


async def test_a_batch_may_be_validated_and_repeated(api: Api) -> None:
    device = await api.device()
    messages = [{"token": device["token"]}, {"token": "x"}]
    dry = await api.call(
        "POST", "messages:sendBatch", {"messages": messages, "validate_only": True}, key=api.key
    )
    assert dry.json["responses"][0]["name"].endswith("/fake_message_id")
    assert dry.json["responses"][1]["error"]["code"] == 400
    repeats = [
        await api.call(
            "POST", "messages:sendBatch", {"messages": messages}, key=api.key, Idempotency_Key="k"
        )
        for _ in range(2)
    ]
    assert repeats[0].json == repeats[1].json
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 1


async def test_a_batch_of_more_than_500_is_refused(api: Api) -> None:
    body = {"messages": [{"token": "x"}] * 501}
    answer = await api.call("POST", "messages:sendBatch", body, key=api.key)
    assert answer.status == 400
    assert answer.fields == ["messages"]
    assert "must be an array of up to 500 messages, not of 501" in answer.error["message"]
