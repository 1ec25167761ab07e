"""Devices registered over HTTP, and unregistered again."""

from collections.abc import Sequence

import msgspec

from loadtest.fleet import each_of, http_pool
from loadtest.http import HttpConnection, encode_request
from loadtest.run.layout import Layout
from loadtest.run.protocol import Place

AT_ONCE = 16
_OK = 200
_CREATED = 201
_GONE = frozenset({200, 204, 404})
_SHOWN = 300


class Registered(msgspec.Struct):
    """A device as the API registered it."""

    device_id: str
    token: str
    credential: str
    device_url: str = ""


def device_body(layout: Layout, device: int) -> dict[str, object]:
    """Give what a device says of itself."""
    body: dict[str, object] = {"platform": "python", "attributes": {"loadtest": "yes"}}
    return {**body, "user": layout.user_of(device)} if layout.users else body


async def register(place: Place, layout: Layout, devices: Sequence[int]) -> list[Registered]:
    """Register devices, in their order.

    With the API key, as an app server may: a device's user is for the app server to say.

    Raises:
        ConnectionError: the API refused one (in an ExceptionGroup).
    """
    made: dict[int, Registered] = {}
    urls: dict[str, str] = {}  # one text for all of them
    waiting = iter(devices)

    async def one(connection: HttpConnection) -> None:
        device = next(waiting)
        request = encode_request(
            "POST",
            place.api,
            f"/v1/projects/{place.project}/devices",
            msgspec.json.encode(device_body(layout, device)),
            Authorization=f"Bearer {place.api_key}",
        )
        answer = await connection.request(request)
        if answer.status != _CREATED:
            raise ConnectionError(f"register: {answer.status} {answer.body[:_SHOWN].decode()}")
        one = msgspec.json.decode(answer.body, type=Registered)
        one.device_url = urls.setdefault(one.device_url, one.device_url)
        made[device] = one

    async with http_pool(place.api, min(AT_ONCE, len(devices))) as pool:
        await each_of(len(devices), pool, one)
    return [made[device] for device in devices]


async def unregister(place: Place, device_ids: Sequence[str]) -> None:
    """End registrations.

    Raises:
        ConnectionError: the API refused one (in an ExceptionGroup).
    """
    waiting = iter(device_ids)

    async def one(connection: HttpConnection) -> None:
        path = f"/v1/projects/{place.project}/devices/{next(waiting)}"
        request = encode_request(
            "DELETE", place.api, path, b"", Authorization=f"Bearer {place.api_key}"
        )
        answer = await connection.request(request)
        if answer.status not in _GONE:
            raise ConnectionError(f"unregister: {answer.status} {answer.body[:_SHOWN].decode()}")

    async with http_pool(place.api, min(AT_ONCE, len(device_ids) or 1)) as pool:
        await each_of(len(device_ids), pool, one)


async def assign_users(place: Place, layout: Layout, devices: Sequence[tuple[int, str]]) -> None:
    """Say as an app server whose devices these are: (number in the run, device id).

    Raises:
        ConnectionError: the API refused one (in an ExceptionGroup).
    """
    waiting = iter(devices)

    async def one(connection: HttpConnection) -> None:
        device, device_id = next(waiting)
        request = encode_request(
            "PATCH",
            place.api,
            f"/v1/projects/{place.project}/devices/{device_id}",
            msgspec.json.encode({"user": layout.user_of(device)}),
            Authorization=f"Bearer {place.api_key}",
        )
        answer = await connection.request(request)
        if answer.status != _OK:
            raise ConnectionError(f"user: {answer.status} {answer.body[:_SHOWN].decode()}")

    async with http_pool(place.api, min(AT_ONCE, len(devices))) as pool:
        await each_of(len(devices), pool, one)
