"""A project: a tenant with its keys and service accounts."""

import enum

import msgspec

from router.model.ids import ProjectId
from router.model.limits import ProjectLimits


class Scope(enum.StrEnum):
    """What a key may do."""

    SEND = "send"
    DEVICES = "devices"
    ADMIN = "admin"


class Project(msgspec.Struct, frozen=True):
    """A tenant; `created_ms` in epoch milliseconds."""

    id: ProjectId
    name: str
    created_ms: int
    limits: ProjectLimits = ProjectLimits()


class UserSecret(msgspec.Struct, frozen=True):
    """Signs the user tokens of a project; `until_ms` is 0 for the one in use, else its end."""

    value: str
    until_ms: int = 0


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is stored: its SHA-256 hash and what it may do. `client` keys are public."""

    id: str
    project: ProjectId
    scopes: frozenset[Scope]
    client: bool
    created_ms: int
    hint: str
    """The first characters of the secret, to tell keys apart."""


class ServiceAccount(msgspec.Struct, frozen=True):
    """The public half of a service account: whoever holds the private key may ask for tokens."""

    email: str
    project: ProjectId
    key_id: str
    public_key_pem: str
    created_ms: int
