"""A device: what an app makes, listens to, and sends from. The public face of the SDK."""

import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, Unpack

from sdk_client.api import Api
from sdk_client.core import Core
from sdk_client.errors import StateError
from sdk_client.events import ConnectionState
from sdk_client.messages import Messages
from sdk_client.registration import Wish, ensure_registered
from sdk_client.settings import About, Settings, Spec, StatePath
from sdk_client.state import StateFile
from sdk_client.wire import Op

_ABOUT: Final = About.__annotations__.keys()
_ID_KEY: Final = "pushwire_id"
"""What bridges put a message's id under."""


class Device:
    """One installation of an app. Made by `register` or `load`, used in one event loop.

    It connects when something is first asked of it, and stays connected until `close()`, which
    `async with` calls at the end of its block.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    @classmethod
    async def register(
        cls,
        url: str,
        *,
        project: str,
        client_key: str,
        platform: str = "python",
        state: StatePath | None = None,
        **spec: Unpack[Spec],
    ) -> Self:
        """Register a device, or take up the registration that the state file holds.

        A registration of the same project at the same URL (and with the same `device_id`, if one is
        given) is used again; what the device says of itself is brought up to date if it changed.
        Otherwise, or if the gateway has ended it, a new one is made and replaces it in the file.

        Args:
            url: of the HTTP API, such as `http://localhost:8080`.
            project: its id.
            client_key: the project's public key for devices.
            platform: a word such as `android`, `ios`, `web`, `python`.
            state: the file that keeps credential, token and seen ids; None: nothing is kept.
            **spec: see `sdk_client.settings`.

        Raises:
            ApiError: the API refused the registration or could not be reached.
            StateError: the state file is damaged or cannot be written.
            ValueError: a URL or a setting is wrong.
        """
        stored = StateFile.read(state)
        given: Mapping[str, object] = spec
        wish = Wish(
            url=url.rstrip("/"),
            project=project,
            client_key=client_key,
            about={"platform": platform, **{key: given[key] for key in _ABOUT if key in given}},
            device_id=spec.get("device_id", ""),
            device_url=spec.get("device_url", ""),
            user_token=spec.get("user_token", ""),
        )
        await ensure_registered(Api(wish.url, project, spec.get("tls")), stored, wish)
        return cls(Core(stored, spec))

    @classmethod
    def load(cls, state: StatePath, **settings: Unpack[Settings]) -> Self:
        """Take up the registration that a state file holds, without asking the API.

        Raises:
            StateError: the file is missing, damaged or holds no registration.
            ValueError: a URL or a setting is wrong.
        """
        stored = StateFile.read(state)
        if stored.registration is None:
            raise StateError(f"{os.fspath(state)} holds no registration: register first")
        return cls(Core(stored, settings))

    @property
    def device_id(self) -> str:
        """The device's id."""
        return self._core.registration.device_id

    @property
    def token(self) -> str:
        """The address that app servers send to; kept up to date while connected."""
        return self._core.registration.token

    @property
    def state(self) -> ConnectionState:
        """Where the connection is in its life."""
        return self._core.session.state

    @property
    def connected(self) -> bool:
        """Whether messages arrive at this moment."""
        return self._core.session.state is ConnectionState.CONNECTED

    def messages(self, *, auto_ack: bool = True) -> Messages:
        """Loop over the messages, over all reconnects: `async for message in device.messages()`.

        Args:
            auto_ack: ack each message when the next one is asked for, that is, when the body of the
                loop ran to its end (see `Messages`); False: only `message.ack()` acks.

        The loop ends when the device is closed. It raises BadCredentialError, DisplacedError or
        UnregisteredError when the gateway ended the connection for good, and StateError when the
        state file cannot be written. A device has one loop: beginning one ends the one before.
        """
        return self._core.messages(auto_ack=auto_ack)

    async def send(self, data: Mapping[str, object]) -> None:
        """Send a message to the app server, and wait until the gateway has stored it.

        It is sent again over reconnects until the gateway answers, so it may be stored more than
        once, with the same id. Bound the wait with `asyncio.timeout`.

        Raises:
            RequestError: the gateway refused it.
            QueueFullError: a thousand requests wait already.
            DisconnectedError: the connection ended for good.
            TypeError, ValueError: the data is not a JSON object.
        """
        copy: object = json.loads(json.dumps(dict(data), allow_nan=False))
        await self._core.request(lambda ref: {"op": Op.SEND.value, "id": ref, "data": copy})

    async def subscribe(self, *topics: str) -> None:
        """Get what is published to these topics.

        Raises:
            RequestError: the gateway refused it.
            QueueFullError, DisconnectedError: as `send`.
        """
        await self._topics(Op.SUBSCRIBE, topics)

    async def unsubscribe(self, *topics: str) -> None:
        """Get no more of what is published to these topics.

        Raises:
            RequestError: the gateway refused it.
            QueueFullError, DisconnectedError: as `send`.
        """
        await self._topics(Op.UNSUBSCRIBE, topics)

    async def rotate_token(self) -> str:
        """Get a new token; the old one is void at once. Give the new one to the app server.

        Raises:
            ApiError: the API refused it or could not be reached.
            StateError: the state file cannot be written.
        """
        return await self._core.rotate_token()

    async def take_push(self, payload: Mapping[str, object]) -> bool:
        """Say that a push of the platform (APNs, FCM, Web Push) brought a message of the gateway.

        The copy over the socket is then acked and not given to the loop, over restarts too. Call it
        before anything is shown.

        Args:
            payload: as the platform gives it, with `pushwire_id` at its top or in its `data`.

        Returns:
            Whether the app is to handle it: False where the loop had it, or has it to come. True
            for a payload that is not the gateway's.

        Raises:
            StateError: the state file cannot be written.
        """
        found = payload.get(_ID_KEY)
        if found is None and isinstance(data := payload.get("data"), Mapping):
            found = data.get(_ID_KEY)
        return self._core.take_push(found) if isinstance(found, str) and found else True

    async def set_bridge(self, bridge: Mapping[str, object] | None) -> None:
        """Say where a bridge reaches the device now; None: nowhere any more.

        Args:
            bridge: `{"type": "apns", "token": …}`, `{"type": "fcm", "token": …}` or
                `{"type": "webpush", "subscription": …}`.

        Raises:
            ApiError: the API refused it or could not be reached.
            StateError: the state file cannot be written.
        """
        await self._core.set_bridge(bridge)

    async def set_user(self, user_token: str) -> None:
        """Say whose device it is, by a token that the app server signed: after a sign-in.

        Raises:
            ApiError: the API refused it or could not be reached.
        """
        await self._core.change({"user_token": user_token})

    async def clear_user(self) -> None:
        """Say that the device is nobody's: at a sign-out.

        Raises:
            ApiError: the API refused it or could not be reached.
        """
        await self._core.change({"user": ""})

    async def unregister(self) -> None:
        """End the registration for good: what is pending is dropped, the state file is removed.

        Raises:
            ApiError: the API refused it or could not be reached; then nothing has changed.
            StateError: the state file cannot be removed.
        """
        await self._core.unregister()

    async def close(self) -> None:
        """Disconnect: acks that are due leave first, loops end. Repeats do nothing."""
        await self._core.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _topics(self, op: Op, topics: tuple[str, ...]) -> None:
        listed = list(topics)
        await self._core.request(lambda ref: {"op": op.value, "topics": listed, "ref": ref})
