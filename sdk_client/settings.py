"""What the maker of a device may choose; every key is optional."""

import os
import ssl
from collections.abc import Callable, Mapping
from typing import TypedDict

from sdk_client.events import ConnectionState

StatePath = str | os.PathLike[str]
OnState = Callable[[ConnectionState, str], None]
OnDropped = Callable[[int], None]


class Settings(TypedDict, total=False):
    """How a device connects."""

    device_url: str
    """Where to connect, `ws://` or `wss://`; default: what the API names, or port 8081 there."""
    dialect: str
    """`msgpack` (the default) or `json`."""
    heartbeat_s: float
    """Seconds between pings that the device asks for, 60 by default; 0: the gateway's choice."""
    on_state: OnState
    """Called in the event loop with each new state and a detail for people."""
    on_dropped: OnDropped
    """Called with how many messages were lost to the pending cap: the app should sync."""
    tls: ssl.SSLContext
    """For `https` and `wss`, in place of the system's certificates."""


class About(TypedDict, total=False):
    """What a device says of itself."""

    app_version: str
    language: str
    """A BCP 47 tag."""
    timezone: str
    """A name such as `Europe/Berlin`."""
    region: str
    attributes: Mapping[str, str]
    user: str
    """Whose device it is; the gateway takes it from app servers only: see `user_token`."""
    bridge: Mapping[str, object] | None
    """Where APNs, FCM or a push service reaches it: see `Device.set_bridge`."""


class Spec(Settings, About, total=False):
    """All that `Device.register` takes besides."""

    device_id: str
    """An id of the device's own choice: 16 to 64 of `[A-Za-z0-9_-]`."""
    user_token: str
    """Proves whose device it is: signed by your app server. It is not kept in the state file."""
