"""Projects: tenants, their keys, service accounts and access tokens.

These keys stand in slots of their own, so each call writes in an order in which a crash between two
writes leaves nothing that can be found but not used.
"""

from collections.abc import Collection, Sequence
from typing import Final, TypeVar, cast

import msgspec

from router.model.ids import ProjectId
from router.model.project import ApiKey, Project, Scope, ServiceAccount, UserSecret
from router.store import keys
from router.store.connection import Store
from router.store.link import Reply, fields

T = TypeVar("T")

_FIELD: Final = "json"
_project = msgspec.json.Decoder(Project)
_key = msgspec.json.Decoder(ApiKey)
_secrets = msgspec.json.Decoder(list[UserSecret])
_account = msgspec.json.Decoder(ServiceAccount)


class AccessToken(msgspec.Struct, frozen=True):
    """What an access token may do."""

    project: ProjectId
    scopes: frozenset[Scope]


_token = msgspec.json.Decoder(AccessToken)


class Projects:
    """Keeps the tenants.

    Every method raises StoreUnavailableError where the store does not answer in time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create(self, project: Project) -> bool:
        """Keep a new project; False where its id is taken, or was before.

        The devices, service accounts and access tokens of a deleted project name its id still; they
        must not come to belong to another one.
        """
        value = msgspec.json.encode(project)
        batch = self._store.batch
        if await batch.call("SISMEMBER", keys.DELETED_PROJECTS, project.id):
            return False
        # One after the other: on a cluster they are on two nodes, and the list must not lack it.
        await batch.call("SADD", keys.PROJECTS, project.id)
        if await batch.call("HSETNX", keys.project(project.id), _FIELD, value):
            return True
        return await self.get(project.id) == project

    async def get(self, project: ProjectId) -> Project | None:
        """Give a project, or None."""
        return await self._read(keys.project(project), _project)

    async def replace(self, project: Project) -> bool:
        """Keep a project in the place of the one with its id; False where that is gone."""
        batch = self._store.batch
        if await self.get(project.id) is None:
            return False
        await batch.call("HSET", keys.project(project.id), _FIELD, msgspec.json.encode(project))
        # Whoever deletes it marks its id first, so one of the two sees the other.
        if await batch.call("SISMEMBER", keys.DELETED_PROJECTS, project.id):
            await batch.call("DEL", keys.project(project.id))
            return False
        return True

    async def list(self) -> list[Project]:
        """Give all projects, by id."""
        names = fields(await self._store.batch.call("SMEMBERS", keys.PROJECTS))
        sorted_names = sorted(cast("bytes", name).decode() for name in names)
        return [*await self._read_all([keys.project(ProjectId(n)) for n in sorted_names], _project)]

    async def delete(self, project: ProjectId) -> bool:
        """Forget a project and its keys, but not its id; False where there was none."""
        batch = self._store.batch
        existed = await self.get(project) is not None
        if existed:
            await batch.call("SADD", keys.DELETED_PROJECTS, project)
        await batch.call("DEL", keys.project(project))
        for hashed in await self._key_hashes(project):
            await batch.call("DEL", keys.api_key(hashed))
        await batch.call("DEL", keys.project_keys(project))
        await batch.call("DEL", keys.user_secrets(project))
        await batch.call("SREM", keys.PROJECTS, project)
        return existed

    async def add_key(self, sha256: str, key: ApiKey) -> None:
        """Keep a key under the hash of its secret."""
        batch = self._store.batch
        await batch.call("SADD", keys.project_keys(key.project), sha256)
        await batch.call("HSET", keys.api_key(sha256), _FIELD, msgspec.json.encode(key))

    async def key(self, sha256: str) -> ApiKey | None:
        """Give the key whose secret has this hash, or None."""
        return await self._read(keys.api_key(sha256), _key)

    async def keys(self, project: ProjectId) -> Sequence[ApiKey]:
        """Give the keys of a project, oldest first."""
        hashes = await self._key_hashes(project)
        found = await self._read_all([keys.api_key(hashed) for hashed in hashes], _key)
        return sorted(found, key=lambda key: (key.created_ms, key.id))

    async def remove_key(self, project: ProjectId, key_id: str) -> bool:
        """Forget a key by its id; False where the project has none with it."""
        batch = self._store.batch
        for hashed in await self._key_hashes(project):
            found = await self.key(hashed)
            if found is not None and found.id == key_id:
                await batch.call("DEL", keys.api_key(hashed))
                await batch.call("SREM", keys.project_keys(project), hashed)
                return True
        return False

    async def add_service_account(self, account: ServiceAccount) -> None:
        """Keep the public half of a service account."""
        value = msgspec.json.encode(account)
        await self._store.batch.call("HSET", keys.service_account(account.email), _FIELD, value)

    async def service_account(self, email: str) -> ServiceAccount | None:
        """Give a service account, or None."""
        return await self._read(keys.service_account(email), _account)

    async def put_access_token(
        self, sha256: str, project: ProjectId, scopes: Collection[Scope], ttl_s: int
    ) -> None:
        """Keep an access token under the hash of its secret, for `ttl_s` seconds."""
        value = msgspec.json.encode(AccessToken(project, frozenset(scopes)))
        await self._store.batch.call("SET", keys.access_token(sha256), value, "EX", ttl_s)

    async def access_token(self, sha256: str) -> AccessToken | None:
        """Give what the access token with this hash may do; None where it is over."""
        value = await self._store.batch.call("GET", keys.access_token(sha256))
        return _token.decode(value) if isinstance(value, bytes) else None

    async def user_secrets(self, project: ProjectId) -> Sequence[UserSecret]:
        """Give the secrets of a project's user tokens, the newest first; none before the first."""
        value = await self._store.batch.call("GET", keys.user_secrets(project))
        return _secrets.decode(value) if isinstance(value, bytes) else []

    async def put_user_secrets(self, project: ProjectId, secrets: Sequence[UserSecret]) -> None:
        """Keep these secrets of a project's user tokens, and no others."""
        value = msgspec.json.encode(secrets)
        await self._store.batch.call("SET", keys.user_secrets(project), value)

    async def use_user_token(
        self, project: ProjectId, jti_sha256: str, claim: str, ttl_ms: int
    ) -> bool:
        """Note that a token was used; False where another claim has used it before."""
        key = keys.used_user_token(project, jti_sha256)
        before = await self._store.batch.call("SET", key, claim, "NX", "GET", "PX", ttl_ms)
        return before is None or before == claim.encode()

    async def _key_hashes(self, project: ProjectId) -> Sequence[str]:
        found = await self._store.batch.call("SMEMBERS", keys.project_keys(project))
        return sorted(cast("bytes", hashed).decode() for hashed in fields(found))

    async def _read(self, key: str, decoder: msgspec.json.Decoder[T]) -> T | None:
        return _decode(await self._store.batch.call("HGET", key, _FIELD), decoder)

    async def _read_all(
        self, names: Sequence[str], decoder: msgspec.json.Decoder[T]
    ) -> Sequence[T]:
        asked = [self._store.batch.call("HGET", name, _FIELD) for name in names]
        found = [_decode(await answer, decoder) for answer in asked]
        return [item for item in found if item is not None]


def _decode(value: Reply, decoder: msgspec.json.Decoder[T]) -> T | None:
    return decoder.decode(value) if isinstance(value, bytes) else None
