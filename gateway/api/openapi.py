"""The OpenAPI 3.1 document, made of the routes and the structs of their bodies."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gateway.api.errors import ErrorBody
from gateway.api.routing import Access, Route
from router.model.errors import ErrorCode

VERSION: Final = "0.1.0"
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_ABOUT: Final = (
    "Send messages to devices, register devices, read what became of messages. Sending is FCM "
    "HTTP v1: its clients work with another URL. Every field is accepted in snake_case and in "
    "camelCase, unknown fields are refused with their path, and every error has the shape of "
    "`ErrorBody`. 429 and 503 carry `Retry-After`."
)
_SECURITY: Final[Mapping[Access, list[dict[str, list[str]]]]] = {
    Access.OPEN: [],
    Access.PROJECT: [{"key": []}],
    Access.CLIENT: [{"clientKey": []}, {"key": []}],
    Access.DEVICE: [{"key": []}, {"credential": []}],
    Access.ADMIN: [{"adminKey": []}],
}
_SCHEMES: Final = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`pw_…`) or an OAuth access token of a service account.",
    },
    "clientKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Client-Key",
        "description": "The project's public client key (`pwc_…`).",
    },
    "credential": {
        "type": "http",
        "scheme": "bearer",
        "description": "The device's own credential, for itself alone.",
    },
    "adminKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "The admin key of this gateway.",
    },
}
_ALWAYS: Final = (ErrorCode.UNAVAILABLE,)
_GUARDED: Final = (ErrorCode.UNAUTHENTICATED, ErrorCode.PERMISSION_DENIED)
_PARAMETER: Final = re.compile(r"\{(\w+)\}")

Schema = dict[str, object]


def document(routes: Sequence[Route]) -> dict[str, object]:
    """Give the whole document as JSON values."""
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pushwire",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _schemas(routes: Iterable[Route]) -> tuple[dict[object, Schema], dict[str, Schema]]:
    bodies: list[object] = [ErrorBody]
    for route in routes:
        for body in (route.request, route.response):
            if body is not None and body not in bodies:
                bodies.append(body)
    found, components = msgspec.json.schema_components(bodies, ref_template=_REF, schema_hook=_free)
    return dict(zip(bodies, found, strict=True)), components


def _free(_kind: object) -> Schema:
    """Describe a place that takes any JSON value."""
    return {"description": "Any JSON value."}


def _operation(route: Route, schemas: Mapping[object, Schema]) -> Schema:
    operation: Schema = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "security": _SECURITY[route.access],
        "responses": _responses(route, schemas),
    }
    if route.detail:
        operation["description"] = route.detail
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.request is not None:
        kind = _FORM if route.path == "/oauth2/token" else _JSON
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schemas[route.request]}},
        }
    return operation


def _parameters(route: Route) -> list[Schema]:
    parameters: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters.extend(
        {
            "name": one.name,
            "in": "query",
            "required": one.required,
            "description": one.description,
            "schema": {"type": "string"},
        }
        for one in route.query
    )
    if route.path.partition(":")[2].startswith("send"):
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "1 to 255 visible ASCII characters, kept for 24 hours.",
                "schema": {"type": "string", "maxLength": 255},
            }
        )
    return parameters


def _responses(route: Route, schemas: Mapping[object, Schema]) -> Schema:
    success: Schema = {"description": "Done."}
    if route.response is not None:
        success["content"] = {_JSON: {"schema": schemas[route.response]}}
    responses: Schema = {str(route.status): success}
    is_open = route.access is Access.OPEN
    guarded = () if is_open else _GUARDED
    large = () if is_open or route.request is None else (ErrorCode.PAYLOAD_TOO_LARGE,)
    by_status: dict[int, list[str]] = {}
    for code in (*route.errors, *large, *guarded, *_ALWAYS):
        names = by_status.setdefault(code.value.http, [])
        if code.name not in names:
            names.append(code.name)
    for status, names in sorted(by_status.items()):
        responses[str(status)] = {
            "description": " or ".join(names),
            "content": {_JSON: {"schema": schemas[ErrorBody]}},
        }
    return responses


@functools.cache
def _tag(path: str) -> str:
    parts = [part for part in path.replace(":", "/").split("/") if part and "{" not in part]
    if parts[:2] == ["v1", "projects"]:
        return parts[2] if len(parts) > 2 else "projects"  # noqa: PLR2004 - v1, projects, resource
    return "oauth" if parts[0] == "oauth2" else "gateway"


def _operation_id(route: Route) -> str:
    parts = [part for part in re.split(r"[/:]", route.path) if part and part != "v1"]
    words = [route.method.lower()]
    for part in parts:
        name = part.strip("{}").replace(".", "_")
        words.append(f"by_{name}" if part.startswith("{") else name)
    return "_".join(words)
