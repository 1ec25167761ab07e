"""Makes projects, keys and service accounts; for the API and for the command line alike."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.api.auth import API_KEY_PREFIX, CLIENT_KEY_PREFIX
from gateway.api.violations import refuse
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import SECRET_BYTES, ProjectId, new_secret, parse_project_id, secret_hash
from router.model.limits import ProjectLimits
from router.model.project import ApiKey, Project, Scope, ServiceAccount, UserSecret
from router.store.projects import Projects

_RSA_BITS: Final = 2048
_HINT_CHARACTERS: Final = 8
_KEY_ID_CHARACTERS: Final = 16
ALL_SCOPES: Final = frozenset(Scope)
USER_SECRET_PREFIX: Final = "pwu_"  # noqa: S105 - how ours begin
OVERLAP_S: Final = 86_400


class CreatedProject(msgspec.Struct, frozen=True):
    """A new project with its first keys, which are shown this once."""

    project: ProjectId
    api_key: str
    """Secret: for app servers."""
    client_key: str
    """Public: goes into apps and lets devices register."""
    user_secret: str
    """Secret: app servers sign user tokens with it."""


class RotatedUserSecret(msgspec.Struct, frozen=True):
    """A new secret, shown this once; the one before is valid until then, 0 where there is none."""

    user_secret: str
    previous_until_ms: int


class CreatedKey(msgspec.Struct, frozen=True):
    """A new key; `secret` is shown this once."""

    key: ApiKey
    secret: str


class ServiceAccountFile(msgspec.Struct, frozen=True):
    """The JSON file that Google's SDKs read."""

    type: str
    project_id: str
    private_key_id: str
    private_key: str
    client_email: str
    client_id: str
    auth_uri: str
    token_uri: str
    universe_domain: str = "googleapis.com"


class ProjectsService:
    """Makes projects and what opens them.

    Args:
        projects: where they are stored.
        now_ms: wall clock, epoch milliseconds.
        entropy: gives so many random bytes.
    """

    def __init__(
        self, projects: Projects, now_ms: Callable[[], int], entropy: Callable[[int], bytes]
    ) -> None:
        self._projects = projects
        self._now_ms = now_ms
        self._entropy = entropy

    async def create_project(self, name: str) -> CreatedProject:
        """Create a project whose id is made of its name: `My App` becomes `my-app`.

        Raises:
            PushError: INVALID_ARGUMENT, no id can be made of the name; ALREADY_EXISTS; UNAVAILABLE.
        """
        project_id = project_id_of(name)
        project = Project(project_id, name.strip(), self._now_ms())
        taken = await self._projects.get(project_id) is not None
        if taken or not await self._projects.create(project):
            raise PushError(
                ErrorCode.ALREADY_EXISTS,
                f"The project {project_id} exists, or did before; choose another name.",
            )
        api_key = await self.create_key(project_id, ALL_SCOPES, client=False)
        client_key = await self.create_key(project_id, frozenset({Scope.DEVICES}), client=True)
        rotated = await self.rotate_user_secret(project_id, 0)
        return CreatedProject(project_id, api_key.secret, client_key.secret, rotated.user_secret)

    async def rotate_user_secret(self, project: ProjectId, overlap_s: int) -> RotatedUserSecret:
        """Give a project a new user secret; the newest one before stays valid for so many seconds.

        Raises:
            PushError: NOT_FOUND, UNAVAILABLE.
        """
        await self.require(project)
        now_ms = self._now_ms()
        until_ms = now_ms + overlap_s * 1000
        before = await self._projects.user_secrets(project)
        kept = [UserSecret(one.value, until_ms) for one in before[:1] if overlap_s]
        value = USER_SECRET_PREFIX + new_secret(self._entropy(SECRET_BYTES))
        await self._projects.put_user_secrets(project, [UserSecret(value), *kept])
        return RotatedUserSecret(value, until_ms if kept else 0)

    async def set_limits(self, project: ProjectId, limits: ProjectLimits) -> Project:
        """Set what holds for a project in the place of the settings; give the project.

        Raises:
            PushError: NOT_FOUND, UNAVAILABLE.
        """
        changed = msgspec.structs.replace(await self.require(project), limits=limits)
        if not await self._projects.replace(changed):
            return await self.require(project)
        return changed

    async def create_key(
        self, project: ProjectId, scopes: frozenset[Scope], *, client: bool
    ) -> CreatedKey:
        """Add a key to a project.

        Raises:
            PushError: NOT_FOUND, UNAVAILABLE.
        """
        await self.require(project)
        prefix = CLIENT_KEY_PREFIX if client else API_KEY_PREFIX
        secret = prefix + new_secret(self._entropy(SECRET_BYTES))
        hashed = secret_hash(secret)
        key = ApiKey(
            id=hashed[:_KEY_ID_CHARACTERS],
            project=project,
            scopes=scopes,
            client=client,
            created_ms=self._now_ms(),
            hint=secret[:_HINT_CHARACTERS],
        )
        await self._projects.add_key(hashed, key)
        return CreatedKey(key, secret)

    async def remove_key(self, project: ProjectId, key_id: str) -> bool:
        """Revoke a key by its id, and tell whether there was one.

        Raises:
            PushError: UNAVAILABLE.
        """
        return await self._projects.remove_key(project, key_id)

    async def create_service_account(
        self, project: ProjectId, token_uri: str
    ) -> ServiceAccountFile:
        """Make a service account: we keep its public key, the caller gets the private one.

        Takes about 0.1 s of CPU, in a thread.

        Args:
            project: must exist.
            token_uri: URL of this gateway's `/oauth2/token`.

        Raises:
            PushError: NOT_FOUND, UNAVAILABLE.
        """
        await self.require(project)
        private_key = await asyncio.to_thread(
            rsa.generate_private_key, public_exponent=65537, key_size=_RSA_BITS
        )
        public_pem = private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key_id = hashlib.sha256(public_pem).hexdigest()[:40]
        email = f"push-{key_id[:12]}@{project}.iam.pushwire.internal"
        await self._projects.add_service_account(
            ServiceAccount(email, project, key_id, public_pem.decode(), self._now_ms())
        )
        private_pem = private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return ServiceAccountFile(
            type="service_account",
            project_id=project,
            private_key_id=key_id,
            private_key=private_pem.decode(),
            client_email=email,
            client_id=str(int(key_id[:16], 16)),
            auth_uri="https://accounts.google.com/o/oauth2/auth",
            token_uri=token_uri,
        )

    async def require(self, project: ProjectId) -> Project:
        """Give a project.

        Raises:
            PushError: NOT_FOUND, UNAVAILABLE.
        """
        found = await self._projects.get(project)
        if found is None:
            raise PushError(ErrorCode.NOT_FOUND, "There is no such project.")
        return found


def project_id_of(name: str) -> ProjectId:
    """Make an id of a name.

    Raises:
        PushError: INVALID_ARGUMENT, there are not 3 to 64 letters and digits, or no letter first.
    """
    text = re.sub(r"[^a-z0-9]+", "-", name.strip().lower()).strip("-")
    project = parse_project_id(text)
    if project is None:
        says = "must give an id of 3 to 64 letters, digits and hyphens with a letter first"
        raise refuse([FieldViolation("name", says)])
    return project
