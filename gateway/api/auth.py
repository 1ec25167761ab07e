"""Who calls: API keys, OAuth access tokens, client keys, device credentials, the admin key.

Secrets are looked up by their SHA-256. What was found is remembered for a few seconds, so a revoked
key works at the most `GOOD_S` longer; what was not found for `BAD_S`, so that a client with a wrong
key does not reach the store with each request.
"""

import hmac
import re
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from gateway.api.request import Call
from router.model.errors import ErrorCode, PushError
from router.model.ids import DeviceId, ProjectId, parse_credential, secret_hash
from router.model.limits import ProjectLimits
from router.model.project import Scope
from router.store.mailbox import Mailboxes
from router.store.projects import Projects

GOOD_S: Final = 5.0
BAD_S: Final = 1.0
MAX_REMEMBERED: Final = 10_000

API_KEY_PREFIX: Final = "pw_"
CLIENT_KEY_PREFIX: Final = "pwc_"
ACCESS_TOKEN_PREFIX: Final = "pwo_"  # noqa: S105 - how ours begin
OAUTH_KEY: Final = "oauth"
_SECRET: Final = re.compile(r"(pw_|pwc_|pwo_)[A-Za-z0-9_-]{32}")
Value = TypeVar("Value")
_BEARER: Final = "bearer "
_HOW: Final = "Send `Authorization: Bearer` with an API key or an OAuth access token."


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who was recognised, and until when that holds (monotonic seconds).

    `device` is set for a device's own credential, `client` for a public client key. `key` is the
    id of the key, `oauth` for all access tokens of the project; `limits` what the project sets.
    """

    project: ProjectId
    scopes: frozenset[Scope]
    until: float
    client: bool = False
    device: DeviceId | None = None
    key: str = ""
    limits: ProjectLimits = ProjectLimits()


class Authenticator:
    """Recognises callers.

    Args:
        projects: where keys are stored.
        mailboxes: where credentials are stored.
        admin_key: opens the calls that manage projects; empty closes them.
        monotonic: a clock in seconds.
    """

    def __init__(
        self,
        projects: Projects,
        mailboxes: Mailboxes,
        admin_key: str,
        monotonic: Callable[[], float],
    ) -> None:
        self._projects = projects
        self._mailboxes = mailboxes
        self._admin_key = admin_key.encode()
        self._monotonic = monotonic
        self._good: dict[str, Caller] = {}
        self._bad: dict[str, float] = {}

    async def app_server(self, call: Call, project: ProjectId, scope: Scope) -> Caller:
        """Give the app server that calls.

        Raises:
            PushError: UNAUTHENTICATED; PERMISSION_DENIED, the key is of another project or lacks
                the scope; UNAVAILABLE.
        """
        return _allowed(await self.any_app_server(call), project, scope)

    async def any_app_server(self, call: Call) -> Caller:
        """Give the app server that calls, of whatever project; its scopes are not looked at.

        Raises:
            PushError: UNAUTHENTICATED; UNAVAILABLE.
        """
        caller = await self._known(_bearer(call))
        if caller is None or caller.client or caller.device is not None:
            raise PushError(ErrorCode.UNAUTHENTICATED, f"The key is not valid. {_HOW}")
        return caller

    async def registrant(self, call: Call, project: ProjectId) -> Caller:
        """Give who registers a device: a client key, an app server, or the device, registered anew.

        Raises:
            PushError: as `app_server`.
        """
        secret = call.header("Authorization")[len(_BEARER) :]
        if (credential := parse_credential(secret)) is not None:
            return await self.device_owner(call, project, credential.device)
        key = call.header("X-Client-Key")
        if not key:
            return await self.app_server(call, project, Scope.DEVICES)
        caller = await self._known(key)
        if caller is None or not caller.client:
            raise PushError(
                ErrorCode.UNAUTHENTICATED, "The client key in X-Client-Key is not valid."
            )
        return _allowed(caller, project, Scope.DEVICES)

    async def device_owner(self, call: Call, project: ProjectId, device: DeviceId) -> Caller:
        """Give who may read or change a device: the device itself, or an app server.

        Raises:
            PushError: as `app_server`.
        """
        secret = _bearer(call)
        credential = parse_credential(secret)
        if credential is None:
            return await self.app_server(call, project, Scope.DEVICES)
        if credential.device != device:
            raise PushError(ErrorCode.PERMISSION_DENIED, "The credential is of another device.")
        stored = await self._mailboxes.credential_of(device)
        if stored is None or not hmac.compare_digest(stored, secret_hash(secret)):
            raise PushError(ErrorCode.UNAUTHENTICATED, "The device credential is not valid.")
        return Caller(project, frozenset({Scope.DEVICES}), self._monotonic(), device=device)

    def admin(self, call: Call) -> None:
        """Let the holder of the admin key pass.

        Raises:
            PushError: UNAUTHENTICATED.
        """
        given = _bearer(call).encode("utf-8", "replace")
        if not self._admin_key or not hmac.compare_digest(given, self._admin_key):
            raise PushError(
                ErrorCode.UNAUTHENTICATED,
                "This call takes the admin key: `Authorization: Bearer <admin key>`.",
            )

    async def _known(self, secret: str) -> Caller | None:
        caller = self._good.get(secret)
        now = self._monotonic()
        if caller is not None and caller.until > now:
            return caller
        if not _SECRET.fullmatch(secret):
            return None
        hashed = secret_hash(secret)
        if self._bad.get(hashed, 0.0) > now:
            return None
        caller = await self._look_up(secret, hashed, now + GOOD_S)
        if caller is None:
            _remember(self._bad, hashed, now + BAD_S)
        else:
            _remember(self._good, secret, caller)
        return caller

    async def _look_up(self, secret: str, hashed: str, until: float) -> Caller | None:
        if secret.startswith(ACCESS_TOKEN_PREFIX):
            grant = await self._projects.access_token(hashed)
            project = None if grant is None else await self._projects.get(grant.project)
            if grant is None or project is None:
                return None
            return Caller(grant.project, grant.scopes, until, key=OAUTH_KEY, limits=project.limits)
        key = await self._projects.key(hashed)
        if key is None or key.client != secret.startswith(CLIENT_KEY_PREFIX):
            return None
        if key.client:
            return Caller(key.project, key.scopes, until, client=True)
        project = await self._projects.get(key.project)
        limits = ProjectLimits() if project is None else project.limits
        return Caller(key.project, key.scopes, until, key=key.id, limits=limits)


def _bearer(call: Call) -> str:
    header = call.request.headers.get("Authorization", "")
    if header[:7].lower() != _BEARER:
        raise PushError(ErrorCode.UNAUTHENTICATED, f"No key was given. {_HOW}")
    return header[7:]


def _allowed(caller: Caller, project: ProjectId, scope: Scope) -> Caller:
    if caller.project != project:
        raise PushError(ErrorCode.PERMISSION_DENIED, "The key is of another project.")
    if scope not in caller.scopes:
        raise PushError(ErrorCode.PERMISSION_DENIED, f"The key lacks the scope `{scope}`.")
    return caller


def _remember(memory: dict[str, Value], key: str, value: Value) -> None:
    """Put an entry last, and let the oldest go where there are too many."""
    memory.pop(key, None)
    if len(memory) >= MAX_REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
