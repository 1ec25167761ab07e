"""The Pushwire SDK for Python (docs/sdk.md).

    device = await Device.register(
        "http://localhost:8080", project="demo", client_key="…", state="device.json"
    )
    async for message in device.messages():
        print(message.notification, message.data)

Names are loaded when they are first asked for, so that a program which needs `sdk_client.wire`
alone does not load a WebSocket client.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sdk_client.blocking import BlockingDevice, BlockingMessage
    from sdk_client.device import Device
    from sdk_client.errors import (
        ApiError,
        BadCredentialError,
        ClosedError,
        DisconnectedError,
        DisplacedError,
        PushwireError,
        QueueFullError,
        RequestError,
        StateError,
        UnregisteredError,
    )
    from sdk_client.events import ConnectionState
    from sdk_client.messages import Message, Messages
    from sdk_client.wire import Notification

__all__ = [
    "ApiError",
    "BadCredentialError",
    "BlockingDevice",
    "BlockingMessage",
    "ClosedError",
    "ConnectionState",
    "Device",
    "DisconnectedError",
    "DisplacedError",
    "Message",
    "Messages",
    "Notification",
    "PushwireError",
    "QueueFullError",
    "RequestError",
    "StateError",
    "UnregisteredError",
]

_HOMES: Final = {
    "BlockingDevice": "blocking",
    "BlockingMessage": "blocking",
    "ConnectionState": "events",
    "Device": "device",
    "Message": "messages",
    "Messages": "messages",
    "Notification": "wire",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(
        importlib.import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name
    )
    globals()[name] = found
    return found
