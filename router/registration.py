"""Devices come, change their address, and go.

Before: `gateway.api.resources.devices`. After: `router.store.mailbox`, then `router.routing` where
a session of the device must hear of it. A device has two secrets: its token, the address that app
servers send to, and its credential, with which it connects and speaks for itself.
"""

import functools
import zoneinfo
from collections.abc import Callable

import msgspec

from router.binding import Bindings
from router.contacts import NO_REACH, Contacts, Reach
from router.model.device import Device
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.hint import Readdress, Resubscribe, Route, Unregister
from router.model.ids import (
    ENTROPY_BYTES,
    SECRET_BYTES,
    DeviceId,
    ProjectId,
    Token,
    new_credential,
    new_device_id,
    new_token,
    parse_device_id,
    secret_hash,
)
from router.policy import limits
from router.routing import Routing
from router.store.mailbox import Mailboxes

_attributes = msgspec.json.Encoder(order="deterministic")


class DeviceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a device says of itself when it registers; empty where it says nothing."""

    platform: str
    device_id: str = ""
    """An id of its own choice: 16 to 64 of `[A-Za-z0-9_-]`; empty for a new one."""
    app_version: str = ""
    language: str = ""
    timezone: str = ""
    region: str = ""
    attributes: dict[str, str] = {}
    user: str = ""


class DeviceChanges(msgspec.Struct, frozen=True, kw_only=True):
    """What changes of a registration: None keeps, an empty text clears, attributes replace all."""

    platform: str | None = None
    app_version: str | None = None
    language: str | None = None
    timezone: str | None = None
    region: str | None = None
    attributes: dict[str, str] | None = None
    user: str | None = None


class Registered(msgspec.Struct, frozen=True):
    """What a device gets; both secrets are shown once and never again."""

    device_id: DeviceId
    token: str
    credential: str


class Registration:
    """Registers devices, changes and ends registrations.

    Args:
        mailboxes: where registrations are stored.
        routing: how sessions hear of a change.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        region: the first part of every token.
        bindings: whose device it is.
        contacts: where bridges reach it.
    """

    def __init__(
        self,
        mailboxes: Mailboxes,
        routing: Routing,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        region: str,
        bindings: Bindings,
        contacts: Contacts,
    ) -> None:
        self._mailboxes = mailboxes
        self._routing = routing
        self._now_ms = now_ms
        self._entropy = entropy
        self._region = region
        self._bindings = bindings
        self._contacts = contacts

    async def register(
        self,
        project: ProjectId,
        spec: DeviceSpec,
        *,
        proved: bool = False,
        reach: Reach = NO_REACH,
    ) -> Registered:
        """Register a device, or register it anew.

        Args:
            project: whose device it is.
            spec: what it says of itself.
            proved: the caller may speak for a device that exists (its own credential, or an API
                key): the record is changed, and its token and credential give way to new ones.
            reach: where a bridge reaches it; it is taken from whoever had that address.

        Raises:
            PushError: INVALID_ARGUMENT; ALREADY_EXISTS, the id is taken and nothing was proved;
                QUOTA_EXCEEDED, the user has too many devices.
            StoreUnavailableError: the store is away. A repeat with the same id may then need proof.
        """
        await self.check(project, spec, proved=proved)
        device = (
            DeviceId(spec.device_id)
            if spec.device_id
            else new_device_id(self._entropy(ENTROPY_BYTES))
        )
        token = new_token(self._region, device, self._entropy(ENTROPY_BYTES))
        credential = str(new_credential(device, self._entropy(SECRET_BYTES)))
        await self._bindings.reserve(project, spec.user, device)
        now_ms = self._now_ms()
        record = Device(
            id=device,
            project=project,
            platform=spec.platform,
            app_version=spec.app_version,
            language=spec.language,
            timezone=spec.timezone,
            region=spec.region,
            attributes=spec.attributes,
            created_ms=now_ms,
            nonce=token.nonce,
        )
        hashed = secret_hash(credential)
        former = await self._contacts.claim(project, device, reach)
        contact = None if reach is NO_REACH else reach.contact
        if await self._mailboxes.register(record, token.nonce, hashed, now_ms, contact):
            if spec.user:
                await self._bindings.bind(project, spec.user, device)
        elif not (proved and await self._register_anew(project, spec, token, hashed, reach)):
            await self._release(project, spec.user, device)
            raise _taken()
        await self._contacts.settle(project, device, reach, former)
        return Registered(device, str(token), credential)

    async def check(self, project: ProjectId, spec: DeviceSpec, *, proved: bool = False) -> None:
        """Refuse what `register` would refuse: before it costs the user a place, or a user token.

        Raises:
            PushError: as `register`, except for QUOTA_EXCEEDED.
            StoreUnavailableError: the store is away.
        """
        _refuse(_violations(spec))
        found = await self._mailboxes.device(DeviceId(spec.device_id)) if spec.device_id else None
        if found is not None and not (proved and found.project == project):
            raise _taken()

    async def check_update(
        self, project: ProjectId, device: DeviceId, changes: DeviceChanges
    ) -> None:
        """Refuse what `update` would refuse, as `check` does.

        Raises:
            PushError: as `update`, except for QUOTA_EXCEEDED.
            StoreUnavailableError: the store is away.
        """
        _refuse(_change_violations(changes))
        found = await self._mailboxes.device(device)
        if found is None or found.project != project:
            raise _unknown()

    async def update(
        self,
        project: ProjectId,
        device: DeviceId,
        changes: DeviceChanges,
        reach: Reach | None = None,
    ) -> Device:
        """Change what is known of a device; `NO_REACH` takes its bridge from it.

        Raises:
            PushError: INVALID_ARGUMENT; NOT_FOUND, the project has no such device; QUOTA_EXCEEDED,
                the user has too many devices.
            StoreUnavailableError: the store is away; the change may have been made.
        """
        if changes.user is None:
            _refuse(_change_violations(changes))
        else:
            await self.check_update(project, device, changes)
            await self._bindings.reserve(project, changes.user, device)
            if not await self._bindings.bind(project, changes.user, device):
                await self._release(project, changes.user, device)
                raise _unknown()
        former = [] if reach is None else await self._contacts.claim(project, device, reach)
        contact = None if reach is None else reach.contact
        found, route = await self._mailboxes.update(
            device, project, _changed(changes), self._now_ms(), contact
        )
        if found is None:
            raise _unknown()
        if reach is not None:
            await self._contacts.settle(project, device, reach, former)
        if route is not None:
            self._routing.hint(route, Resubscribe(device, route.epoch))
        return found

    async def rotate_token(self, project: ProjectId, device: DeviceId) -> str:
        """Give a device a new address; the one before is unregistered at once.

        Raises:
            PushError: NOT_FOUND, the project has no such device.
            StoreUnavailableError: the store is away.
        """
        token = new_token(self._region, device, self._entropy(ENTROPY_BYTES))
        known, route = await self._rotate(project, token)
        if not known:
            raise _unknown()
        if route is not None:
            self._routing.hint(route, Readdress(token.device, route.epoch, str(token)))
        return str(token)

    async def unregister(self, project: ProjectId, device: DeviceId) -> None:
        """End a registration: what is pending is dropped, its session is closed.

        Raises:
            PushError: NOT_FOUND, the project has no such device.
            StoreUnavailableError: the store is away.
        """
        user = await self._bindings.user_of(device)
        known, route, _ = await self._mailboxes.unregister(device, project, self._now_ms())
        if not known:
            raise _unknown()
        if route is not None:
            self._routing.hint(route, Unregister(device, route.epoch))
        if user:
            await self._bindings.drop(project, user, device)

    async def _register_anew(
        self,
        project: ProjectId,
        spec: DeviceSpec,
        token: Token,
        credential_hash: str,
        reach: Reach,
    ) -> bool:
        """Change the record, then void both secrets; each step may be repeated.

        The credential goes last: until then the caller can prove itself with the old one and
        repeat the whole.

        Returns:
            Whether the project has the device.
        """
        changes = _changed(_everything(spec))
        device, now_ms = token.device, self._now_ms()
        if not (await self._mailboxes.update(device, project, changes, now_ms, reach.contact))[0]:
            return False
        await self._bindings.bind(project, spec.user, device)
        known, route = await self._rotate(project, token)
        if not known:
            return False
        await self._mailboxes.renew_credential(device, project, credential_hash)
        if route is not None:
            # Whoever connected with the void credential must not stay.
            self._routing.hint(route, Unregister(device, route.epoch))
        return True

    async def _release(self, project: ProjectId, user: str, device: DeviceId) -> None:
        """Give back the place that was reserved for a device which did not become the user's."""
        if user:
            await self._bindings.drop(project, user, device)

    async def _rotate(self, project: ProjectId, token: Token) -> tuple[bool, Route | None]:
        return await self._mailboxes.rotate(token.device, project, token.nonce, self._now_ms())


@functools.cache
def _timezones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _timezone_violation(name: str) -> FieldViolation | None:
    """Check against the machine's time zone database; where it has none, anything passes."""
    if not name or name in (known := _timezones()) or not known:
        return None
    return FieldViolation("timezone", "a name of the IANA database such as Europe/Berlin")


def _everything(spec: DeviceSpec) -> DeviceChanges:
    """Give the changes that make a record say what `spec` says, and no more."""
    return DeviceChanges(
        platform=spec.platform,
        app_version=spec.app_version,
        language=spec.language,
        timezone=spec.timezone,
        region=spec.region,
        attributes=spec.attributes,
        user=spec.user,
    )


def _violations(spec: DeviceSpec) -> list[FieldViolation]:
    found = _change_violations(_everything(spec))
    if spec.device_id and parse_device_id(spec.device_id) is None:
        found.append(FieldViolation("device_id", "16 to 64 characters of A-Z, a-z, 0-9, _ and -"))
    return found


def _change_violations(changes: DeviceChanges) -> list[FieldViolation]:
    checks: tuple[tuple[str | None, Callable[[str], FieldViolation | None]], ...] = (
        (changes.platform, limits.platform_violation),
        (changes.app_version, limits.app_version_violation),
        (changes.language, limits.language_violation),
        (changes.timezone, _timezone_violation),
        (changes.region, limits.region_violation),
        (changes.user, limits.user_violation),
    )
    found = [check(value) for value, check in checks if value is not None]
    violations = [violation for violation in found if violation is not None]
    if changes.attributes is not None:
        violations += limits.attribute_violations(changes.attributes)
    return violations


def _changed(changes: DeviceChanges) -> dict[str, str]:
    """Give the fields that change, attributes as JSON; the user is bound, not changed."""
    texts = {
        "platform": changes.platform,
        "app_version": changes.app_version,
        "language": changes.language,
        "timezone": changes.timezone,
        "region": changes.region,
    }
    fields = {name: value for name, value in texts.items() if value is not None}
    if changes.attributes is not None:
        fields["attributes"] = _attributes.encode(changes.attributes).decode()
    return fields


def _refuse(violations: list[FieldViolation]) -> None:
    if violations:
        first = violations[0]
        message = f"{first.field} takes {first.description}."
        raise PushError(ErrorCode.INVALID_ARGUMENT, message, violations=tuple(violations))


def _taken() -> PushError:
    return PushError(
        ErrorCode.ALREADY_EXISTS,
        "A device has this id. Register it anew with its own credential or an API key, "
        "or leave the id out to get a new one.",
    )


def _unknown() -> PushError:
    return PushError(ErrorCode.NOT_FOUND, "The project has no such device.")
