"""Ids, addresses and secrets: their forms, and the partition that each one names.

A device id fixes its partition by CRC-32, a message id begins with the partition of its mailbox,
and a token carries both, so that every key of a message's life can be found from its address alone.
"""

import base64
import hashlib
import re
import zlib
from typing import Final, NewType

import msgspec
from typing_extensions import override

ProjectId = NewType("ProjectId", str)
DeviceId = NewType("DeviceId", str)
MessageId = NewType("MessageId", str)
Partition = NewType("Partition", str)
ShardId = NewType("ShardId", str)
TopicName = NewType("TopicName", str)
UserName = NewType("UserName", str)
GroupName = NewType("GroupName", str)

PARTITIONS: Final = 64
_PARTITIONS: Final = tuple(Partition(f"{number:02x}") for number in range(PARTITIONS))
TOPIC_DIGITS: Final = "4567"
CAST_DIGITS: Final = "89ab"
QUIET_DIGITS: Final = "cdef"
"""First digits of message ids: the first byte is the partition, with a kind in its highest bits."""
_QUIET_BITS: Final = 0xC0
CAST_QUIET_ENDS: Final = "234567"
"""Last characters of the ids of messages to users and groups whose sender wants no receipts."""
_CAST_ENDS: Final = "abcdef"
MESSAGE_CHARACTERS: Final = 27
"""Every message id has so many."""
ENTROPY_BYTES: Final = 10
"""How many random bytes the makers of ids below take."""
SECRET_BYTES: Final = 24
"""How many random bytes the makers of secrets below take."""

_PROJECT = re.compile(r"[a-z][a-z0-9-]{1,62}[a-z0-9]")
_DEVICE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_MESSAGE = re.compile(r"[0-9a-f]{2}[0-9a-z]{9}[a-z2-7]{16}")
_TOKEN = re.compile(
    r"(?P<region>[a-z0-9-]{1,32})\.(?P<partition>[0-9a-f]{2})\."
    r"(?P<device>[A-Za-z0-9_-]{16,64})\.(?P<nonce>[a-z2-7]{16})"
)
_CREDENTIAL = re.compile(r"(?P<device>[A-Za-z0-9_-]{16,64})\.(?P<secret>[A-Za-z0-9_-]{32})")
_TOPIC = re.compile(r"[a-zA-Z0-9-_.~%]{1,900}")
_GROUP = re.compile(r"[a-zA-Z0-9-_.~%]{1,128}")
_TOPIC_PREFIX: Final = "/topics/"
BROADCAST: Final = TopicName("*")
"""The log that all devices of a project follow; no topic can have this name."""
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Token(msgspec.Struct, frozen=True, gc=False):
    """The address of a device, taken apart: `<region>.<partition>.<device id>.<nonce>`."""

    region: str
    partition: Partition
    device: DeviceId
    nonce: str

    @override
    def __str__(self) -> str:
        """Give the address as app servers send it."""
        return f"{self.region}.{self.partition}.{self.device}.{self.nonce}"


class Credential(msgspec.Struct, frozen=True, gc=False):
    """A device's own secret for connecting, taken apart: `<device id>.<secret>`."""

    device: DeviceId
    secret: str

    @override
    def __str__(self) -> str:
        """Give the credential as the device keeps it."""
        return f"{self.device}.{self.secret}"


def partition_of(device: DeviceId) -> Partition:
    """Name the partition of a device's mailbox, two hexadecimal digits, 00 to 3f."""
    return _PARTITIONS[zlib.crc32(device.encode()) % PARTITIONS]


def partition_of_message(message: MessageId) -> Partition:
    """Name the partition that holds a message's status; of a copy, that of its device."""
    if message[0] < "4":
        return Partition(message[:2])
    if len(message) > MESSAGE_CHARACTERS:
        return partition_of(DeviceId(message[MESSAGE_CHARACTERS + 1 :]))
    return _PARTITIONS[int(message[:2], 16) % PARTITIONS]


def partition_of_topic(project: ProjectId, topic: TopicName) -> Partition:
    """Name the partition of a topic's log, and of the status of what is published to it."""
    return _PARTITIONS[zlib.crc32(f"{project}:{topic}".encode()) % PARTITIONS]


def partition_of_audience(project: ProjectId, name: str) -> Partition:
    """Name the partition of a user or a group, and of the status of what is sent to it."""
    return _PARTITIONS[zlib.crc32(f"{project}:{name}".encode()) % PARTITIONS]


def partition_of_owner(owner: str) -> Partition:
    """Name the partition that holds the token buckets of a project or an address."""
    return _PARTITIONS[zlib.crc32(owner.encode()) % PARTITIONS]


def is_topic_message(message: MessageId) -> bool:
    """Tell whether a message was published to a topic: its first byte is 40 to 7f."""
    return message[0] in TOPIC_DIGITS


def is_cast(message: MessageId) -> bool:
    """Tell whether a message was sent to a user or a group: its first byte is 80 to bf."""
    return message[0] in CAST_DIGITS


def kept_as(message: MessageId, device: DeviceId) -> MessageId:
    """Give the id under which the store keeps a message of a device's mailbox.

    A message to a user or a group has a copy in each mailbox: `<message>.<device>`, so that the
    copies of devices that share a partition differ. Everybody but the store says `<message>`.
    """
    if message[0] in CAST_DIGITS:
        return MessageId(f"{message}.{device}")
    return message


def told_as(kept: MessageId) -> MessageId:
    """Give the id by which everybody but the store knows a message: the opposite of `kept_as`."""
    return MessageId(kept[:MESSAGE_CHARACTERS])


def all_partitions() -> list[Partition]:
    """List every partition, in order."""
    return list(_PARTITIONS)


def _base32(entropy: bytes) -> str:
    return base64.b32encode(entropy).decode().rstrip("=").lower()


def new_device_id(entropy: bytes) -> DeviceId:
    """Make a device id of 16 characters from `ENTROPY_BYTES` random bytes."""
    return DeviceId(_base32(entropy))


def new_message_id(partition: Partition, now_ms: int, entropy: bytes) -> MessageId:
    """Make a message id: partition, time of acceptance in base 36, `ENTROPY_BYTES` random bytes.

    Ids of one partition sort by their millisecond.
    """
    digits = []
    rest = now_ms
    for _ in range(9):
        rest, digit = divmod(rest, 36)
        digits.append(_BASE36[digit])
    return MessageId(f"{partition}{''.join(reversed(digits))}{_base32(entropy)}")


def new_quiet_message_id(partition: Partition, now_ms: int, entropy: bytes) -> MessageId:
    """Make the id of a message to a device whose sender wants no receipts: from c0 to ff."""
    marked = Partition(f"{int(partition, 16) | _QUIET_BITS:02x}")
    return new_message_id(marked, now_ms, entropy)


def new_topic_message_id(partition: Partition, now_ms: int, entropy: bytes) -> MessageId:
    """Make the id of a message to a topic, whose log stands in `partition`."""
    marked = Partition(f"{int(partition, 16) + PARTITIONS:02x}")
    return new_message_id(marked, now_ms, entropy)


def new_cast_id(
    partition: Partition, now_ms: int, entropy: bytes, *, quiet: bool = False
) -> MessageId:
    """Make the id of a message to a user or a group, whose devices are listed in `partition`.

    `quiet` where its sender wants no receipts: it ends with a digit, otherwise with a letter.
    """
    marked = Partition(f"{int(partition, 16) + 2 * PARTITIONS:02x}")
    made = new_message_id(marked, now_ms, entropy)
    ending = (CAST_QUIET_ENDS if quiet else _CAST_ENDS)[entropy[-1] % len(CAST_QUIET_ENDS)]
    return MessageId(made[:-1] + ending)


def new_stamp(entropy: bytes) -> str:
    """Make what tells two entries of a device in one list apart: 16 characters."""
    return _base32(entropy)


def new_token(region: str, device: DeviceId, entropy: bytes) -> Token:
    """Make a device's address with a fresh nonce from `ENTROPY_BYTES` random bytes."""
    return Token(region, partition_of(device), device, _base32(entropy))


def new_credential(device: DeviceId, entropy: bytes) -> Credential:
    """Make a device's secret from `SECRET_BYTES` random bytes."""
    return Credential(device, new_secret(entropy))


def new_secret(entropy: bytes) -> str:
    """Write random bytes as URL-safe base64 without padding (32 characters for `SECRET_BYTES`)."""
    return base64.urlsafe_b64encode(entropy).decode().rstrip("=")


def secret_hash(secret: str) -> str:
    """Hash a secret for storage: SHA-256, hexadecimal.

    Our secrets carry 192 random bits, so a slow password hash would add nothing.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_token(text: str) -> Token | None:
    """Take an address apart, or give None where it has not the form of one.

    An address whose partition is not its device's is none: a message's status would stand in
    another partition than the mailbox that writes it.
    """
    if (found := _TOKEN.fullmatch(text)) is None:
        return None
    region, partition, device, nonce = found.groups()
    if partition != partition_of(DeviceId(device)):
        return None
    return Token(region, Partition(partition), DeviceId(device), nonce)


def parse_credential(text: str) -> Credential | None:
    """Take a device's secret apart, or give None where it has not the form of one."""
    if (found := _CREDENTIAL.fullmatch(text)) is None:
        return None
    return Credential(DeviceId(found["device"]), found["secret"])


def parse_device_id(text: str) -> DeviceId | None:
    """Give a device id of 16 to 64 characters `[A-Za-z0-9_-]`, or None."""
    return DeviceId(text) if _DEVICE.fullmatch(text) else None


def parse_topic(text: str) -> TopicName | None:
    """Give a topic's name, without the `/topics/` that FCM lets stand before it; or None."""
    name = text.removeprefix(_TOPIC_PREFIX)
    return TopicName(name) if _TOPIC.fullmatch(name) else None


def parse_group(text: str) -> GroupName | None:
    """Give a group's name, 1 to 128 characters of `[a-zA-Z0-9-_.~%]`, or None."""
    return GroupName(text) if _GROUP.fullmatch(text) else None


def parse_message_id(text: str) -> MessageId | None:
    """Give a message id, or None where the text cannot be one."""
    return MessageId(text) if _MESSAGE.fullmatch(text) else None


def parse_project_id(text: str) -> ProjectId | None:
    """Give a project id: 3 to 64 of `[a-z0-9-]`, a letter first, no hyphen last; or None."""
    return ProjectId(text) if _PROJECT.fullmatch(text) else None
