"""Names of all keys. Everything of a partition carries its hash tag `{pp}`: one cluster slot."""

from typing import Final

from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ProjectId,
    ShardId,
    partition_of,
    partition_of_message,
)

PROJECTS: Final = "projects"
DELETED_PROJECTS: Final = "projects:deleted"
SHARDS: Final = "shards"
WORKERS: Final = "workers"


def mailbox(device: DeviceId) -> str:
    """Hash: registration, route, counters of a device."""
    return f"{{{partition_of(device)}}}:d:{device}"


def index(device: DeviceId) -> str:
    """Sorted set: pending messages by seq, member `<message>|<expires ms>|<collapse key>`."""
    return f"{{{partition_of(device)}}}:q:{device}"


def frames(device: DeviceId) -> str:
    """Hash: frame of each pending message by seq, its `n:<seq>` not-before, `c:<key>` seq."""
    return f"{{{partition_of(device)}}}:f:{device}"


def of_device(device: DeviceId) -> tuple[str, str, str, str, str]:
    """Give mailbox, index, frames, and the timers and outbox of their partition."""
    tag = f"{{{partition_of(device)}}}:"
    return (
        f"{tag}d:{device}",
        f"{tag}q:{device}",
        f"{tag}f:{device}",
        f"{tag}timers",
        f"{tag}outbox",
    )


def upstream(device: DeviceId, identifier: str) -> str:
    """Give the key of a string that marks an upstream message as taken."""
    return f"{{{partition_of(device)}}}:up:{device}:{identifier}"


def timers(partition: Partition) -> str:
    """Sorted set: `<kind>:<subject>` by due time in epoch milliseconds."""
    return f"{{{partition}}}:timers"


def outbox(partition: Partition) -> str:
    """Stream: events of the partition."""
    return f"{{{partition}}}:outbox"


def message(identifier: MessageId) -> str:
    """Hash: status of a message."""
    return f"{{{partition_of_message(identifier)}}}:msg:{identifier}"


def idempotency(partition: Partition, project: ProjectId, key: str) -> str:
    """Give the key of a string: digest and message id of the first request with the key."""
    return f"{{{partition}}}:idem:{project}:{key}"


def partition_lease(partition: Partition) -> str:
    """Give the key of a string: the worker that owns the partition."""
    return f"{{{partition}}}:lease"


def shard_inbox(shard: ShardId) -> str:
    """Stream: hints for a shard."""
    return f"shard:{shard}"


def shard_lease(shard: ShardId) -> str:
    """Give the key of a string that lives as long as the shard does."""
    return f"shard:{shard}:lease"


def project(identifier: ProjectId) -> str:
    """Hash: a project."""
    return f"project:{identifier}"


def project_keys(identifier: ProjectId) -> str:
    """Set: hashes of a project's keys."""
    return f"project:{identifier}:keys"


def api_key(sha256: str) -> str:
    """Hash: a key by the hash of its secret."""
    return f"key:{sha256}"


def service_account(email: str) -> str:
    """Hash: a service account."""
    return f"sa:{email}"


def access_token(sha256: str) -> str:
    """Give the key of a string with a time to live: what an access token may do."""
    return f"oauth:{sha256}"
