"""A device: one installation of a client app."""

from typing import Final

import msgspec
from typing_extensions import override

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
    bridge: str = ""
    """Name of the bridge that reaches it; empty for none."""
    bridge_since_ms: int = 0
    """When it last said where that reaches it."""


class Contact(msgspec.Struct, frozen=True, gc=False):
    """Where a bridge reaches a device, as it is stored; times in epoch milliseconds."""

    bridge: str
    address: str
    """The bridge's own form, in JSON. Secret."""
    registered_ms: int
    stale_ms: int
    """When it is given up unless the device says it again; 0 in `NO_CONTACT` alone."""

    @property
    def field(self) -> str:
        """What the mailbox holds."""
        return f"{self.bridge}|{self.registered_ms}|{self.address}"

    @override
    def __repr__(self) -> str:
        return f"<Contact by {self.bridge}>"


NO_CONTACT: Final = Contact("", "", 0, 0)
"""Takes a device's bridge from it."""
