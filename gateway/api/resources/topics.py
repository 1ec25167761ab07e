"""Topics: who subscribes, changed by app servers; the next stage is `router.subscription`.

Besides our own calls for many tokens there are FCM's v1 calls for one, as its newer SDKs make them.
"""

from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta

from gateway.api import errors
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Query, Route
from gateway.api.services import Services
from gateway.api.violations import refuse
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import ProjectId, TopicName, parse_topic
from router.model.project import Scope
from router.model.topic import MAX_TOPICS, SubscribeResult
from router.subscription import TokenOutcome

MAX_BYTES: Final = 262_144
"""A body with a thousand tokens."""


class Tokens(msgspec.Struct, forbid_unknown_fields=True):
    """Whose subscriptions change."""

    tokens: Annotated[
        list[Annotated[str, Meta(max_length=256, description="a token")]],
        Meta(min_length=1, max_length=1000, description="an array of 1 to 1000 tokens"),
    ]


class TokenResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An empty object for a device that was changed, or why it was not."""

    error: errors.ErrorContent | msgspec.UnsetType = msgspec.UNSET


class TokenResults(msgspec.Struct, frozen=True):
    """What became of each token, in the order of the request."""

    results: list[TokenResult]


class TopicSubscription(msgspec.Struct, frozen=True):
    """A device's subscription to a topic, as FCM names it."""

    name: str


class Unsubscribed(msgspec.Struct, frozen=True):
    """The device does not subscribe (any more)."""


class TopicView(msgspec.Struct, frozen=True):
    """How many devices subscribe, and how many messages its log holds, expired ones included."""

    topic: str
    subscribers: int
    messages: int


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    topic = "/v1/projects/{project}/topics/{topic}"
    subscriptions = "/v1/projects/{project}/registrations/{token}/topicSubscriptions"
    bad = (ErrorCode.INVALID_ARGUMENT,)
    refused = (
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.UNREGISTERED,
        ErrorCode.SENDER_ID_MISMATCH,
        ErrorCode.QUOTA_EXCEEDED,
    )
    detail = (
        "A device gets what is published after it subscribed. Errors of a token: `UNREGISTERED`, "
        f"`SENDER_ID_MISMATCH`, `QUOTA_EXCEEDED` beyond {MAX_TOPICS} topics of a device."
    )
    return [
        Route("GET", topic, handlers.get, "Count a topic's subscribers.", Access.PROJECT, None,
              TopicView, errors=(ErrorCode.INVALID_ARGUMENT,)),
        Route("POST", f"{topic}:subscribe", handlers.subscribe, "Subscribe devices to a topic.",
              Access.PROJECT, Tokens, TokenResults, errors=bad, detail=detail),
        Route("POST", f"{topic}:unsubscribe", handlers.unsubscribe,
              "End devices' subscriptions to a topic.", Access.PROJECT, Tokens, TokenResults,
              errors=bad),
        Route("POST", subscriptions, handlers.add, "Subscribe one device to a topic (FCM v1).",
              Access.PROJECT, None, TopicSubscription, errors=refused,
              query=(Query("topic_name", "The name of the topic.", required=True),)),
        Route("DELETE", f"{subscriptions}/{{topic}}", handlers.remove,
              "End one device's subscription to a topic (FCM v1).", Access.PROJECT, None,
              Unsubscribed, errors=refused,
              detail="It is no error where there is none, with or without `allow_missing`."),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._subscription = services.subscription

    async def get(self, call: Call) -> Reply:
        project, topic = await self._topic(call, Scope.SEND)
        stats = await self._subscription.stats(project, topic)
        return reply(TopicView(topic, stats.subscribers, stats.messages))

    async def subscribe(self, call: Call) -> Reply:
        return await self._change(call, subscribe=True)

    async def unsubscribe(self, call: Call) -> Reply:
        return await self._change(call, subscribe=False)

    async def _change(self, call: Call, *, subscribe: bool) -> Reply:
        project, topic = await self._topic(call, Scope.DEVICES)
        body = await call.json(Tokens, MAX_BYTES)
        outcomes = await self._subscription.change_tokens(
            project, topic, body.tokens, subscribe=subscribe
        )
        return reply(TokenResults([_result(outcome) for outcome in outcomes]))

    async def add(self, call: Call) -> Reply:
        named = parse_qs(urlsplit(call.request.raw_path).query).get("topic_name", [""])
        project, topic = await self._one(call, named[0], "topic_name", subscribe=True)
        token = call.parameters[1]
        name = f"projects/{project}/registrations/{token}/topicSubscriptions/{topic}"
        return reply(TopicSubscription(name))

    async def remove(self, call: Call) -> Reply:
        await self._one(call, call.parameters[2], "topic", subscribe=False)
        return reply(Unsubscribed())

    async def _one(
        self, call: Call, name: str, field: str, *, subscribe: bool
    ) -> tuple[ProjectId, TopicName]:
        project = call.project()
        await self._auth.app_server(call, project, Scope.DEVICES)
        topic = _parsed(name, field)
        (outcome,) = await self._subscription.change_tokens(
            project, topic, [call.parameters[1]], subscribe=subscribe
        )
        if outcome is not SubscribeResult.DONE:
            raise outcome if isinstance(outcome, PushError) else _REFUSALS[outcome]
        return project, topic

    async def _topic(self, call: Call, scope: Scope) -> tuple[ProjectId, TopicName]:
        project = call.project()
        await self._auth.app_server(call, project, scope)
        return project, _parsed(call.parameters[1], "topic")


def _parsed(name: str, field: str) -> TopicName:
    topic = parse_topic(name)
    if topic is None:
        accepted = "must be 1 to 900 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
        raise refuse([FieldViolation(field, accepted)])
    return topic


_REFUSALS: Final = {
    SubscribeResult.UNREGISTERED: PushError(
        ErrorCode.UNREGISTERED, "No device has this token: remove it."
    ),
    SubscribeResult.SENDER_ID_MISMATCH: PushError(
        ErrorCode.SENDER_ID_MISMATCH, "The token belongs to another project: use its key."
    ),
    SubscribeResult.TOO_MANY: PushError(
        ErrorCode.QUOTA_EXCEEDED, f"TOO_MANY_TOPICS: a device subscribes to {MAX_TOPICS} at most."
    ),
}


def _result(outcome: TokenOutcome) -> TokenResult:
    if outcome is SubscribeResult.DONE:
        return TokenResult()
    error = outcome if isinstance(outcome, PushError) else _REFUSALS[outcome]
    return TokenResult(errors.body_of(error).error)
