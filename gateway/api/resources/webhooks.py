"""Webhooks: where a project wants its callbacks; the next stage is `router.callbacks.endpoints`."""

from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339, rfc3339_or_none
from router.model.errors import ErrorCode
from router.model.ids import ProjectId
from router.model.project import Scope
from router.model.webhook import Health, Kind, Webhook

_DAY_S: Final = 86_400
Events = Annotated[
    list[
        Annotated[Kind, Meta(description="message.receipts, device.message or device.unregistered")]
    ],
    Meta(description="an array of what it wants to hear of; empty or missing: everything"),
]


class NewWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A webhook to make; without a secret it gets a new one."""

    url: Annotated[str, Meta(description="an http or https URL with a host")]
    events: Events | None = None
    secret: Annotated[str, Meta(description="whsec_ and 24 to 64 bytes in base64")] | None = None


class WebhookChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; what is missing stays. `disabled: false` enables it again."""

    url: str | None = None
    events: Events | None = None
    disabled: bool | None = None


class SecretRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new secret; the one before signs too for `overlap` seconds, a day where it is missing."""

    secret: Annotated[str, Meta(description="whsec_ and 24 to 64 bytes in base64")] | None = None
    overlap: Annotated[int, Meta(description="0 to 604800 seconds")] | None = None


class HealthView(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the endpoint has answered; what is missing never happened."""

    state: str
    """ok, failing or disabled."""
    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_error: str = ""
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_reason: str = ""


class WebhookView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A webhook; `secret` only in the answer that made it."""

    id: str
    url: str
    events: list[str]
    created_at: datetime
    health: HealthView
    previous_secret_until: datetime | None = None
    secret: str = ""


class WebhookList(msgspec.Struct, frozen=True):
    """The webhooks of a project, oldest first."""

    webhooks: list[WebhookView]


class WebhookDeleted(msgspec.Struct, frozen=True):
    """The webhook is gone, with what waited for it and its dead letters."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    webhooks = "/v1/projects/{project}/webhooks"
    webhook = f"{webhooks}/{{webhook}}"
    project = Access.PROJECT
    missing = (ErrorCode.NOT_FOUND,)
    bad = (ErrorCode.INVALID_ARGUMENT,)
    return [
        Route(
            "POST",
            webhooks,
            handlers.create,
            "Make a webhook: callbacks go to its URL from now on. Its secret is shown this once.",
            project,
            NewWebhook,
            WebhookView,
            201,
            errors=(*bad, *missing, ErrorCode.QUOTA_EXCEEDED),
            detail="Callbacks are signed requests as Standard Webhooks describes them. This call "
            "and the others of webhooks and dead letters take the scope `admin`.",
        ),
        Route("GET", webhooks, handlers.list, "List the webhooks with their health.", project,
              None, WebhookList),
        Route("GET", webhook, handlers.get, "Read a webhook with its health.", project, None,
              WebhookView, errors=missing),
        Route("PATCH", webhook, handlers.change, "Change, disable or enable a webhook.", project,
              WebhookChange, WebhookView, errors=(*bad, *missing)),
        Route("DELETE", webhook, handlers.delete,
              "Delete a webhook with what waits for it and its dead letters.", project, None,
              WebhookDeleted, errors=missing),
        Route("POST", f"{webhook}:rotateSecret", handlers.rotate,
              "Give a webhook a new secret; for a while requests carry both signatures.", project,
              SecretRotation, WebhookView, errors=(*bad, *missing)),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._endpoints = services.endpoints
        self._projects = services.projects_service

    async def create(self, call: Call) -> Reply:
        project = await self._project(call)
        body = await call.json(NewWebhook)
        await self._projects.require(project)
        webhook = await self._endpoints.create(
            project, body.url, body.events or (), body.secret or ""
        )
        return reply(_view(webhook, Health(), call.now_ms, webhook.secrets[0].value), 201)

    async def list(self, call: Call) -> Reply:
        found = await self._endpoints.all(await self._project(call))
        views = [_view(webhook, health, call.now_ms) for webhook, health in found]
        return reply(WebhookList(views))

    async def get(self, call: Call) -> Reply:
        project = await self._project(call)
        webhook, health = await self._endpoints.get(project, call.parameters[1])
        return reply(_view(webhook, health, call.now_ms))

    async def change(self, call: Call) -> Reply:
        project = await self._project(call)
        body = await call.json(WebhookChange)
        webhook, health = await self._endpoints.change(
            project, call.parameters[1], body.url, body.events, disabled=body.disabled
        )
        return reply(_view(webhook, health, call.now_ms))

    async def delete(self, call: Call) -> Reply:
        project = await self._project(call)
        await self._endpoints.remove(project, call.parameters[1])
        return reply(WebhookDeleted())

    async def rotate(self, call: Call) -> Reply:
        project = await self._project(call)
        body = await call.json(SecretRotation)
        overlap_s = _DAY_S if body.overlap is None else body.overlap
        name = call.parameters[1]
        webhook = await self._endpoints.rotate(project, name, body.secret or "", overlap_s)
        _, health = await self._endpoints.get(project, name)
        return reply(_view(webhook, health, call.now_ms, webhook.secrets[0].value))

    async def _project(self, call: Call) -> ProjectId:
        """Give the project; whoever sets up webhooks reads everything, so the scope is `admin`."""
        project = call.project()
        await self._auth.app_server(call, project, Scope.ADMIN)
        return project


def _view(webhook: Webhook, health: Health, now_ms: int, secret: str = "") -> WebhookView:
    until_ms = max(each.until_ms for each in webhook.secrets)
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=sorted(kind.value for kind in webhook.events),
        created_at=rfc3339(webhook.created_ms),
        health=_health(webhook, health),
        previous_secret_until=rfc3339(until_ms) if until_ms > now_ms else None,
        secret=secret,
    )


def _health(webhook: Webhook, health: Health) -> HealthView:
    state = "failing" if health.failing_since_ms else "ok"
    return HealthView(
        state="disabled" if webhook.disabled_ms else state,
        last_success=rfc3339_or_none(health.success_ms),
        last_failure=rfc3339_or_none(health.failure_ms),
        last_error=health.error,
        failing_since=rfc3339_or_none(health.failing_since_ms),
        disabled_at=rfc3339_or_none(webhook.disabled_ms),
        disabled_reason=webhook.disabled_reason,
    )
