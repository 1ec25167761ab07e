"""Who may do what: keys, scopes, credentials, projects, devices."""

import pytest

from router.model.project import Scope
from tests.contract.api_server import ADMIN_KEY, Api, running_api


async def test_sending_takes_a_key(api: Api) -> None:
    for key in ("", "x", "pw_" + "x" * 32, api.client_key, ADMIN_KEY):
        answer = await api.call("POST", "messages:send", {}, key=key)
        assert answer.status == 401, key
        assert answer.error["status"] == "UNAUTHENTICATED"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_wrong_scheme_is_no_key(api: Api) -> None:
    answer = await api.call("POST", "messages:send", {}, Authorization=f"Basic {api.key}")
    assert answer.status == 401
    lower = await api.call("POST", "messages:send", {}, Authorization=f"bearer {api.key}")
    assert lower.status == 400


async def test_a_key_of_another_project_is_refused(api: Api) -> None:
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    answer = await api.call("POST", "messages:send", {}, key=other.api_key)
    assert answer.status == 403
    assert answer.error["status"] == "PERMISSION_DENIED"


async def test_a_key_without_the_scope_is_refused(api: Api) -> None:
    made = await api.call("POST", "keys", {"scopes": ["devices"]}, key=ADMIN_KEY)
    assert made.status == 201
    answer = await api.call("POST", "messages:send", {}, key=made.json["secret"])
    assert answer.status == 403
    assert Scope.SEND in answer.error["message"]
    device = await api.device()
    read = await api.call("GET", f"devices/{device['device_id']}", key=made.json["secret"])
    assert read.status == 200


async def test_a_scope_that_is_none_is_told_what_there_is(api: Api) -> None:
    answer = await api.call("POST", "keys", {"scopes": ["send", "all"]}, key=ADMIN_KEY)
    assert (answer.status, answer.fields) == (400, ["scopes[1]"])
    for scope in Scope:
        assert scope in answer.error["message"]


async def test_a_revoked_key_stops_working_once_it_is_forgotten(api: Api) -> None:
    made = (await api.call("POST", "keys", {}, key=ADMIN_KEY)).json
    gone = await api.call("DELETE", f"keys/{made['id']}", key=ADMIN_KEY)
    assert gone.status == 200
    assert (await api.call("POST", "messages:send", {}, key=made["secret"])).status == 401
    assert (await api.call("DELETE", f"keys/{made['id']}", key=ADMIN_KEY)).status == 404


@pytest.mark.parametrize("path", ["/v1/projects", "keys", "serviceAccounts"])
async def test_projects_take_the_admin_key(api: Api, path: str) -> None:
    for key in ("", api.key, "ädmin"):
        answer = await api.call("POST", path, {}, key=key)
        assert answer.status == 401


async def test_a_project_lives_and_goes(api: Api) -> None:
    name = f"{api.project} Shop"
    made = await api.call("POST", "/v1/projects", {"name": name}, key=ADMIN_KEY)
    assert made.status == 201
    project = made.json["project"]
    assert project == f"{api.project}-shop"
    twice = await api.call("POST", "/v1/projects", {"name": name}, key=ADMIN_KEY)
    assert (twice.status, twice.error["status"]) == (409, "ALREADY_EXISTS")
    listed = await api.call("GET", "/v1/projects", key=ADMIN_KEY)
    assert project in [one["project"] for one in listed.json["projects"]]
    read = await api.call("GET", f"/v1/projects/{project}", key=ADMIN_KEY)
    assert read.json["name"] == name
    keys = await api.call("GET", f"/v1/projects/{project}/keys", key=ADMIN_KEY)
    assert [key["client"] for key in keys.json["keys"]].count(True) == 1
    assert "secret" not in keys.text
    gone = await api.call("DELETE", f"/v1/projects/{project}", key=ADMIN_KEY)
    assert gone.status == 200
    for method in ("GET", "DELETE"):
        missing = await api.call(method, f"/v1/projects/{project}", key=ADMIN_KEY)
        assert missing.status == 404
    again = await api.call("POST", "/v1/projects", {"name": name}, key=ADMIN_KEY)
    assert (again.status, again.error["status"]) == (409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["name"]),
        ({"name": 1}, ["name"]),
        ({"name": "12345"}, ["name"]),
        ({"name": "demo", "foo": 1}, ["foo"]),
        ([], [""]),
    ],
)
async def test_a_bad_project_is_refused(api: Api, body: object, fields: list[str]) -> None:
    answer = await api.call("POST", "/v1/projects", body, key=ADMIN_KEY)
    assert answer.status == 400
    assert answer.fields == fields


async def test_a_device_reads_and_changes_itself(api: Api) -> None:
    device = await api.device()
    path = f"devices/{device['device_id']}"
    own = device["credential"]
    changed = await api.call("PATCH", path, {"appVersion": "2", "language": "de"}, key=own)
    assert changed.status == 200
    read = await api.call("GET", path, key=own)
    assert (read.json["app_version"], read.json["language"]) == ("2", "de")
    assert read.json["connected"] is False
    rotated = await api.call("POST", f"{path}:rotateToken", key=own)
    assert rotated.json["token"] != device["token"]
    gone = await api.call("DELETE", path, key=own)
    assert gone.status == 200
    assert (await api.call("GET", path, key=own)).status == 401
    assert (await api.call("GET", path, key=api.key)).status == 404
    sent = await api.send({"token": rotated.json["token"]})
    assert sent.fcm_code == "UNREGISTERED"


async def test_a_device_cannot_touch_another_one(api: Api) -> None:
    one, two = await api.device(), await api.device()
    path = f"devices/{two['device_id']}"
    assert (await api.call("GET", path, key=one["credential"])).status == 403
    forged = f"{two['device_id']}.{one['credential'].split('.')[1]}"
    assert (await api.call("GET", path, key=forged)).status == 401
    assert (await api.call("GET", path, key=api.client_key)).status == 401
    for method in ("GET", "PATCH", "DELETE"):
        assert (await api.call(method, "devices/short", key=api.key)).status == 404


async def test_a_device_of_another_project_is_not_found(api: Api) -> None:
    device = await api.device()
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    path = f"/v1/projects/{other.project}/devices/{device['device_id']}"
    for key in (other.api_key, device["credential"]):
        for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
            answer = await api.call(method, path, body, key=key)
            assert answer.status == 404


@pytest.mark.parametrize(
    ("settings", "headers", "expected"),
    [
        ({"device_port": 8111}, {}, "ws://127.0.0.1:8111"),
        ({}, {"Host": "push.example.com"}, "ws://push.example.com:8081"),
        ({}, {"Host": "[::1]:80", "X_Forwarded_Proto": "https"}, "wss://[::1]:8081"),
        ({}, {"Host": "[::1"}, "ws://127.0.0.1:8081"),
        ({"device_url": "wss://push.example.com/ws"}, {}, "wss://push.example.com/ws"),
    ],
)
async def test_registration_tells_where_to_connect(
    store_url: str, settings: dict[str, object], headers: dict[str, str], expected: str
) -> None:
    async with running_api(store_url, **settings) as api:
        answer = await api.call(
            "POST", "devices", {"platform": "python"}, X_Client_Key=api.client_key, **headers
        )
        assert answer.json["device_url"] == expected


async def test_registration_is_checked(api: Api) -> None:
    async def register(body: object, **headers: str) -> tuple[int, list[str]]:
        answer = await api.call("POST", "devices", body, **headers)
        return answer.status, answer.fields if answer.status == 400 else []

    good = {"X_Client_Key": api.client_key}
    assert await register({}, **good) == (400, ["platform"])
    assert await register({"platform": "A B"}, **good) == (400, ["platform"])
    assert await register({"platform": "x", "deviceId": "short"}, **good) == (400, ["device_id"])
    assert await register({"platform": "x", "attributes": {"a": 1}}, **good) == (
        400,
        ["attributes.a"],
    )
    assert await register({"platform": "x", "bridge": {}}, **good) == (400, ["bridge.type"])
    assert await register({"platform": "x", "foo": 1}, **good) == (400, ["foo"])
    assert await register({"platform": "x", "user": "u"}, **good) == (403, [])
    assert await register({"platform": "x"}, X_Client_Key="pwc_" + "x" * 32) == (401, [])
    assert await register({"platform": "x"}, X_Client_Key=api.key) == (401, [])
    assert await register({"platform": "x", "user": "u"}, key=api.key) == (201, [])


async def test_a_taken_id_takes_proof(api: Api) -> None:
    device = await api.device()
    body = {"platform": "python", "device_id": device["device_id"]}
    taken = await api.call("POST", "devices", body, X_Client_Key=api.client_key)
    assert taken.status == 409
    again = await api.call(
        "POST", "devices", body, key=device["credential"], X_Client_Key=api.client_key
    )
    assert again.status == 201
    assert again.json["credential"] != device["credential"]
    path = f"devices/{device['device_id']}"
    assert (await api.call("GET", path, key=device["credential"])).status == 401
    other = {"platform": "python", "device_id": "f" * 16}
    assert (await api.call("POST", "devices", other, key=again.json["credential"])).status == 403
