"""One device's parts, put together: what comes in goes to the app, what the app says goes out."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sdk_client.api import Api, device_url_of
from sdk_client.connection import Connection
from sdk_client.errors import (
    BadCredentialError,
    ClosedError,
    DisconnectedError,
    StateError,
    UnregisteredError,
)
from sdk_client.events import ConnectionState
from sdk_client.messages import Mail, Messages
from sdk_client.options import Identity, Options
from sdk_client.session import Session
from sdk_client.settings import Settings
from sdk_client.state import Registration, StateFile
from sdk_client.wire import MessageFrame

_DIALECTS: Final = ("msgpack", "json")
_MAX_RETRY_AFTER_S: Final = 86_400.0

_log: Final = logging.getLogger("pushwire")  # noqa: TID251 - an app that uses the SDK has its own


class Core:
    """What a `Device` is made of: receiver of the connection, desk of the messages.

    Args:
        state: holds a registration.
        settings: how to connect.

    Raises:
        StateError: the state holds no registration.
        ValueError: a URL or a setting is wrong.
    """

    def __init__(self, state: StateFile, settings: Settings) -> None:
        self.state = state
        found = self.registration
        self.api = Api(found.url, found.project, settings.get("tls"))
        self._on_state = settings.get("on_state")
        self._on_dropped = settings.get("on_dropped")
        self._identity = Identity(
            found.credential, found.token, str(found.about.get("app_version", ""))
        )
        options = Options(
            dialect=_dialect(settings.get("dialect", "msgpack")),
            heartbeat_s=_heartbeat(settings.get("heartbeat_s", 60.0)),
            seen_limit=state.seen.limit,
        )
        uniform = secrets.SystemRandom().uniform
        self.session = Session(self._identity, uniform, seen=state.seen, options=options)
        url = settings.get("device_url") or found.device_url or device_url_of(found.url)
        self._connection = Connection(self.session, url, self, settings.get("tls"))
        self._mail = Mail(self)
        self._leaving = False

    @property
    def registration(self) -> Registration:
        """Who the device is."""
        if self.state.registration is None:
            raise StateError("the state holds no registration: register first")
        return self.state.registration

    def messages(self, *, auto_ack: bool) -> Messages:
        """Begin a loop over the messages."""
        return self._mail.stream(auto_ack=auto_ack, begin=self._connection.start)

    async def request(self, frame: Callable[[str], Mapping[str, object]]) -> None:
        """Send a frame that the gateway answers, and wait for the answer."""
        self._connection.start()
        await self._connection.request(frame)

    async def rotate_token(self) -> str:
        """Get a new token."""
        found = self.registration
        token = await self.api.rotate_token(found.device_id, found.credential)
        self._identity.token = token
        self.state.replace(token=token)
        return token

    async def change(self, about: Mapping[str, object]) -> None:
        """Change what the gateway knows of the device."""
        found = self.registration
        await self.api.change(found.device_id, found.credential, about)

    async def set_bridge(self, bridge: Mapping[str, object] | None) -> None:
        """Say where a bridge reaches the device, and keep that it was said."""
        await self.change({"bridge": bridge})
        found = self.registration
        about = {**found.about, "bridge": bridge}
        self.state.save(replace(found, about=about, bridge_said_at=time.time_ns() / 1e9))

    async def unregister(self) -> None:
        """End the registration."""
        found = self.registration
        self._leaving = True
        try:
            await self.api.unregister(found.device_id, found.credential)
        except BaseException:
            self._leaving = False
            raise
        await self.close()
        self.state.delete()

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()
        self.state.close()

    # The desk.

    def holds(self, message_id: str) -> bool:
        """Tell whether a message is neither acked nor nacked yet."""
        return self.session.holds(message_id)

    def settle(self, message_id: str) -> None:
        """Keep that the handler is done with a message, then ack it."""
        if self.session.holds(message_id):
            self.state.add(message_id)
            self._connection.carry_out(self.session.on_handled(message_id, _now()))

    def take_push(self, message_id: str) -> bool:
        """Keep that a message came another way; False if it is known already."""
        if self.session.holds(message_id) or message_id in self.state.seen:
            return False
        self.state.add(message_id)
        self.session.on_pushed(message_id)
        return True

    def refuse(self, message_id: str, reason: str, retry_after_s: float | None) -> None:
        """Ask for a message again."""
        if retry_after_s is not None and not 0 <= retry_after_s <= _MAX_RETRY_AFTER_S:
            raise ValueError(f"retry_after takes 0 to {_MAX_RETRY_AFTER_S:.0f} seconds")
        actions = self.session.on_nacked(
            message_id, _now(), reason=reason, retry_after_s=retry_after_s
        )
        self._connection.carry_out(actions)

    async def engage(self, message_id: str, event: str, action: str) -> None:
        """Tell what a person did with a message."""
        self._connection.start()
        await self._connection.room()
        at_ms = time.time_ns() // 1_000_000
        actions = self.session.on_event(message_id, event, _now(), at_ms=at_ms, action=action)
        self._connection.carry_out(actions)

    # What the connection tells.

    def on_deliver(self, message: MessageFrame) -> None:
        """Take a message for the handler."""
        self._mail.put(message)

    def on_lost_messages(self, count: int) -> None:
        """Take it that so many messages were lost to the pending cap."""
        if (callback := self._on_dropped) is not None:
            _call(lambda: callback(count))

    def on_readdressed(self, token: str) -> None:
        """Take a new token."""
        self._keep(token=token)

    def on_reported(self, state: ConnectionState, detail: str) -> None:
        """Take a new state."""
        if (callback := self._on_state) is not None:
            _call(lambda: callback(state, detail))

    def on_stopped(self, error: DisconnectedError) -> None:
        """Take it that it is over for good."""
        if isinstance(error, BadCredentialError | UnregisteredError):
            if self._leaving:
                error = ClosedError("the device was unregistered")
            self._keep(void=True)
        self._mail.end(error)

    def _keep(self, *, token: str | None = None, void: bool | None = None) -> None:
        """Keep what the gateway said. A full disk must not end the connection."""
        try:
            self.state.replace(token=token, void=void)
        except StateError as error:
            _log.warning("state.unwritten: %s", error)


def _call(callback: Callable[[], None]) -> None:
    """Call the app; what it raises is the app's, and must not end the connection."""
    try:
        callback()
    except Exception:  # noqa: BLE001 - anything may come from there; it is logged
        _log.exception("callback.failed")


def _now() -> float:
    return asyncio.get_running_loop().time()


def _dialect(name: str) -> str:
    if name not in _DIALECTS:
        raise ValueError(f"dialect takes {' or '.join(_DIALECTS)}, not {name!r}")
    return name


def _heartbeat(heartbeat_s: float) -> float:
    if not 0 <= heartbeat_s <= 86_400:  # noqa: PLR2004 - a day
        raise ValueError("heartbeat_s takes 0 to 86400 seconds")
    return heartbeat_s
