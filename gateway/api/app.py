"""The API process: wires the parts, finds the resources, serves until told to stop."""

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Final, Protocol, cast

import orjson
import structlog
from aiohttp import web

from gateway.acceptors import open_port
from gateway.api import docs_page, errors, openapi, resources
from gateway.api.accounts import accounts_of
from gateway.api.admission import Gate
from gateway.api.audiences import Audiences, audiences_of
from gateway.api.auth import Authenticator
from gateway.api.bridging import bridging_of
from gateway.api.cors import Origins
from gateway.api.door import Admission
from gateway.api.endpoints import dead_letters_of, endpoints_of
from gateway.api.fcm_model import JsonObject
from gateway.api.http_server import HttpServer, Reply
from gateway.api.projects_service import ProjectsService
from gateway.api.request import Call
from gateway.api.routing import Access, Route, Routes
from gateway.api.services import Services
from gateway.api.user_tokens import UserTokens
from gateway.limit_settings import per_minute
from gateway.process import Clock, Entropy, RoleContext, opening
from gateway.settings import Durability, Settings, clients_of
from router.bridging.directory import Directory
from router.listing import Listing
from router.model.errors import ErrorCode, PushError
from router.model.ids import MessageId, ProjectId, is_cast
from router.model.limits import Limit
from router.model.status import MessageStatus
from router.publish import Publisher
from router.quotas import Quotas
from router.registration import Registration
from router.routing import Routing
from router.send import Retract, Sender
from router.store.casts import Casts
from router.store.connection import Store, StoreOptions
from router.store.inbox import Inboxes
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.projects import Projects
from router.store.rates import Rates
from router.store.recent import Recent
from router.store.topics import Topics
from router.subscription import Subscription
from router.telemetry.metrics import Metrics

_GRACE_S: Final = 5.0
"""Seconds that running requests and hints have when the process stops."""
_BACKLOG: Final = 1024
_ACCEPTED: Final = 32
"""Connections in a turn of the loop: those that are not accepted cannot be refused either."""
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class _Resource(Protocol):
    def routes(self, services: Services) -> list[Route]: ...


class Service:
    """Answers every request, whatever it is, in the shapes of the API.

    Args:
        routes: all of them.
        origins: which pages may call.
        now_ms: wall clock, epoch milliseconds.
        max_bytes: the largest body that any call takes.
    """

    def __init__(
        self, routes: Routes, origins: Origins, now_ms: Callable[[], int], max_bytes: int
    ) -> None:
        self._routes = routes
        self._origins = origins
        self._now_ms = now_ms
        self._max_bytes = max_bytes

    async def answer(self, request: web.BaseRequest) -> Reply:
        """Give the reply to a request; what fails becomes an error reply."""
        try:
            route, parameters = self._routes.find(request.method, request.raw_path)
            call = Call(request, parameters, self._now_ms(), self._max_bytes)
            return await route.handler(call)
        except errors.MethodNotAllowedError as error:
            return self._preflight(request) or _refusal(error)
        except PushError as error:
            return _refusal(error)
        except Exception:  # noqa: BLE001 - the last stop of a request: logged, answered with 500
            _log.exception("request.failed", method=request.method)
            return _refusal(PushError(ErrorCode.INTERNAL, errors.INTERNAL_TEXT))

    def _preflight(self, request: web.BaseRequest) -> Reply | None:
        asked = request.headers.get("Access-Control-Request-Method", "")
        if request.method != "OPTIONS" or not asked:
            return None
        try:
            route, _ = self._routes.find(asked, request.raw_path)
        except PushError:
            return None
        return self._origins.preflight(route, request.headers.get("Origin", ""))


def _refusal(error: PushError) -> Reply:
    return Reply(
        errors.encode(error),
        error.code.value.http,
        headers=errors.headers(error),
        close=error.code is ErrorCode.PAYLOAD_TOO_LARGE,
    )


def discover(services: Services) -> Routes:
    """Find the routes of every module in `gateway.api.resources`, and describe them all."""
    origins = Origins(services.settings.allowed_origins)
    found: list[Route] = []
    for module in pkgutil.iter_modules(resources.__path__, f"{resources.__name__}."):
        resource = cast("_Resource", importlib.import_module(module.name))
        found.extend(origins.open(route, _refusal) for route in resource.routes(services))
    return Routes([*found, *_descriptions(found)])


def _descriptions(found: list[Route]) -> list[Route]:
    """Give the routes of the API's own description; it covers all others and itself."""

    async def as_json(_call: Call) -> Reply:
        return Reply(document)

    async def as_page(_call: Call) -> Reply:
        return Reply(page, content_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)

    own = [
        Route("GET", "/openapi.json", as_json, "This description.", Access.OPEN, None, JsonObject),
        Route("GET", "/docs", as_page, "This description for people (HTML).", Access.OPEN),
    ]
    described = openapi.document(Routes([*found, *own]).all)
    document = orjson.dumps(described)
    page = docs_page.render(described).encode()
    return own


@contextlib.asynccontextmanager
async def services_of(
    settings: Settings, clock: Clock, entropy: Entropy, metrics: Metrics
) -> AsyncIterator[Services]:
    """Wire the parts of one process, and take them down in order."""
    async with Store(_options(settings), metrics, clock.now_ms, entropy.bytes) as store:
        mailboxes = Mailboxes(store)
        projects = Projects(store)
        routing = Routing(Inboxes(store), metrics)
        topics = Topics(store)
        bridging = bridging_of(settings, store, clock)
        endpoints = endpoints_of(settings, store, clock, entropy)

        def withdraw(project: ProjectId, message: MessageId) -> None:
            sender.withdraw(project, message)  # it is made below

        publisher = Publisher(
            topics, routing, clock.now_ms, entropy.bytes, withdraw, bridging.terms
        )
        audiences = audiences_of(
            settings, store, routing, metrics, clock, entropy, withdraw, bridging.terms
        )
        sender = Sender(
            mailboxes,
            routing,
            metrics,
            clock.now_ms,
            entropy.bytes,
            retract=_retract(publisher, audiences),
            terms=bridging.terms,
        )
        services = Services(
            settings=settings,
            clock=clock,
            entropy=entropy,
            metrics=metrics,
            store=store,
            leases=Leases(store),
            mailboxes=mailboxes,
            messages=Messages(store),
            projects=projects,
            projects_service=ProjectsService(projects, clock.now_ms, entropy.bytes),
            sender=sender,
            publisher=publisher,
            audiences=audiences,
            subscription=Subscription(topics, routing, clock.now_ms),
            registration=Registration(
                mailboxes,
                routing,
                clock.now_ms,
                entropy.bytes,
                settings.region,
                audiences.bindings,
                bridging.contacts,
            ),
            listing=_listing(settings, store, clock),
            bridges=bridging.directory,
            bridging=bridging,
            accounts=accounts_of(settings, store, clock, entropy, metrics),
            endpoints=endpoints,
            dead_letters=dead_letters_of(settings, store, clock, endpoints),
            authenticator=Authenticator(projects, mailboxes, settings.admin_key, clock.monotonic),
            user_tokens=UserTokens(projects),
            quotas=_quotas(settings, store, clock, metrics),
            clients=clients_of(settings),
        )
        async with _working(sender, routing, services.bridges):
            yield services


@contextlib.asynccontextmanager
async def _working(sender: Sender, routing: Routing, bridges: Directory) -> AsyncIterator[None]:
    """Withdraw what is doubtful and follow the bridges meanwhile; let hints leave at the end."""
    async with asyncio.TaskGroup() as tasks:
        withdrawing = tasks.create_task(sender.run(), name="withdrawals")
        following = tasks.create_task(bridges.run(), name="bridges")
        try:
            yield
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await routing.flush()
        finally:
            withdrawing.cancel()
            following.cancel()


def _retract(publisher: Publisher, audiences: Audiences) -> Retract:
    """Give what takes back a message to many devices, by the kind that its id tells."""

    def retract(
        project: ProjectId, message: MessageId
    ) -> Coroutine[None, None, MessageStatus | None]:
        taker = audiences.caster.cancel if is_cast(message) else publisher.retract
        return taker(project, message)

    return retract


def _listing(settings: Settings, store: Store, clock: Clock) -> Listing:
    recent = Recent(store, settings.recent_messages)
    return Listing(recent, Messages(store), Casts(store), clock.now_ms)


def _options(settings: Settings) -> StoreOptions:
    return StoreOptions(
        url=settings.store_url,
        fsync=settings.durability is Durability.FSYNC,
        replicas=settings.store_replicas,
        retention_ms=settings.status_retention_s * 1000,
        max_pending=settings.max_pending,
        ack_timeout_ms=int(settings.ack_timeout_s * 1000),
    )


def _quotas(settings: Settings, store: Store, clock: Clock, metrics: Metrics) -> Quotas:
    return Quotas(
        Rates(store),
        settings.project_limits(),
        per_minute(settings.address_registrations_per_min),
        clock.monotonic,
        metrics,
    )


@contextlib.asynccontextmanager
async def serving(services: Services, host: str, port: int) -> AsyncIterator[str]:
    """Listen, give the URL, and at the end let running requests finish.

    Args:
        services: what the handlers work with.
        host: address to listen on.
        port: to listen on together with the other API processes; 0 for a free one.

    Raises:
        PushError: the port cannot be had.
    """
    settings = services.settings
    origins = Origins(settings.allowed_origins)
    service = Service(
        discover(services), origins, services.clock.now_ms, settings.max_request_bytes
    )
    metrics = services.metrics
    server = HttpServer(
        service.answer,
        settings.api_max_connections,
        metrics.limit_refusals.labels(Limit.API_CONNECTIONS.value).inc,
        _admission(settings, metrics),
    )
    with opening("api_port", host, port):
        listener = await open_port(server.accept, host, port, _BACKLOG, _ACCEPTED)
    name, bound = listener.address
    try:
        yield f"http://[{name}]:{bound}" if ":" in name else f"http://{name}:{bound}"
    finally:
        listener.close()
        server.pre_shutdown()
        await server.shutdown(_GRACE_S)


def _admission(settings: Settings, metrics: Metrics) -> Admission:
    def show(gate: Gate) -> None:
        metrics.api_queue.set(gate.mean_s)

    refused = metrics.limit_refusals.labels(Limit.API_QUEUE.value).inc
    return Admission(Gate(settings.api_queue_s), refused, show)


async def run(settings: Settings, context: RoleContext) -> None:
    """Serve the API until `context.stopping` is set."""
    async with (
        services_of(settings, context.clock, context.entropy, context.metrics) as services,
        serving(services, settings.host, settings.api_port) as url,
    ):
        context.ready({"url": url})
        await context.stopping.wait()
