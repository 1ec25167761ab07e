"""The API's own description: complete, sound, readable."""

import re
from collections.abc import Iterator
from typing import Any

from gateway.api.app import discover
from tests.contract.api_server import Api


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


async def test_every_route_is_described(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).json
    assert document["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    assert described == {(route.method, route.path) for route in discover(api.services).all}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"].endswith((".", ")"))
            named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert any(status.startswith("2") for status in operation["responses"])
            for security in operation["security"]:
                assert set(security) <= set(document["components"]["securitySchemes"])


async def test_what_may_be_refused_and_asked_for_is_described(api: Api) -> None:
    paths = (await api.call("GET", "/openapi.json")).json["paths"]
    bodies = [
        operation
        for path, item in paths.items()
        for operation in item.values()
        if "requestBody" in operation and path != "/oauth2/token"
    ]
    assert bodies
    assert all("413" in operation["responses"] for operation in bodies)
    project = "/v1/projects/{project}"
    for method, path in (
        ("post", f"{project}/messages:send"),
        ("post", f"{project}/messages:sendBatch"),
        ("post", f"{project}/devices"),
        ("patch", f"{project}/devices/{{device}}"),
        ("post", f"{project}/webhooks"),
    ):
        assert "429" in paths[path][method]["responses"], path
    queries = {
        path: [one["name"] for one in item["get"].get("parameters", ()) if one["in"] == "query"]
        for path, item in paths.items()
        if "get" in item
    }
    assert queries[f"{project}/messages"] == ["target", "state", "page_size", "page_token"]
    assert queries[f"{project}/groups"] == ["limit", "page"]
    assert queries[f"{project}/deadLetters"] == ["webhook", "limit", "page"]
    page = (await api.call("GET", "/docs")).text
    assert "<code>page_size</code>: 1 to 100" in page


async def test_every_reference_leads_somewhere(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json")).json
    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert found
    assert {reference.rsplit("/", 1)[1] for reference in found} <= set(schemas)
    identifiers = [
        operation["operationId"]
        for item in document["paths"].values()
        for operation in item.values()
    ]
    assert len(identifiers) == len(set(identifiers))


async def test_fields_of_fcm_are_described(api: Api) -> None:
    schemas = (await api.call("GET", "/openapi.json")).json["components"]["schemas"]
    assert {"token", "android", "apns", "webpush", "ttl", "bridge"} <= set(
        schemas["MessageBody"]["properties"]
    )
    assert schemas["MessageBody"]["additionalProperties"] is False
    assert "light_settings" in schemas["AndroidNotification"]["properties"]


async def test_the_page_needs_nothing_else(api: Api) -> None:
    answer = await api.call("GET", "/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "messages:sendBatch" in answer.text
    assert "AndroidNotification" in answer.text
    assert not re.search(r"<(script|link|img)|https?://[^ <]*\.(js|css)", answer.text)
