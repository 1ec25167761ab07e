"""Dead letters: callbacks and pushes that were given up; the next stage: `router.bridging.dead`."""

import re
from datetime import datetime
from typing import Final

import msgspec

from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Query, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339
from gateway.api.violations import refuse
from router.model.errors import ErrorCode, FieldViolation
from router.model.ids import ProjectId
from router.model.project import Scope
from router.model.webhook import DeadLetter

_PAGE: Final = 50
_MOST: Final = 100
_LIMIT: Final = re.compile(r"[1-9][0-9]?|100")
_TOKEN: Final = re.compile(r"([0-9]{1,15})\.(msg_[a-z2-7]+)")


class AttemptView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request; `status` is missing where no answer came."""

    time: datetime
    error: str
    status: int = 0


class DeadLetterView(msgspec.Struct, frozen=True):
    """What was given up. Of a callback `id` is its `webhook-id`, also when it is sent again."""

    id: str
    webhook: str
    """Of a push, `br_<project>_<bridge>`."""
    type: str
    """Of a push, `bridge.push`."""
    receipts: int
    reason: str
    """exhausted, overflow or disabled; of a push exhausted, expired or rejected."""
    created_at: datetime
    died_at: datetime
    attempts: list[AttemptView]


class DeadLetterBody(DeadLetterView, frozen=True):
    """A dead letter with the body of its request."""

    body: msgspec.Raw


class DeadLetterList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Dead letters, the latest first; `next_page` where there are more."""

    dead_letters: list[DeadLetterView]
    next_page: str = ""


class DeadLetterReplayed(msgspec.Struct, frozen=True):
    """It waits to be sent again."""

    id: str


class DeadLetterDropped(msgspec.Struct, frozen=True):
    """It is forgotten."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    letters = "/v1/projects/{project}/deadLetters"
    letter = f"{letters}/{{letter}}"
    project = Access.PROJECT
    missing = (ErrorCode.NOT_FOUND,)
    return [
        Route(
            "GET",
            letters,
            handlers.list,
            "List the dead letters, the latest first.",
            project,
            None,
            DeadLetterList,
            errors=(ErrorCode.INVALID_ARGUMENT,),
            query=(
                Query("webhook", "The id of a webhook, for its dead letters alone."),
                Query("limit", "1 to 100; 50 where it is missing."),
                Query("page", "`next_page` of the page before."),
            ),
        ),
        Route("GET", letter, handlers.show, "Read a dead letter with its body.", project, None,
              DeadLetterBody, errors=missing),
        Route("POST", f"{letter}:replay", handlers.replay,
              "Send a dead letter again: a callback as it was, a push with new tries.", project,
              None, DeadLetterReplayed,
              errors=(*missing, ErrorCode.QUOTA_EXCEEDED, ErrorCode.FAILED_PRECONDITION)),
        Route("DELETE", letter, handlers.drop, "Forget a dead letter.", project, None,
              DeadLetterDropped, errors=missing),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._letters = services.dead_letters

    async def list(self, call: Call) -> Reply:
        project = await self._project(call)
        limit, before = _limit(call), _before(call)
        webhook = call.request.query.get("webhook", "")
        found, more = await self._letters.letters(project, webhook, before, limit)
        token = f"{found[-1].died_ms}.{found[-1].id}" if more and found else ""
        return reply(DeadLetterList([_view(letter) for letter in found], token))

    async def show(self, call: Call) -> Reply:
        project = await self._project(call)
        letter = await self._letters.letter(project, call.parameters[1])
        view = msgspec.structs.asdict(_view(letter))
        return reply(DeadLetterBody(**view, body=msgspec.Raw(letter.body)))

    async def replay(self, call: Call) -> Reply:
        project = await self._project(call)
        letter = await self._letters.replay(project, call.parameters[1])
        return reply(DeadLetterReplayed(letter.id))

    async def drop(self, call: Call) -> Reply:
        project = await self._project(call)
        await self._letters.drop(project, call.parameters[1])
        return reply(DeadLetterDropped())

    async def _project(self, call: Call) -> ProjectId:
        project = call.project()
        await self._auth.app_server(call, project, Scope.ADMIN)
        return project


def _limit(call: Call) -> int:
    text = call.request.query.get("limit", str(_PAGE))
    if not _LIMIT.fullmatch(text):
        raise refuse([FieldViolation("limit", f"must be 1 to {_MOST}")])
    return int(text)


def _before(call: Call) -> tuple[int, str] | None:
    text = call.request.query.get("page", "")
    if not text:
        return None
    if (found := _TOKEN.fullmatch(text)) is None:
        raise refuse([FieldViolation("page", "must be `next_page` of the page before")])
    return int(found[1]), found[2]


def _view(letter: DeadLetter) -> DeadLetterView:
    return DeadLetterView(
        id=letter.id,
        webhook=letter.webhook,
        type=letter.kind,
        receipts=letter.receipts,
        reason=letter.reason,
        created_at=rfc3339(letter.created_ms),
        died_at=rfc3339(letter.died_ms),
        attempts=[
            AttemptView(rfc3339(attempt.time_ms), attempt.error, attempt.status)
            for attempt in letter.history
        ],
    )
