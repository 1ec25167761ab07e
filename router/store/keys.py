"""Names of all keys. Everything of a partition carries its hash tag `{pp}`: one cluster slot."""

from typing import Final

from router.model.ids import (
    DeviceId,
    GroupName,
    MessageId,
    Partition,
    ProjectId,
    ShardId,
    TopicName,
    UserName,
    partition_of,
    partition_of_audience,
    partition_of_message,
    partition_of_topic,
)
from router.model.lane import Lane
from router.model.webhook import partition_of_webhook

PROJECTS: Final = "projects"
DELETED_PROJECTS: Final = "projects:deleted"
SHARDS: Final = "shards"
WORKERS: Final = "workers"
WEBHOOKS: Final = "webhooks"
"""Set: projects that have webhooks."""
WEBHOOKS_VERSION: Final = "webhooks:version"
"""String: counts the changes of any webhook."""
BRIDGES: Final = "bridges"
"""Set: projects that have bridges, or had."""
BRIDGES_VERSION: Final = "bridges:version"
"""String: counts the changes of any bridge."""
EXPORT: Final = "export"
"""Hash: `file`, the last file that was exported, and `failure`, why none is now; both JSON."""


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


def recent(partition: Partition, project: ProjectId) -> str:
    """Sorted set: `<message>|<target>` of a project's recent messages, the newest first."""
    return f"{{{partition}}}:recent:{project}"


def receivers(identifier: MessageId) -> str:
    """Hash: `<device>|<event>` of a message to a topic whose sender wants receipts per device."""
    return f"{message(identifier)}:devices"


def topic_log(project: ProjectId, topic: TopicName) -> str:
    """Stream: what was published to a topic, each message once; its ids are `<seq>-0`."""
    return f"{{{partition_of_topic(project, topic)}}}:topic:{project}:{topic}"


def topic_state(project: ProjectId, topic: TopicName) -> str:
    """Hash: `seq` last given out, `ttl` the longest, `end` of the last message to expire."""
    return f"{topic_log(project, topic)}:state"


def topic_collapse(project: ProjectId, topic: TopicName) -> str:
    """Hash: seq of the message that holds each collapse key."""
    return f"{topic_log(project, topic)}:collapse"


def topic_shards(project: ProjectId, topic: TopicName) -> str:
    """Hash: shards with a subscriber, and when they last said so by the store's clock."""
    return f"{topic_log(project, topic)}:shards"


def members(partition: Partition, project: ProjectId, topic: TopicName) -> str:
    """Set: devices of a partition that subscribe to a topic."""
    return f"{{{partition}}}:members:{project}:{topic}"


def user(project: ProjectId, name: UserName) -> str:
    """Hash: devices of a user, each with the stamp of its entry; some may be another's by now."""
    return f"{{{partition_of_audience(project, name)}}}:user:{project}:{name}"


def group(project: ProjectId, name: GroupName) -> str:
    """Hash: devices of a group and when each had registered; `#` says that it exists."""
    return f"{{{partition_of_audience(project, name)}}}:group:{project}:{name}"


def groups(project: ProjectId) -> str:
    """Sorted set: names of a project's groups, in their order."""
    return f"project:{project}:groups"


def idempotency(partition: Partition, project: ProjectId, key: str) -> str:
    """Give the key of a string: digest and message id of the first request with the key."""
    return f"{{{partition}}}:idem:{project}:{key}"


def rate(partition: Partition, name: str) -> str:
    """Give the key of a string: when a token bucket is full again, microseconds."""
    return f"{{{partition}}}:rate:{name}"


def bridge_queue(partition: Partition, project: ProjectId, bridge: str) -> str:
    """Sorted set: messages as kept that a bridge is to carry, the most urgent and oldest first."""
    return f"{{{partition}}}:bridge:{project}:{bridge}"


def bridge_queues(partition: Partition) -> str:
    """Sorted set: `<project>:<bridge>` of the queues that hold anything, by since when."""
    return f"{{{partition}}}:bridges"


def bridged(partition: Partition, project: ProjectId, topic: TopicName) -> str:
    """Set: devices of a partition that have a bridge and subscribe; of `*`, all with a bridge."""
    return f"{{{partition}}}:bridged:{project}:{topic}"


def topic_bridged(project: ProjectId, topic: TopicName) -> str:
    """Give the key of a string that says that a topic may have devices with bridges."""
    return f"{topic_log(project, topic)}:bridged"


def walk_mark(partition: Partition, identifier: MessageId) -> str:
    """Set: devices of a partition that a walk of this message has looked at."""
    return f"{{{partition}}}:bmark:{identifier}"


def address(partition: Partition, project: ProjectId, bridge: str, place: str) -> str:
    """Give the key of a string: `<device>`, who has an address, and from whom it is to be taken."""
    return f"{{{partition}}}:addr:{project}:{bridge}:{place}"


def partition_lease(partition: Partition) -> str:
    """Give the key of a string: the worker that owns the partition."""
    return f"{{{partition}}}:lease"


def shard_inbox(shard: ShardId, lane: Lane = Lane.NORMAL) -> str:
    """Stream: hints for a shard, of one lane."""
    return f"shard:{shard}" if lane is Lane.NORMAL else f"shard:{shard}:{lane.label}"


def shard_lease(shard: ShardId) -> str:
    """Give the key of a string that lives as long as the shard does."""
    return f"shard:{shard}:lease"


def project(identifier: ProjectId) -> str:
    """Hash: a project."""
    return f"project:{identifier}"


def project_keys(identifier: ProjectId) -> str:
    """Set: hashes of a project's keys."""
    return f"project:{identifier}:keys"


def user_secrets(identifier: ProjectId) -> str:
    """Give the key of a string: JSON, the secrets of a project's user tokens, the newest first."""
    return f"project:{identifier}:user-secrets"


def used_user_token(identifier: ProjectId, sha256: str) -> str:
    """Give the key of a string: who used a token, by the hash of its `jti`, while it is valid."""
    return f"project:{identifier}:jti:{sha256}"


def api_key(sha256: str) -> str:
    """Hash: a key by the hash of its secret."""
    return f"key:{sha256}"


def service_account(email: str) -> str:
    """Hash: a service account."""
    return f"sa:{email}"


def access_token(sha256: str) -> str:
    """Give the key of a string with a time to live: what an access token may do."""
    return f"oauth:{sha256}"


def webhooks(identifier: ProjectId) -> str:
    """Hash: a project's webhooks by id, and `<id>:disabled` why one is."""
    return f"project:{identifier}:webhooks"


def bridges(identifier: ProjectId) -> str:
    """Hash: sealed credentials of a project's bridges by name, and `<name>:state` how each is."""
    return f"project:{identifier}:bridges"


def callbacks_due(partition: Partition) -> str:
    """Sorted set: `<webhook>:<lane>` by when the lane is to be looked at, epoch milliseconds."""
    return f"{{{partition}}}:cb"


def callback_health(webhook: str) -> str:
    """Hash: how an endpoint has answered."""
    return f"{{{partition_of_webhook(webhook)}}}:cb:{webhook}"


def callback_lane(webhook: str, lane: int) -> str:
    """Hash: the callback at the head of a lane, the bytes behind it, marks by partition."""
    return f"{{{partition_of_webhook(webhook)}}}:cb:{webhook}:{lane}"


def callback_queue(webhook: str, lane: int) -> str:
    """List: what waits in a lane to become callbacks."""
    return f"{{{partition_of_webhook(webhook)}}}:cb:{webhook}:{lane}:q"


def dead_letters(webhook: str) -> str:
    """Sorted set: ids of an endpoint's dead letters by when they died."""
    return f"{{{partition_of_webhook(webhook)}}}:cb:{webhook}:dead"


def letters(webhook: str) -> str:
    """Hash: an endpoint's dead letters by id."""
    return f"{{{partition_of_webhook(webhook)}}}:cb:{webhook}:letters"
