"""A client of the HTTP API, for the commands."""

import argparse
import contextlib
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from gateway.settings import Settings, variable
from gateway.supervisor.ground import running_endpoints
from router.model.errors import ErrorCode, PushError

_TIMEOUT_S: Final = 30.0


class _ErrorBody(msgspec.Struct):
    message: str = ""
    status: str = ""


class _Failure(msgspec.Struct):
    error: _ErrorBody


class TimelineEntry(msgspec.Struct):
    """One event of a message's life."""

    type: str
    time: str
    device_id: str = ""
    detail: str = ""


class Status(msgspec.Struct):
    """What became of a message."""

    name: str
    state: str
    created_at: str = ""
    expires_at: str = ""
    timeline: list[TimelineEntry] = []


class _Sent(msgspec.Struct):
    name: str


class _Webhook(msgspec.Struct):
    secret: str


class ApiClient:
    """Speaks for one project.

    Args:
        session: to send with.
        base: URL of the API, without a slash at its end.
        project: whose messages.
        api_key: of the project.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base: str, project: str, api_key: str
    ) -> None:
        self._session = session
        self._root = f"{base}/v1/projects/{project}"
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def send(self, message: Mapping[str, object]) -> str:
        """Send a message, and give its id.

        Raises:
            PushError: it was refused, or the API is away.
        """
        body = await self._call("POST", "/messages:send", {"message": message})
        return msgspec.json.decode(body, type=_Sent).name.rpartition("/")[2]

    async def status(self, message_id: str) -> tuple[Status, object]:
        """Give what became of a message, parsed and as it came.

        Raises:
            PushError: there is no such message, or the API is away.
        """
        body = await self._call("GET", f"/messages/{quote(message_id, safe='')}", None)
        return msgspec.json.decode(body, type=Status), msgspec.json.decode(body)

    async def make_webhook(self, url: str) -> str:
        """Have callbacks sent to a URL, and give the secret of their signatures.

        Raises:
            PushError: it was refused, or the API is away.
        """
        body = await self._call("POST", "/webhooks", {"url": url})
        return msgspec.json.decode(body, type=_Webhook).secret

    async def call(self, method: str, path: str, body: object = None) -> bytes:
        """Make a call below the project, and give the JSON that answers it.

        Raises:
            PushError: it was refused, or the API is away.
        """
        return await self._call(method, path, body)

    async def _call(self, method: str, path: str, body: object) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        try:
            async with self._session.request(
                method, self._root + path, data=data, headers=self._headers
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise PushError(
                ErrorCode.UNAVAILABLE, f"the API at {self._root} does not answer: {error}"
            ) from error
        if response.status in {HTTPStatus.OK, HTTPStatus.CREATED}:
            return answer
        raise _as_error(response.status, answer)


def _as_error(status: int, answer: bytes) -> PushError:
    try:
        found = msgspec.json.decode(answer, type=_Failure).error
    except msgspec.MsgspecError:
        return PushError(ErrorCode.INTERNAL, f"the API answered {status}")
    return PushError(ErrorCode.INTERNAL, f"{found.message} ({status} {found.status})")


def add_api_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which project, and where its API is."""
    parser.add_argument(
        "--project", default=variable("project"), help="project id; or PUSHWIRE_PROJECT"
    )
    parser.add_argument(
        "--api-key", default=variable("api_key"), help="its secret key; or PUSHWIRE_API_KEY"
    )
    parser.add_argument(
        "--api-url",
        default=variable("api_url"),
        help="e.g. http://127.0.0.1:8080; or PUSHWIRE_API_URL; by default that of the "
        "`serve` which runs in the data directory",
    )


def api_url(settings: Settings, given: str) -> str:
    """Give the URL of the API: as given, else of the `serve` that runs, else of the settings.

    Raises:
        PushError: what is given is no URL.
    """
    if given:
        if not given.startswith(("http://", "https://")):
            raise PushError(
                ErrorCode.INVALID_ARGUMENT,
                "--api-url or PUSHWIRE_API_URL takes a URL such as http://127.0.0.1:8080, "
                f"not {given!r}",
            )
        return given.rstrip("/")
    running = running_endpoints(settings.data_dir)
    return running.api if running else f"http://{settings.host}:{settings.api_port}"


@contextlib.asynccontextmanager
async def api_client(args: argparse.Namespace, settings: Settings) -> AsyncIterator[ApiClient]:
    """Make a client of what the arguments say.

    Raises:
        PushError: the project or its key is missing, or the address is no URL.
    """
    for name in ("project", "api_key"):
        if not getattr(args, name):
            flag = "--" + name.replace("_", "-")
            raise PushError(
                ErrorCode.INVALID_ARGUMENT,
                f"{flag} or PUSHWIRE_{name.upper()} is needed; `pushwire project create` gives one",
            )
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield ApiClient(session, api_url(settings, args.api_url), args.project, args.api_key)
