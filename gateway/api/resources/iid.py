"""FCM's Instance ID calls for topics, as its server SDKs make them.

They differ from all others in their errors, which are texts, and in that their path names no
project: it is the caller's own.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.api import errors
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from router.model.errors import ErrorCode, PushError
from router.model.ids import parse_topic
from router.model.project import Scope
from router.model.topic import SubscribeResult
from router.subscription import TokenOutcome

MAX_BYTES: Final = 262_144
"""A body with a thousand tokens."""


class InstanceTokens(msgspec.Struct, forbid_unknown_fields=True):
    """A topic, `/topics/` before its name, and whose subscriptions change."""

    to: str
    registration_tokens: Annotated[
        list[str], Meta(min_length=1, max_length=1000, description="an array of 1 to 1000 tokens")
    ]


class InstanceResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An empty object, or one of FCM's words: `NOT_FOUND`, `TOO_MANY_TOPICS`, `INTERNAL`."""

    error: str = ""


class InstanceResults(msgspec.Struct, frozen=True):
    """What became of each token, in the order of the request."""

    results: list[InstanceResult]


class InstanceError(msgspec.Struct, frozen=True):
    """Why the call as a whole was refused: a text, unlike everywhere else."""

    error: str


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    bad = (ErrorCode.INVALID_ARGUMENT,)
    detail = 'Errors of the call as a whole are `{"error": "<text>"}`, as FCM answers them.'
    return [
        Route("POST", "/iid/v1:batchAdd", handlers.add, "Subscribe devices to a topic (FCM).",
              Access.PROJECT, InstanceTokens, InstanceResults, errors=bad, detail=detail),
        Route("POST", "/iid/v1:batchRemove", handlers.remove,
              "End devices' subscriptions to a topic (FCM).", Access.PROJECT, InstanceTokens,
              InstanceResults, errors=bad, detail=detail),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._subscription = services.subscription

    async def add(self, call: Call) -> Reply:
        return await self._answer(call, subscribe=True)

    async def remove(self, call: Call) -> Reply:
        return await self._answer(call, subscribe=False)

    async def _answer(self, call: Call, *, subscribe: bool) -> Reply:
        try:
            return await self._change(call, subscribe=subscribe)
        except PushError as error:
            text = f"{error.code.value.status}: {error.message}"
            body = msgspec.json.encode(InstanceError(text))
            return Reply(
                body,
                error.code.value.http,
                headers=errors.headers(error),
                close=error.code is ErrorCode.PAYLOAD_TOO_LARGE,
            )

    async def _change(self, call: Call, *, subscribe: bool) -> Reply:
        caller = await self._auth.any_app_server(call)
        if Scope.DEVICES not in caller.scopes:
            raise PushError(ErrorCode.PERMISSION_DENIED, "The key lacks the scope `devices`.")
        body = await call.json(InstanceTokens, MAX_BYTES)
        topic = parse_topic(body.to)
        if topic is None:
            raise PushError(ErrorCode.INVALID_ARGUMENT, "`to` is not the name of a topic.")
        outcomes = await self._subscription.change_tokens(
            caller.project, topic, body.registration_tokens, subscribe=subscribe
        )
        return reply(InstanceResults([InstanceResult(_word(outcome)) for outcome in outcomes]))


_WORDS: Final = {
    SubscribeResult.DONE: "",
    SubscribeResult.UNREGISTERED: "NOT_FOUND",
    SubscribeResult.SENDER_ID_MISMATCH: "PERMISSION_DENIED",
    SubscribeResult.TOO_MANY: "TOO_MANY_TOPICS",
}


def _word(outcome: TokenOutcome) -> str:
    """Give FCM's word for what became of a token."""
    return "INTERNAL" if isinstance(outcome, PushError) else _WORDS[outcome]
