"""A sender of short messages, as somebody would add it: one file, and no other line.

Its provider, of the kind that many sell, takes `POST /v1/messages` with a key.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from router import bridges

KEY = "key-of-the-sms-provider"
_MODULE = '''
"""SMS through an HTTP API."""

import re
from typing import Annotated, ClassVar, Final, Literal

import msgspec
import orjson
from msgspec import Meta

from router.bridge import (
    UNREADABLE, Address, Authorization, Bridge, Content, Credentials, Delivered, Recipient, Request,
    RetryAfter, Scope, TooLarge, Unregistered, by_status, push_deadline, retry_after_s,
)
from router.model.bridge_option import Option, Takes
from router.policy.bridge_fields import COMMON, common_faults, parsed, refuse

MAX_BYTES: Final = 320
_YEAR_MS: Final = 365 * 86_400_000


class SmsCredentials(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ACCEPTS: ClassVar[dict[str, str]] = {
        "api_key": "the key of your account: 8 characters or more", "sender": "a name", **COMMON,
    }
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option("--api-key-file", "api_key", Takes.FILE, "key of the account", "F", required=True),
        Option("--sender", "sender", Takes.TEXT, "who it comes from", "NAME", required=True),
    )
    api_key: Annotated[str, Meta(min_length=8)]
    sender: str

    def shown(self):
        return {"sender": self.sender, **Credentials.shown(self)}


class SmsAddress(Address, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ACCEPTS: ClassVar[dict[str, str]] = {"type": "sms", "number": "a number as +491701234567"}
    type: Literal["sms"] = "sms"
    number: Annotated[str, Meta(pattern="^\\\\+[0-9]{6,15}\\\\Z")]

    @property
    def identity(self):
        return self.number


class SmsContent(Content, frozen=True):
    text: str


class _Answer(msgspec.Struct):
    id: str = ""
    error: str = ""


class Sms(Bridge[SmsCredentials, SmsAddress, SmsContent]):
    name: ClassVar[str] = "sms"
    takes: ClassVar[type[Credentials]] = SmsCredentials

    def credentials(self, raw):
        made = parsed(SmsCredentials, raw, "")
        if faults := common_faults(made.endpoint, made.ca):
            raise refuse("", faults)
        return made

    def address(self, raw):
        return parsed(SmsAddress, raw, "bridge")

    def audience(self, credentials, address):
        return credentials.endpoint or "https://api.sms.example"

    def authorize(self, credentials, audience, now_ms):
        ends_ms = now_ms + _YEAR_MS
        return Authorization(f"Bearer {credentials.api_key}", ends_ms, ends_ms, ends_ms)

    def content(self, push):
        shown = push.notification
        text = shown.body or shown.title if shown else ""
        size = len(text.encode())
        return TooLarge(size, MAX_BYTES) if size > MAX_BYTES else SmsContent(push, text)

    def encode(self, content, credentials, recipient, authorization, now_ms, entropy=b""):
        body = {"to": recipient.address.number, "from": credentials.sender, "text": content.text,
                "reference": content.push.id}
        return Request("POST", self.audience(credentials, None), "/v1/messages",
                       (("authorization", authorization.value),
                        ("content-type", "application/json")),
                       orjson.dumps(body), push_deadline(content.push, now_ms))

    def read(self, response, now_ms):
        try:
            answer = msgspec.json.decode(response.body, type=_Answer)
        except UNREADABLE:
            answer = _Answer()
        if response.status == 201:
            return Delivered(answer.id)
        if answer.error == "unknown_number":
            return Unregistered(answer.error)
        if response.status == 429:
            return RetryAfter(answer.error, retry_after_s(response, now_ms), Scope.AUDIENCE)
        return by_status(response.status, answer.error)


BRIDGE = Sms()
'''


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the file, and have bridges looked for in its folder too."""
    (folder / "sms.py").write_text(_MODULE)
    monkeypatch.setattr(bridges, "__path__", [*bridges.__path__, str(folder)])


class SmsProvider:
    """Takes what has the key; the next requests may meet other answers."""

    def __init__(self) -> None:
        self.url = ""
        self.taken: list[dict[str, Any]] = []
        self.next: list[tuple[int, str, str]] = []
        """Status, error, Retry-After."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length:")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length))
                writer.write(self._answer(head, json.loads(body)))
        writer.close()

    def _answer(self, head: str, body: dict[str, Any]) -> bytes:
        if f"authorization: bearer {KEY}" not in head or "post /v1/messages " not in head:
            return _http(401, {"error": "unauthorized"}, "")
        if self.next:
            status, error, after = self.next.pop(0)
            return _http(status, {"error": error}, after)
        self.taken.append(body)
        return _http(201, {"id": f"sms-{len(self.taken)}"}, "")


def _http(status: int, body: dict[str, str], retry_after: str) -> bytes:
    text = json.dumps(body).encode()
    more = f"Retry-After: {retry_after}\r\n" if retry_after else ""
    head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\n{more}\r\n"
    return head.encode() + text


@contextlib.asynccontextmanager
async def sms_provider() -> AsyncIterator[SmsProvider]:
    """Run a provider on loopback."""
    provider = SmsProvider()
    async with await asyncio.start_server(provider.serve, "127.0.0.1", 0) as server:
        provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield provider
