"""Topics: who subscribes, changed by app servers; the next stage is `router.subscription`."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.api import errors
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
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
        list[Annotated[str, Meta(max_length=256)]],
        Meta(min_length=1, max_length=1000, description="up to 1000 tokens"),
    ]


class TokenResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An empty object for a device that was changed, or why it was not."""

    error: errors.ErrorContent | msgspec.UnsetType = msgspec.UNSET


class TokenResults(msgspec.Struct, frozen=True):
    """What became of each token, in the order of the request."""

    results: list[TokenResult]


class TopicView(msgspec.Struct, frozen=True):
    """How many devices subscribe, and how many messages its log holds, expired ones included."""

    topic: str
    subscribers: int
    messages: int


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    topic = "/v1/projects/{project}/topics/{topic}"
    bad = (ErrorCode.INVALID_ARGUMENT, ErrorCode.PAYLOAD_TOO_LARGE)
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

    async def _topic(self, call: Call, scope: Scope) -> tuple[ProjectId, TopicName]:
        project = call.project()
        await self._auth.app_server(call, project, scope)
        topic = parse_topic(call.parameters[1])
        if topic is None:
            accepted = "must be 1 to 900 characters of a-z, A-Z, 0-9, -, _, ., ~ and %"
            raise refuse([FieldViolation("topic", accepted)])
        return project, topic


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
