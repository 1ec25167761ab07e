"""Registration, reading, change and end of devices; the next stage is `router.registration`."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.api.auth import Caller
from gateway.api.fcm_model import JsonObject
from gateway.api.http_server import Reply
from gateway.api.request import Call, reply
from gateway.api.routing import Access, Route
from gateway.api.services import Services
from gateway.api.times import rfc3339, rfc3339_or_none
from gateway.api.violations import refuse
from gateway.settings import shown_host
from router.contacts import NO_REACH, Reach
from router.model.device import Device
from router.model.errors import ErrorCode, FieldViolation, PushError, QuotaExceededError
from router.model.ids import ENTROPY_BYTES, DeviceId, ProjectId, new_stamp, parse_device_id
from router.registration import DeviceChanges, DeviceSpec


class _About(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    app_version: str | None = None
    language: Annotated[str, Meta(description="a BCP 47 language tag")] | None = None
    timezone: Annotated[str, Meta(description="a name such as Europe/Berlin")] | None = None
    region: str | None = None
    attributes: dict[str, str] | None = None
    user: str | None = None
    user_token: Annotated[str, Meta(description="a JWT that proves the user")] | None = None
    bridge: Annotated[
        JsonObject | msgspec.UnsetType | None,
        Meta(description="another way to the device, with its `type`: apns, fcm or webpush"),
    ] = msgspec.UNSET


class Registrant(_About):
    """A device to register; `device_id` is made where none is given.

    `user` takes an API key; without one, a `user_token` says whose device it is. A `bridge` is
    taken from the device that had it before: an app that was installed again is a new device.
    """

    platform: Annotated[str, Meta(description="a word such as android, ios, web, python")]
    device_id: str | None = None


class DeviceChange(_About):
    """What to change; what is missing stays, an empty text clears.

    With the device's own credential `user` may be cleared, and is set by `user_token`. `null` takes
    the bridge from the device; the same one again keeps it from being given up as forgotten.
    """

    platform: str | None = None


class BridgeView(msgspec.Struct, frozen=True):
    """Another way to the device; its address is a secret of the device."""

    type: str
    registered_at: datetime


class DeviceView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A registered device. `seen_at` is when it last connected or left."""

    device_id: str
    project: str
    platform: str
    created_at: datetime
    connected: bool
    pending: int
    seen_at: datetime | None = None
    app_version: str = ""
    language: str = ""
    timezone: str = ""
    region: str = ""
    attributes: dict[str, str] = {}
    user: str = ""
    bridge: BridgeView | None = None


class NewToken(msgspec.Struct, frozen=True):
    """The device's new address; the one before is unregistered."""

    token: str


class NewDevice(msgspec.Struct, frozen=True):
    """A device as its registration answers it; both secrets are shown once and never again."""

    device_id: str
    token: str
    credential: str
    device_url: Annotated[str, Meta(description="where the device connects")]


class Unregistered(msgspec.Struct, frozen=True):
    """The device is gone."""


def routes(services: Services) -> list[Route]:
    """List the calls of this resource."""
    handlers = _Handlers(services)
    devices = "/v1/projects/{project}/devices"
    device = f"{devices}/{{device}}"
    owner = Access.DEVICE
    missing = (ErrorCode.NOT_FOUND,)
    bad = (ErrorCode.INVALID_ARGUMENT, ErrorCode.QUOTA_EXCEEDED)
    return [
        Route(
            "POST",
            devices,
            handlers.register,
            "Register a device: answers its token and its credential, each shown this once.",
            Access.CLIENT,
            Registrant,
            NewDevice,
            201,
            errors=(*bad, ErrorCode.ALREADY_EXISTS, ErrorCode.QUOTA_EXCEEDED),
            detail="The token is the address that app servers send to; the credential is the "
            "device's own secret for connecting. A `device_id` that is registered is taken anew "
            "only with an API key or the device's own credential as Bearer.",
        ),
        Route("GET", device, handlers.get, "Read a device.", owner, None, DeviceView,
              errors=missing),
        Route("PATCH", device, handlers.change, "Change what is known of a device.", owner,
              DeviceChange, DeviceView, errors=(*bad, *missing, ErrorCode.QUOTA_EXCEEDED)),
        Route("DELETE", device, handlers.unregister, "Unregister a device: its token is void.",
              owner, None, Unregistered, errors=missing),
        Route("POST", f"{device}:rotateToken", handlers.rotate,
              "Give a device a new token; the old one is unregistered at once.", owner, None,
              NewToken, errors=missing),
    ]  # fmt: skip


class _Handlers:
    def __init__(self, services: Services) -> None:
        self._auth = services.authenticator
        self._mailboxes = services.mailboxes
        self._registration = services.registration
        self._contacts = services.bridging.contacts
        self._user_tokens = services.user_tokens
        self._entropy = services.entropy
        self._settings = services.settings
        self._quotas = services.quotas
        self._clients = services.clients
        self._limit_refusals = services.metrics.limit_refusals

    async def register(self, call: Call) -> Reply:
        project = call.project()
        caller = await self._auth.registrant(call, project)
        if caller.client:
            await self._pay(call)
        body = await call.json(Registrant)
        reach = await self._reach(project, body)
        if caller.device is not None and body.device_id != caller.device:
            raise PushError(ErrorCode.PERMISSION_DENIED, "The credential is of another device.")
        proved = not caller.client
        spec = DeviceSpec(
            platform=body.platform,
            device_id=body.device_id or "",
            app_version=body.app_version or "",
            language=body.language or "",
            timezone=body.timezone or "",
            region=body.region or "",
            attributes=body.attributes or {},
        )
        if body.user_token is not None:  # a refusal must not use it up
            await self._registration.check(project, spec, proved=proved)
        user = await self._user(call, project, body, caller)
        spec = msgspec.structs.replace(spec, user=user or "")
        registered = await self._registration.register(
            project, spec, proved=proved, reach=reach or NO_REACH
        )
        return reply(
            NewDevice(
                device_id=registered.device_id,
                token=registered.token,
                credential=registered.credential,
                device_url=self._device_url(call),
            ),
            201,
        )

    async def _pay(self, call: Call) -> None:
        """Charge the client's address: a client key is public, whoever has the app has it."""
        headers = call.request.headers
        address = self._clients.name(
            call.request.remote or "",
            headers.getall("X-Forwarded-For", ()),
            headers.getall("Forwarded", ()),
        )
        try:
            await self._quotas.register(address)
        except QuotaExceededError as error:
            self._limit_refusals.labels(error.limit.value).inc()
            raise

    def _device_url(self, call: Call) -> str:
        """Tell where devices connect: the setting, else beside the API."""
        settings = self._settings
        if settings.device_url:
            return settings.device_url
        host = shown_host(call.hostname() or settings.host)
        secure = settings.tls_cert or call.scheme() == "https"
        return f"{'wss' if secure else 'ws'}://{host}:{settings.device_port}"

    async def get(self, call: Call) -> Reply:
        project, device, _ = await self._owned(call)
        found = await self._mailboxes.device(device)
        if found is None or found.project != project:
            raise _unknown()
        return reply(_view(found))

    async def change(self, call: Call) -> Reply:
        project, device, caller = await self._owned(call)
        body = await call.json(DeviceChange)
        reach = await self._reach(project, body)
        changes = DeviceChanges(
            platform=body.platform,
            app_version=body.app_version,
            language=body.language,
            timezone=body.timezone,
            region=body.region,
            attributes=body.attributes,
        )
        if body.user_token is not None:  # a refusal must not use it up
            await self._registration.check_update(project, device, changes)
        user = await self._user(call, project, body, caller)
        changes = msgspec.structs.replace(changes, user=user)
        return reply(_view(await self._registration.update(project, device, changes, reach)))

    async def unregister(self, call: Call) -> Reply:
        project, device, _ = await self._owned(call)
        await self._registration.unregister(project, device)
        return reply(Unregistered())

    async def rotate(self, call: Call) -> Reply:
        project, device, _ = await self._owned(call)
        return reply(NewToken(await self._registration.rotate_token(project, device)))

    async def _user(
        self, call: Call, project: ProjectId, body: _About, caller: Caller
    ) -> str | None:
        """Give whose device it is to be: as an app server says, or as a user token proves.

        Others could take another user's messages.
        """
        if body.user_token is None:
            if body.user and (caller.client or caller.device is not None):
                text = "`user` takes an API key; a device proves its user by `user_token`."
                raise PushError(ErrorCode.PERMISSION_DENIED, text)
            return body.user
        if body.user is not None:
            raise refuse([FieldViolation("user", "is given beside `user_token`, which names it")])
        claim = new_stamp(self._entropy.bytes(ENTROPY_BYTES))
        return await self._user_tokens.user_of(project, body.user_token, claim, call.now_ms)

    async def _reach(self, project: ProjectId, body: _About) -> Reach | None:
        """Read where a bridge reaches the device; None where that stays as it is."""
        if isinstance(body.bridge, msgspec.UnsetType):
            return None
        return NO_REACH if body.bridge is None else await self._contacts.read(project, body.bridge)

    async def _owned(self, call: Call) -> tuple[ProjectId, DeviceId, Caller]:
        project = call.project()
        device = parse_device_id(call.parameters[1])
        if device is None:
            raise _unknown()
        return project, device, await self._auth.device_owner(call, project, device)


def _view(device: Device) -> DeviceView:
    return DeviceView(
        device_id=device.id,
        project=device.project,
        platform=device.platform,
        created_at=rfc3339(device.created_ms),
        connected=device.connected,
        pending=device.pending,
        seen_at=rfc3339_or_none(device.seen_ms),
        app_version=device.app_version,
        language=device.language,
        timezone=device.timezone,
        region=device.region,
        attributes=device.attributes,
        user=device.user,
        bridge=_bridge(device),
    )


def _bridge(device: Device) -> BridgeView | None:
    if not device.bridge:
        return None
    return BridgeView(device.bridge, rfc3339(device.bridge_since_ms))


def _unknown() -> PushError:
    return PushError(ErrorCode.NOT_FOUND, "The project has no such device.")
