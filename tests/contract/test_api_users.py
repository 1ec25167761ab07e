"""Users and groups over HTTP, against a real store."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.api_server import Answer, Api, running_api


async def of_user(api: Api, user: str) -> dict[str, str]:
    answer = await api.call("POST", "devices", {"platform": "python", "user": user}, key=api.key)
    assert answer.status == 201, answer.text
    registered: dict[str, str] = answer.json
    return registered


async def status_of(api: Api, sent: Answer) -> Any:
    assert sent.status == 200, sent.text
    return (await api.call("GET", f"/v1/{sent.json['name']}", key=api.key)).json


async def group(api: Api, name: str, *devices: dict[str, str]) -> Answer:
    tokens = [device["token"] for device in devices]
    return await api.call("POST", "groups", {"group": name, "tokens": tokens}, key=api.key)


async def test_the_status_of_a_message_to_a_user_adds_its_devices_up(api: Api) -> None:
    first, second = [await of_user(api, "ann") for _ in range(2)]
    sent = await api.send({"user": "ann", "data": {"k": "v"}, "collapse_key": "c"})
    status = await status_of(api, sent)
    assert (status["target"], status["user"], status["state"]) == ("user", "ann", "in_progress")
    assert status["counts"] == {"accepted": 2}
    assert {one["device_id"]: one["state"] for one in status["deliveries"]} == {
        first["device_id"]: "accepted",
        second["device_id"]: "accepted",
    }
    assert next(one.get("device_id") for one in status["timeline"]) is None
    assert len(status["timeline"]) == 3
    path = f"/v1/{sent.json['name']}"
    cancelled = (await api.call("DELETE", path, key=api.key)).json
    assert (cancelled["state"], cancelled["counts"]["cancelled"]) == ("done", 2)
    assert (await api.call("GET", path, key=api.key)).json == cancelled


async def test_a_message_is_of_its_project_alone(api: Api) -> None:
    await of_user(api, "ann")
    sent = await api.send({"user": "ann"})
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    identifier = sent.json["name"].rpartition("/")[2]
    for method in ("GET", "DELETE"):
        path = f"/v1/projects/{other.project}/messages/{identifier}"
        assert (await api.call(method, path, key=other.api_key)).status == 404
    assert (await status_of(api, sent))["state"] == "in_progress"
    path = f"/v1/projects/{other.project}/messages:send"
    nobody = await api.call("POST", path, {"message": {"user": "ann"}}, key=other.api_key)
    assert (nobody.status, nobody.fcm_code) == (404, "UNREGISTERED")


async def test_a_batch_may_hold_all_kinds_of_targets(api: Api) -> None:
    device = await of_user(api, "ann")
    assert (await group(api, "family", device)).status == 201
    messages: list[dict[str, Any]] = [
        {"token": device["token"]},
        {"user": "ann"},
        {"user": "nobody"},
        {"group": "family"},
        {"topic": "news"},
    ]
    answer = await api.call("POST", "messages:sendBatch", {"messages": messages}, key=api.key)
    assert ["name" in one for one in answer.json["responses"]] == [True, True, False, True, True]
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 3
    checked = await api.send({"user": "ann"}, validate_only=True)
    assert checked.json["name"].endswith("/fake_message_id")
    assert (await api.send({"group": "none"}, validate_only=True)).status == 404


async def test_a_users_devices_are_listed(api: Api) -> None:
    name = "a:b/c|d é"
    devices = sorted([(await of_user(api, name))["device_id"] for _ in range(2)])
    path = f"users/{quote(name, safe='')}/devices"
    answer = await api.call("GET", path, key=api.key)
    assert answer.json == {"user": name, "devices": devices}
    assert (await status_of(api, await api.send({"user": name})))["user"] == name
    await api.call("DELETE", f"devices/{devices[0]}", key=api.key)
    assert (await api.call("GET", path, key=api.key)).json["devices"] == devices[1:]
    assert (await api.call("GET", "users/nobody/devices", key=api.key)).json["devices"] == []
    assert (await api.call("GET", "users/%0A/devices", key=api.key)).fields == ["user"]
    assert (await api.call("GET", path)).status == 401


async def test_groups_are_made_changed_listed_and_deleted(api: Api) -> None:
    one, two = [await api.device() for _ in range(2)]
    made = await group(api, "family", one)
    assert (made.status, made.json) == (201, {"group": "family", "results": [{}]})
    assert (await group(api, "family")).status == 409
    added = await api.call(
        "POST", "groups/family:add", {"tokens": [two["token"], "nonsense", one["token"]]},
        key=api.key,
    )  # fmt: skip
    done, unknown, again = added.json["results"]
    assert (done, again) == ({}, {})
    assert unknown["error"]["details"][0]["errorCode"] == "UNREGISTERED"
    everybody = sorted([one["device_id"], two["device_id"]])
    assert (await api.call("GET", "groups/family", key=api.key)).json["devices"] == everybody
    removed = await api.call(
        "POST", "groups/family:remove", {"tokens": [one["token"], one["token"]]}, key=api.key
    )
    assert removed.json["results"] == [{}, {}]
    read = await api.call("GET", "groups/family", key=api.key)
    assert read.json == {"group": "family", "devices": [two["device_id"]]}
    await api.call("DELETE", f"devices/{two['device_id']}", key=api.key)
    assert (await api.call("GET", "groups/family", key=api.key)).json["devices"] == []
    assert (await api.call("DELETE", "groups/family", key=api.key)).json == {}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", ":add"), ("POST", ":remove")):
        body = {"tokens": ["t"]} if path else None
        gone = await api.call(method, f"groups/family{path}", body, key=api.key)
        assert gone.status == 404


async def test_groups_come_in_pages(api: Api) -> None:
    names = [f"g{number:02d}" for number in range(5)]
    for name in names:
        await group(api, name)
    first = (await api.call("GET", "groups?limit=3", key=api.key)).json
    assert [one["group"] for one in first["groups"]] == names[:3]
    rest = await api.call("GET", f"groups?limit=3&page={first['next_page']}", key=api.key)
    assert rest.json == {"groups": [{"group": name, "devices": 0} for name in names[3:]]}
    assert (await api.call("GET", "groups?limit=0", key=api.key)).fields == ["limit"]
    assert (await api.call("GET", "groups?page=a%7Cb", key=api.key)).fields == ["page"]


async def test_a_group_has_a_limited_number_of_devices(store_url: str) -> None:
    async with running_api(store_url, max_group_devices=2) as api:
        devices = [await api.device() for _ in range(4)]
        made = await group(api, "g", *devices[:3])
        assert made.json["results"][:2] == [{}, {}]
        refused = made.json["results"][2]["error"]
        assert (refused["code"], "2 at most" in refused["message"]) == (429, True)
        await api.call("DELETE", f"devices/{devices[0]['device_id']}", key=api.key)
        tokens = {"tokens": [devices[3]["token"]]}
        added = await api.call("POST", "groups/g:add", tokens, key=api.key)
        assert added.json["results"] == [{}], "who unregistered takes no place"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "group"),
        ({"group": "a|b"}, "group"),
        ({"group": "#"}, "group"),
        ({"group": "g", "tokens": ["t"] * 1001}, "tokens"),
    ],
)
async def test_bad_groups_name_their_field(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", "groups", body, key=api.key)
    assert (answer.status, answer.fields) == (400, [field])
    assert (await api.call("POST", "groups", body)).status == 401


async def test_a_token_of_another_project_stays_out_of_a_group(api: Api) -> None:
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    foreign = await api.call(
        "POST", f"/v1/projects/{other.project}/devices", {"platform": "x"},
        X_Client_Key=other.client_key,
    )  # fmt: skip
    (result,) = (await group(api, "g", foreign.json)).json["results"]
    assert result["error"]["details"][0]["errorCode"] == "SENDER_ID_MISMATCH"
