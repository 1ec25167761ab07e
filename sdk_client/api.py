"""A device's calls of the HTTP API: register, change, rotate its token, unregister.

The standard library's client, in a thread. Proxies of the environment are used, except for loopback
addresses; redirects are not followed, for they would carry secrets elsewhere.
"""

import asyncio
import http.client
import ipaddress
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from sdk_client.errors import ApiError, FieldViolation

TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 1_048_576
DEVICE_PORT: Final = 8081
_SECONDS: Final = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Registered:
    """What the API gives a new device. `device_url` is empty where the API does not say it."""

    device_id: str
    token: str
    credential: str
    device_url: str = ""


class Api:
    """The API, as devices use it.

    Args:
        url: of the API, such as `https://push.example.com`.
        project: whose device it is.
        tls: for `https`; None: the system's certificates.

    Raises:
        ValueError: the URL is not one of HTTP.
    """

    def __init__(self, url: str, project: str, tls: ssl.SSLContext | None = None) -> None:
        base = split_url(url, ("http", "https"))
        self._devices = f"{base.geturl()}/v1/projects/{quote(project, safe='')}/devices"
        self._opener = _opener(tls, proxies=not is_loopback(base.hostname or ""))

    async def register(self, client_key: str, about: Mapping[str, object]) -> Registered:
        """Register a device.

        Raises:
            ApiError: the API refused it or could not be reached.
        """
        answer = await self._call("POST", "", {"X-Client-Key": client_key}, about)
        return Registered(
            device_id=_text(answer, "device_id"),
            token=_text(answer, "token"),
            credential=_text(answer, "credential"),
            device_url=_text(answer, "device_url", ""),
        )

    async def change(self, device_id: str, credential: str, about: Mapping[str, object]) -> None:
        """Change what is known of a device.

        Raises:
            ApiError: as `register`.
        """
        await self._call("PATCH", _path(device_id), _bearer(credential), about)

    async def rotate_token(self, device_id: str, credential: str) -> str:
        """Give the device a new token, and return it.

        Raises:
            ApiError: as `register`.
        """
        path = f"{_path(device_id)}:rotateToken"
        return _text(await self._call("POST", path, _bearer(credential), {}), "token")

    async def unregister(self, device_id: str, credential: str) -> None:
        """End the registration.

        Raises:
            ApiError: as `register`.
        """
        await self._call("DELETE", _path(device_id), _bearer(credential), None)

    async def _call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, object] | None,
    ) -> dict[str, object]:
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self._devices + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **headers},
            method=method,
        )
        return await asyncio.to_thread(self._exchange, request)

    def _exchange(self, request: urllib.request.Request) -> dict[str, object]:
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                content: bytes = response.read(MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise _refused(refusal) from None
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise ApiError(f"cannot reach {request.host}: {reason}") from error
        found = _json(content)
        if found is None:
            raise ApiError(f"{request.host} does not answer like Pushwire", status="INTERNAL")
        return found


def _opener(tls: ssl.SSLContext | None, *, proxies: bool) -> urllib.request.OpenerDirector:
    """Make a client that knows no redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(None if proxies else {}),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def split_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Take a base URL apart, without a slash at its end.

    Raises:
        ValueError: it has another scheme, no host, or a port that is none.
    """
    found = urlsplit(url)
    if found.scheme not in schemes or not found.hostname or found.port == 0:
        raise ValueError(f"{url!r} is not a URL like {schemes[0]}://host:port")
    return SplitResult(found.scheme, found.netloc, found.path.rstrip("/"), "", "")


def device_url_of(url: str) -> str:
    """Derive where devices connect from the API's URL: the same host, port 8081.

    Raises:
        ValueError: the URL is not one of HTTP.
    """
    base = split_url(url, ("http", "https"))
    host = base.hostname or ""
    literal = f"[{host}]" if ":" in host else host
    scheme = "wss" if base.scheme == "https" else "ws"
    return f"{scheme}://{literal}:{DEVICE_PORT}"


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _path(device_id: str) -> str:
    return "/" + quote(device_id, safe="")


def _bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def _refused(refusal: urllib.error.HTTPError) -> ApiError:
    """Read the one error shape of the API; a proxy's answer has another one."""
    try:
        content = refusal.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException):
        content = b""
    found = (_json(content) or {}).get("error")
    error: dict[str, object] = found if isinstance(found, dict) else {}
    message = error.get("message")
    status = error.get("status")
    return ApiError(
        message if isinstance(message, str) else f"HTTP {refusal.code} {refusal.reason}",
        http_status=refusal.code,
        status=status if isinstance(status, str) else "UNKNOWN",
        violations=_violations(error.get("details")),
        retry_after_s=seconds(refusal.headers.get("Retry-After")),
    )


def seconds(text: str | None) -> float | None:
    """Read a Retry-After header of seconds; None for another one, or none."""
    return float(text) if text is not None and _SECONDS.fullmatch(text) else None


def _violations(details: object) -> tuple[FieldViolation, ...]:
    found: list[FieldViolation] = []
    for detail in details if isinstance(details, list) else []:
        listed = detail.get("fieldViolations") if isinstance(detail, dict) else None
        for each in listed if isinstance(listed, list) else []:
            if isinstance(each, dict):
                field, description = each.get("field", ""), each.get("description", "")
                found += (FieldViolation(str(field), str(description)),)
    return tuple(found)


def _json(content: bytes) -> dict[str, object] | None:
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(answer: Mapping[str, object], key: str, default: str | None = None) -> str:
    found = answer.get(key, default)
    if not isinstance(found, str):
        raise ApiError(f"the answer lacks `{key}`", status="INTERNAL")
    return found
