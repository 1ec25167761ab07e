"""Topics over HTTP, against a real store."""

from typing import Any

import pytest

from router.model.ids import DeviceId, parse_token
from router.model.topic import MAX_TOPICS
from router.store import keys
from tests.contract.api_server import Api


async def publish(api: Api, **fields: Any) -> Any:
    answer = await api.send({"topic": "news", "data": {"k": "v"}, **fields})
    assert answer.status == 200, answer.text
    return (await api.call("GET", f"/v1/{answer.json['name']}", key=api.key)).json


async def test_a_publish_is_stored_and_its_status_told(api: Api) -> None:
    status = await publish(api, collapse_key="c")
    assert (status["state"], status["target"], status["topic"]) == ("in_progress", "topic", "news")
    assert (status["counts"], status["deliveries"]) == ({"accepted": 1}, [])
    assert [entry["type"] for entry in status["timeline"]] == ["accepted"]
    cancelled = await api.call("DELETE", f"/v1/{status['name']}", key=api.key)
    assert (cancelled.json["state"], cancelled.json["counts"]["cancelled"]) == ("done", 1)
    assert (await publish(api, ttl="0s"))["state"] == "done"


async def test_a_message_is_of_its_project_alone(api: Api) -> None:
    status = await publish(api)
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    identifier = status["name"].rpartition("/")[2]
    for method in ("GET", "DELETE"):
        path = f"/v1/projects/{other.project}/messages/{identifier}"
        assert (await api.call(method, path, key=other.api_key)).status == 404
    again = await api.call("GET", f"/v1/{status['name']}", key=api.key)
    assert again.json["state"] == "in_progress"


async def test_validate_only_publishes_nothing(api: Api) -> None:
    answer = await api.send({"topic": "news"}, validate_only=True)
    assert answer.json["name"].endswith("/fake_message_id")
    view = (await api.call("GET", "topics/news", key=api.key)).json
    assert view == {"topic": "news", "subscribers": 0, "messages": 0}


async def test_an_idempotency_key_answers_the_first_result(api: Api) -> None:
    names = [
        (await api.send({"topic": "news"}, idempotency_key="k")).json["name"] for _ in range(2)
    ]
    assert names[0] == names[1]
    assert (await api.send({"topic": "news", "ttl": "5s"}, idempotency_key="k")).status == 422
    assert (await api.call("GET", "topics/news", key=api.key)).json["messages"] == 1


async def test_a_batch_may_hold_both_kinds_of_targets(api: Api) -> None:
    device = await api.device()
    messages = [
        {"topic": "news", "data": {"n": "0"}},
        {"token": device["token"]},
        {"topic": "no name"},
        {"topic": "/topics/news"},
    ]
    answer = await api.call("POST", "messages:sendBatch", {"messages": messages}, key=api.key)
    assert ["name" in one for one in answer.json["responses"]] == [True, True, False, True]
    assert (await api.call("GET", "topics/news", key=api.key)).json["messages"] == 2
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 1


async def test_bad_publishes_name_their_field(api: Api) -> None:
    device = await api.device()
    cases = {
        "message.topic": {"topic": "no name"},
        "message.condition": {"condition": "'a' in"},
        "message": {"topic": "news", "data": {"a": "x" * 4097}},
    }
    for field, message in cases.items():
        answer = await api.send(message)
        assert (answer.status, answer.fields) == (400, [field])
    both = await api.send({"topic": "news", "token": device["token"]})
    assert both.fields == ["message.topic"]


async def test_subscribing_answers_each_token(api: Api) -> None:
    device = await api.device()
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    foreign = await api.call(
        "POST", f"/v1/projects/{other.project}/devices", {"platform": "x"},
        X_Client_Key=other.client_key,
    )  # fmt: skip
    tokens = {"tokens": [device["token"], "nonsense", foreign.json["token"]]}
    answer = await api.call("POST", "topics/a%25b:subscribe", tokens, key=api.key)
    done, unknown, mismatch = answer.json["results"]
    assert done == {}
    assert unknown["error"]["details"][0]["errorCode"] == "UNREGISTERED"
    assert mismatch["error"]["details"][0]["errorCode"] == "SENDER_ID_MISMATCH"
    assert (await api.call("GET", "topics/a%25b", key=api.key)).json["subscribers"] == 1
    ended = await api.call("POST", "topics/a%25b:unsubscribe", tokens, key=api.key)
    assert ended.json["results"][0] == {}
    assert (await api.call("GET", "topics/a%25b", key=api.key)).json["subscribers"] == 0


async def test_bad_subscriptions_are_refused(api: Api) -> None:
    assert (await api.call("POST", "topics/news:subscribe", {"tokens": ["t"]})).status == 401
    bodies: list[dict[str, Any]] = [{}, {"tokens": []}, {"tokens": ["t"] * 1001}]
    for body in bodies:
        answer = await api.call("POST", "topics/news:subscribe", body, key=api.key)
        assert (answer.status, answer.fields) == (400, ["tokens"])
    bad = await api.call("GET", "topics/no%20name", key=api.key)
    assert (bad.status, bad.fields) == (400, ["topic"])


async def test_one_device_is_subscribed_as_fcm_v1_does_it(api: Api) -> None:
    device = await api.device()
    path = f"registrations/{device['token']}/topicSubscriptions"
    added = await api.call("POST", f"{path}?topic_name=a%2525b", {}, key=api.key)
    assert added.json["name"].endswith("/topicSubscriptions/a%25b")
    assert (await api.call("GET", "topics/a%2525b", key=api.key)).json["subscribers"] == 1
    for _ in range(2):
        gone = await api.call("DELETE", f"{path}/a%2525b?allow_missing=true", key=api.key)
        assert (gone.status, gone.json) == (200, {})
    assert (await api.call("POST", path, {}, key=api.key)).fields == ["topic_name"]
    assert (await api.call("DELETE", f"{path}/no%20name", key=api.key)).fields == ["topic"]
    nobody = await api.call(
        "POST", "registrations/nobody/topicSubscriptions?topic_name=a", {}, key=api.key
    )
    assert (nobody.status, nobody.fcm_code) == (404, "UNREGISTERED")


@pytest.mark.parametrize("verb", ["batchAdd", "batchRemove"])
async def test_refusals_of_instance_id_calls_are_texts(api: Api, verb: str) -> None:
    path = f"/iid/v1:{verb}"
    good = {"to": "/topics/news", "registration_tokens": ["t"]}
    cases = [
        (good, "", 401),
        (good, "pw_" + "x" * 32, 401),
        (good, api.client_key, 401),
        ({"to": "no name", "registration_tokens": ["t"]}, api.key, 400),
        ({"to": "news", "registration_tokens": []}, api.key, 400),
        ({"to": "news", "registration_tokens": ["t"] * 1001}, api.key, 400),
        (b"nonsense", api.key, 400),
    ]
    for body, key, status in cases:
        answer = await api.call("POST", path, body, key=key)
        assert answer.status == status
        assert isinstance(answer.json["error"], str)
    answer = await api.call("POST", path, good, key=api.key, access_token_auth="true")  # noqa: S106
    assert answer.json == {"results": [{"error": "NOT_FOUND"}]}


async def test_too_many_topics_are_told_in_fcms_word(api: Api) -> None:
    device = await api.device()
    token = parse_token(device["token"])
    assert token is not None
    mailbox = keys.mailbox(DeviceId(device["device_id"]))
    await api.services.store.batch.call("HSET", mailbox, "tc", MAX_TOPICS)
    body = {"to": "/topics/news", "registration_tokens": [device["token"]]}
    answer = await api.call("POST", "/iid/v1:batchAdd", body, key=api.key)
    assert answer.json == {"results": [{"error": "TOO_MANY_TOPICS"}]}
    ours = await api.call(
        "POST", "topics/news:subscribe", {"tokens": [device["token"]]}, key=api.key
    )
    assert ours.json["results"][0]["error"]["code"] == 429
