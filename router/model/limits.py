"""Limits by rate: what they are called, how they are written down."""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta


class Limit(enum.StrEnum):
    """What a rate is counted by. The values stand in answers and in metrics."""

    PROJECT = "project"
    """Messages that a project sends, of all kinds."""
    KEY = "key"
    """Messages that are sent with one API key."""
    PUBLISHES = "publishes"
    """Messages that a project sends to many devices at once."""
    DEVICE = "device"
    """Messages to one device."""
    TOPIC = "topic"
    """Messages to one topic."""
    ADDRESS = "address"
    """Registrations from one client address."""
    CONNECTIONS = "connections"
    """Connections to the device port from one client address."""
    API_CONNECTIONS = "api_connections"
    """Connections to the API."""
    API_QUEUE = "api_queue"
    """Requests that would wait too long in an API process."""
    FRAMES = "frames"
    """Frames from one device."""


class Rate(msgspec.Struct, frozen=True, gc=False):
    """Tokens a second, and how many may be saved up. A rate of 0 is no limit."""

    per_s: float
    burst: float


UNLIMITED = Rate(0.0, 0.0)


PerSecond = Annotated[float, Meta(ge=0, le=1_000_000, description="a number from 0 to 1,000,000")]
PerMinute = Annotated[float, Meta(ge=0, le=60_000_000, description="a number from 0 to 60,000,000")]


class ProjectLimits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is set for one project in the place of the gateway's settings.

    None leaves those, 0 is no limit.
    """

    sends_per_second: PerSecond | None = None
    key_sends_per_second: PerSecond | None = None
    publishes_per_second: PerSecond | None = None
    device_sends_per_minute: PerMinute | None = None
    topic_publishes_per_minute: PerMinute | None = None


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """A token bucket in the store.

    Args:
        limit: what it counts.
        subject: whose it is, as an answer names it.
        key: of the store.
        rate: of which it fills.
    """

    limit: Limit
    subject: str
    key: str
    rate: Rate


class Level(msgspec.Struct, frozen=True, gc=False):
    """How a bucket stands after a charge."""

    left: int
    """Tokens."""
    wait_s: float
    """Seconds until one more token is there, 0 where there is one."""
