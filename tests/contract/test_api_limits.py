"""What a limit refuses, how the answer says so, and that all API processes share it."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from router.model.ids import BROADCAST, TopicName, parse_token, partition_of_owner
from router.model.limits import Limit
from router.store import keys
from tests.contract.api_server import ADMIN_KEY, Answer, Api, running_api

FAR_US = 10**18
"""A bucket that is full again then is empty now, whatever the clock says."""


def details(answer: Answer) -> dict[str, Any]:
    """The details of an error, by the last word of their type."""
    return {one["@type"].rpartition(".")[2]: one for one in answer.error["details"]}


def assert_throttled(answer: Answer, limit: Limit, subject: str) -> None:
    assert answer.status == 429
    assert answer.error["status"] == "RESOURCE_EXHAUSTED"
    assert answer.fcm_code == "QUOTA_EXCEEDED"
    (violation,) = details(answer)["QuotaFailure"]["violations"]
    assert violation["subject"] == subject
    assert "lifts it with" in violation["description"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert details(answer)["RetryInfo"]["retryDelay"] == f"{answer.headers['Retry-After']}s"
    assert answer.headers["RateLimit-Policy"].startswith(f'"{limit.value}";q=')
    assert answer.headers["RateLimit"].startswith(f'"{limit.value}";r=0;t=')


def refusals(api: Api, limit: Limit) -> float:
    value: float = api.services.metrics.limit_refusals.labels(limit.value)._value.get()
    return value


async def limited(api: Api, **limits: float) -> Answer:
    path = f"/v1/projects/{api.project}"
    return await api.call("PATCH", path, {"limits": limits}, key=ADMIN_KEY)


async def test_a_project_that_sends_too_fast_hears_429(store_url: str) -> None:
    async with running_api(store_url, project_sends_per_s=0.001) as api:
        token = (await api.device())["token"]
        first = await api.send({"token": token})
        assert first.status == 200
        assert first.headers["RateLimit-Policy"] == '"project";q=1;w=1000'
        assert first.headers["RateLimit"].startswith('"project";r=0;t=')
        assert_throttled(await api.send({"token": token}), Limit.PROJECT, f"project:{api.project}")
        assert refusals(api, Limit.PROJECT) == 1


async def test_a_key_has_a_limit_of_its_own(store_url: str) -> None:
    async with running_api(store_url, key_sends_per_s=0.001) as api:
        token = (await api.device())["token"]
        assert (await api.send({"token": token})).status == 200
        refused = await api.send({"token": token})
        assert refused.status == 429
        (violation,) = details(refused)["QuotaFailure"]["violations"]
        assert violation["subject"].startswith("key:")
        created = await api.call("POST", "keys", {"scopes": ["send"]}, key=ADMIN_KEY)
        api.key = created.json["secret"]
        assert (await api.send({"token": token})).status == 200


async def test_a_batch_is_taken_as_far_as_the_limit_goes(store_url: str) -> None:
    async with running_api(store_url) as api:
        assert (await limited(api, sends_per_second=1.5)).status == 200  # three at once
        token = (await api.device())["token"]
        body = {"messages": [{"message": {"token": token}}] * 8}
        answer = await api.call("POST", "messages:sendBatch", body, key=api.key)
        assert answer.status == 200
        results = ["name" in one for one in answer.json["responses"]]
        taken = sum(results)
        assert 3 <= taken < 8
        assert results == [True] * taken + [False] * (8 - taken)
        error = answer.json["responses"][-1]["error"]
        assert error["code"] == 429
        assert {one["@type"].rpartition(".")[2] for one in error["details"]} == {
            "FcmError",
            "QuotaFailure",
            "RetryInfo",
        }


async def test_a_batch_of_which_nothing_is_taken_is_429_as_a_whole(store_url: str) -> None:
    async with running_api(store_url, project_sends_per_s=0.001) as api:
        token = (await api.device())["token"]
        assert (await api.send({"token": token})).status == 200
        body = {"messages": [{"message": {"token": token}}] * 2}
        answer = await api.call("POST", "messages:sendBatch", body, key=api.key)
        assert_throttled(answer, Limit.PROJECT, f"project:{api.project}")


async def test_a_device_that_gets_too_many_is_spared(store_url: str) -> None:
    async with running_api(store_url) as api:
        device = await api.device()
        batch = api.services.store.batch
        mailbox = keys.mailbox(parse_token(device["token"]).device)  # type: ignore[union-attr]
        assert (await api.send({"token": device["token"]})).status == 200
        assert await batch.call("HEXISTS", mailbox, "rt") == 1
        await batch.call("HSET", mailbox, "rt", FAR_US)
        subject = f"device:{device['device_id']}"
        assert_throttled(await api.send({"token": device["token"]}), Limit.DEVICE, subject)
        later = {"token": device["token"], "send_at": "2100-01-01T00:00:00Z"}
        assert (await api.send(later)).status == 400  # further ahead than is accepted
        assert refusals(api, Limit.DEVICE) == 1
        assert await batch.call("HGET", mailbox, "seq") == b"1"
        # It fills from now on: it is not as empty at every send until that far time.
        assert float(cast("bytes", await batch.call("HGET", mailbox, "rt"))) < FAR_US


async def test_a_scheduled_message_is_charged_when_it_is_accepted(store_url: str) -> None:
    async with running_api(store_url, device_sends_per_min=0.01, device_sends_burst=1) as api:
        device = await api.device()
        at = api.services.clock.now_ms() // 1000 + 3600
        text = datetime.fromtimestamp(at, UTC).isoformat()
        message = {"token": device["token"], "send_at": text}
        assert (await api.send(message)).status == 200
        refused = await api.send(message)
        assert_throttled(refused, Limit.DEVICE, f"device:{device['device_id']}")
        assert int(refused.headers["Retry-After"]) > 5000


async def test_without_a_limit_a_device_keeps_no_bucket(store_url: str) -> None:
    async with running_api(store_url, device_sends_per_min=0) as api:
        token = (await api.device())["token"]
        assert (await api.send({"token": token})).status == 200
        mailbox = keys.mailbox(parse_token(token).device)  # type: ignore[union-attr]
        assert await api.services.store.batch.call("HEXISTS", mailbox, "rt") == 0


async def test_a_topic_has_a_limit(store_url: str) -> None:
    async with running_api(store_url) as api:
        state = keys.topic_state(api.project, TopicName("news"))
        assert (await api.send({"topic": "news", "ttl": "0s"})).status == 200
        batch = api.services.store.batch
        assert 0 < await batch.call("PTTL", state) <= 60_000  # type: ignore[operator]
        await batch.call("HSET", state, "rt", FAR_US)
        assert_throttled(await api.send({"topic": "news"}), Limit.TOPIC, "topic:news")
        assert float(cast("bytes", await batch.call("HGET", state, "rt"))) < FAR_US
        assert (await api.send({"topic": "sport"})).status == 200


async def test_messages_to_many_devices_have_a_limit_over_all_topics(store_url: str) -> None:
    async with running_api(store_url, project_publishes_per_s=0.001) as api:
        assert (await api.send({"topic": "news"})).status == 200
        refused = await api.send({"topic": "sport"})
        assert_throttled(refused, Limit.PUBLISHES, f"project:{api.project}")
        assert (await api.send({"token": (await api.device())["token"]})).status == 200


@pytest.mark.parametrize(
    "target",
    [
        {"condition": "'news' in topics"},
        {"filter": {"platform": ["test"]}},
        {"topic": "news", "filter": {"platform": ["test"]}},
        {"user": "ann"},
        {"group": "family"},
    ],
    ids="-".join,
)
async def test_all_that_goes_to_many_devices_counts(store_url: str, target: dict[str, Any]) -> None:
    async with running_api(store_url, project_publishes_per_s=0.001) as api:
        body = {"platform": "test", "user": "ann"}
        device = (await api.call("POST", "devices", body, key=api.key)).json
        family = {"group": "family", "tokens": [device["token"]]}
        assert (await api.call("POST", "groups", family, key=api.key)).status == 201
        assert (await api.send(target)).status == 200
        subject = f"project:{api.project}"
        assert_throttled(await api.send(target), Limit.PUBLISHES, subject)
        assert_throttled(await api.send({"topic": "sport"}), Limit.PUBLISHES, subject)
        batch: dict[str, Any] = {"messages": [target, {"token": device["token"]}]}
        answer = await api.call("POST", "messages:sendBatch", batch, key=api.key)
        assert ["name" in one for one in answer.json["responses"]] == [False, True]


async def test_conditions_and_filters_count_as_one_topic(store_url: str) -> None:
    async with running_api(store_url) as api:
        state = keys.topic_state(api.project, BROADCAST)
        assert (await api.send({"condition": "'a' in topics"})).status == 200
        for target in ({"condition": "'b' in topics"}, {"filter": {"platform": ["test"]}}):
            await api.services.store.batch.call("HSET", state, "rt", FAR_US)
            assert_throttled(await api.send(target), Limit.TOPIC, "topic:*")
        narrowed = {"topic": "news", "filter": {"platform": ["test"]}}
        assert (await api.send(narrowed)).status == 200


async def test_a_users_device_that_gets_too_many_is_spared(store_url: str) -> None:
    async with running_api(store_url, device_sends_per_min=0.01, device_sends_burst=1) as api:
        body = {"platform": "test", "user": "ann"}
        await api.call("POST", "devices", body, key=api.key)
        sent = [await api.send({"user": "ann"}) for _ in range(2)]
        states = []
        for one in sent:
            assert one.status == 200
            status = await api.call("GET", f"/v1/{one.json['name']}", key=api.key)
            states += [delivery["state"] for delivery in status.json["deliveries"]]
        assert states == ["accepted", "dropped"]
        batch = {"messages": [{"user": "ann"}] * 2}
        answer = await api.call("POST", "messages:sendBatch", batch, key=api.key)
        for response in answer.json["responses"]:
            status = await api.call("GET", f"/v1/{response['name']}", key=api.key)
            assert status.json["timeline"][-1]["detail"] == "device rate"


async def test_what_is_only_validated_is_free(store_url: str) -> None:
    async with running_api(store_url, project_sends_per_s=0.001) as api:
        token = (await api.device())["token"]
        for _ in range(3):
            assert (await api.send({"token": token}, validate_only=True)).status == 200
        assert (await api.send({"token": token})).status == 200


async def test_a_repeat_under_an_idempotency_key_does_not_ask_the_device_again(
    store_url: str,
) -> None:
    async with running_api(store_url, device_sends_per_min=0.01, device_sends_burst=1) as api:
        message = {"token": (await api.device())["token"]}
        first = await api.send(message, idempotency_key="once")
        again = await api.send(message, idempotency_key="once")
        assert again.json == first.json


async def test_two_processes_share_the_limit_of_a_project(store_url: str) -> None:
    async with running_api(store_url) as api, running_api(store_url) as other:
        assert (await limited(api, sends_per_second=20)).status == 200  # 40 at once
        device = await api.device()
        other.project, other.key = api.project, api.key
        clock = api.services.clock
        began_s = clock.monotonic()
        message = {"token": device["token"]}
        answers = await asyncio.gather(
            *(one.send(message) for _ in range(100) for one in (api, other))
        )
        passed_s = clock.monotonic() - began_s
        taken = sum(answer.status == 200 for answer in answers)
        assert {answer.status for answer in answers} == {200, 429}
        assert 40 <= taken <= 40 + 20 * (passed_s + 0.1)


async def test_a_change_of_a_limit_is_seen(store_url: str) -> None:
    async with running_api(store_url, project_sends_per_s=0.001) as api:
        token = (await api.device())["token"]
        assert (await api.send({"token": token})).status == 200
        assert (await api.send({"token": token})).status == 429
        changed = await limited(api, sends_per_second=0)
        assert changed.json["limits"] == {"sends_per_second": 0.0}
        created = await api.call("POST", "keys", {"scopes": ["send"]}, key=ADMIN_KEY)
        api.key = created.json["secret"]  # the old one is remembered for some seconds
        assert (await api.send({"token": token})).status == 200
        shown = await api.call("GET", f"/v1/projects/{api.project}", key=ADMIN_KEY)
        assert shown.json["limits"] == {"sends_per_second": 0.0}
        assert (await limited(api)).json["limits"] == {}


async def test_a_limit_that_is_none_is_refused(store_url: str) -> None:
    async with running_api(store_url) as api:
        refused = await limited(api, sends_per_second=-1)
        assert refused.status == 400
        assert refused.fields == ["limits.sends_per_second"]
        assert (await limited(api, sends=1)).fields == ["limits.sends"]
        gone = await api.call("PATCH", "/v1/projects/no-such", {"limits": {}}, key=ADMIN_KEY)
        assert gone.status == 404


async def test_registrations_from_one_address_are_limited(store_url: str) -> None:
    settings = {"address_registrations_per_min": 0.01, "trusted_proxies": "127.0.0.1"}
    async with running_api(store_url, **settings) as api:
        octets = api.project.encode()[-3:]  # an address that no other test has
        address = f"203.{octets[0]}.{octets[1]}.{octets[2]}"

        async def register(client: str, **more: str) -> Answer:
            body = {"platform": "test"}
            return await api.call("POST", "devices", body, X_Forwarded_For=client, **more)

        client_key = {"X_Client_Key": api.client_key}
        assert (await register(address, **client_key)).status == 201
        refused = await register(f"1.2.3.4, {address}", **client_key)
        assert_throttled(refused, Limit.ADDRESS, f"address:{address}")
        assert (await register(address, key=api.key)).status == 201
        assert (await register(f"2001:db8:{api.project[-4:]}::1", **client_key)).status == 201
        assert (await register(f"2001:db8:{api.project[-4:]}::2", **client_key)).status == 429
        kept = keys.rate(partition_of_owner(address), f"address:{address}")
        assert await api.services.store.batch.call("EXISTS", kept) == 1


async def test_loopback_is_no_client(store_url: str) -> None:
    async with running_api(store_url, address_registrations_per_min=0.01) as api:
        for _ in range(3):
            await api.device()


async def test_connections_above_the_bound_are_told_so(store_url: str) -> None:
    async with running_api(store_url, api_max_connections=1) as api:
        assert (await api.call("GET", "/healthz")).status == 200  # it is kept open
        host, port = urlsplit(api.url).hostname, urlsplit(api.url).port
        reader, writer = await asyncio.open_connection(host, port)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b'"status":"UNAVAILABLE"' in answer
        writer.close()
        assert refusals(api, Limit.API_CONNECTIONS) == 1
        assert (await api.call("GET", "/healthz")).status == 200
