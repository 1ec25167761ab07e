"""A device: one installation of a client app."""

import msgspec

from router.model.ids import DeviceId, ProjectId


class Device(msgspec.Struct, frozen=True):
    """What is known of a registered device; times in epoch milliseconds, 0 for never."""

    id: DeviceId
    project: ProjectId
    platform: str
    app_version: str = ""
    language: str = ""
    timezone: str = ""
    region: str = ""
    attributes: dict[str, str] = {}
    user: str = ""
    created_ms: int = 0
    seen_ms: int = 0
    """When the device last connected or left."""
    connected: bool = False
    pending: int = 0
    """How many messages the mailbox holds."""
    nonce: str = ""
    """The secret part of the current token."""
