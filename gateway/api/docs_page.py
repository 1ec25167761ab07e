"""`/docs`: the OpenAPI document as one page that needs nothing else."""

import html
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.api.openapi import Schema

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--key:#0a7d55}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem 1.5rem 4rem}
h1{margin-bottom:.2rem}h2{border-bottom:1px solid var(--line);margin-top:2.5rem}
code,pre{font:.9em ui-monospace,monospace}details{border:1px solid var(--line);border-radius:6px;
margin:.6rem 0;padding:.2rem .8rem}summary{cursor:pointer;padding:.3rem 0}
summary b{color:var(--key);display:inline-block;width:4.2rem}table{border-collapse:collapse;
width:100%}td,th{border-top:1px solid var(--line);padding:.25rem .5rem;text-align:left;
vertical-align:top}th{font-weight:600}.soft{opacity:.75}nav a{margin-right:1rem}
"""
_METHODS: Final = ("get", "post", "patch", "put", "delete")


class _Content(msgspec.Struct):
    schema: Schema


class _Answer(msgspec.Struct):
    description: str
    content: dict[str, _Content] = {}


class _Operation(msgspec.Struct):
    summary: str
    tags: list[str]
    security: list[dict[str, list[str]]]
    responses: dict[str, _Answer]
    description: str = ""
    requestBody: _Answer | None = None  # noqa: N815 - OpenAPI's name
    parameters: list[dict[str, object]] = []


def render(document: Mapping[str, object]) -> str:
    """Give the page."""
    info = msgspec.convert(document["info"], dict[str, object])
    paths = msgspec.convert(document["paths"], dict[str, dict[str, object]])
    components = msgspec.convert(document["components"], dict[str, dict[str, Schema]])
    groups: dict[str, list[str]] = {}
    for path, item in paths.items():
        for method in _METHODS:
            if method in item:
                operation = _operation(item[method])
                groups.setdefault(operation.tags[0], []).append(_call(method, path, operation))
    calls = "".join(
        f'<h2 id="{_text(tag)}">{_text(tag)}</h2>{"".join(entries)}'
        for tag, entries in groups.items()
    )
    links = "".join(f'<a href="#{_text(tag)}">{_text(tag)}</a>' for tag in [*groups, "schemas"])
    schemas = "".join(_schema(name, one) for name, one in sorted(components["schemas"].items()))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{_text(info['title'])} API</title><style>{_STYLE}</style>"
        f"<h1>{_text(info['title'])} API</h1><p class=soft>Version {_text(info['version'])}, "
        f"<a href=/openapi.json>openapi.json</a></p><p>{_text(info['description'])}</p>"
        f"<nav>{links}</nav>{calls}<h2 id=schemas>schemas</h2>{schemas}</html>"
    )


def _operation(value: object) -> _Operation:
    plain = msgspec.convert(value, dict[str, object])
    if "requestBody" in plain:
        body = msgspec.convert(plain["requestBody"], dict[str, object])
        plain["requestBody"] = {"description": "", "content": body["content"]}
    return msgspec.convert(plain, _Operation)


def _call(method: str, path: str, operation: _Operation) -> str:
    keys = " or ".join(name for scheme in operation.security for name in scheme) or "none"
    rows = "".join(
        f"<tr><td><code>{_text(status)}</code><td>{_text(answer.description)}"
        f"<td>{_contents(answer)}"
        for status, answer in operation.responses.items()
    )
    headers = ", ".join(
        f"<code>{_text(one['name'])}</code>"
        for one in operation.parameters
        if one.get("in") == "header"
    )
    query = "; ".join(
        f"<code>{_text(one['name'])}</code>: {_text(one['description'])}"
        for one in operation.parameters
        if one.get("in") == "query"
    )
    body = operation.requestBody
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{_text(path)}</code><br>"
        f"<span class=soft>{_text(operation.summary)}</span></summary>"
        + (f"<p>{_text(operation.description)}</p>" if operation.description else "")
        + f"<p>Authentication: {_text(keys)}."
        + (f" Headers: {headers}." if headers else "")
        + (f" Query: {query}" if query else "")
        + (f" Body: {_contents(body)}." if body else "")
        + f"</p><table><tr><th>Status<th>Meaning<th>Body{rows}</table></details>"
    )


def _contents(answer: _Answer) -> str:
    return ", ".join(_type(content.schema) for content in answer.content.values())


def _schema(name: str, schema: Schema) -> str:
    properties = msgspec.convert(schema.get("properties", {}), dict[str, Schema])
    required = msgspec.convert(schema.get("required", []), list[str])
    rows = "".join(
        f"<tr><td><code>{_text(key)}</code>{'' if key not in required else ' *'}"
        f"<td>{_type(one)}<td>{_text(_says(one))}"
        for key, one in properties.items()
    )
    about = _text(schema.get("description", ""))
    values = msgspec.convert(schema.get("enum", []), list[str])
    listed = f"<p>One of {_text(', '.join(values))}.</p>" if values else ""
    table = f"<table><tr><th>Field<th>Type<th>Accepts{rows}</table>" if rows else ""
    return (
        f"<details id='schema-{_text(name)}'><summary><code>{_text(name)}</code></summary>"
        f"<p>{about}</p>{listed}{table}</details>"
    )


def _options(schema: Schema) -> list[Schema]:
    return [
        one
        for one in msgspec.convert(schema.get("anyOf", []), list[Schema])
        if one.get("type") != "null"
    ]


def _type(schema: Schema) -> str:
    if options := _options(schema):
        return " or ".join(_type(one) for one in options)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = _text(reference.rsplit("/", 1)[1])
        return f"<a href='#schema-{name}'>{name}</a>"
    if schema.get("type") == "array":
        return f"array of {_type(msgspec.convert(schema.get('items', {}), Schema))}"
    return _text(schema.get("format") or schema.get("type") or "any")


def _says(schema: Schema) -> str:
    texts = [one.get("description") for one in [schema, *_options(schema)]]
    return " or ".join(text for text in texts if isinstance(text, str))


def _text(value: object) -> str:
    return html.escape(str(value))
