"""Which registration a device has: the one that its state file holds, or a new one."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sdk_client.api import Api
from sdk_client.errors import ApiError
from sdk_client.state import Registration, StateFile

_UNKNOWN_DEVICE: Final = frozenset({401, 403, 404})
_SAY_AGAIN_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What `Device.register` was asked for."""

    url: str
    project: str
    client_key: str
    about: Mapping[str, object]
    """What the device says of itself, `platform` included."""
    device_id: str = ""
    device_url: str = ""
    user_token: str = field(default="", repr=False)


async def ensure_registered(api: Api, state: StateFile, wish: Wish) -> None:
    """Have the state hold a registration that answers the wish.

    Raises:
        ApiError: the API refused it, or a new one is needed and the API could not be reached.
        StateError: the state file cannot be written.
    """
    found = state.registration
    if found is None or not _fits(found, wish) or not await _is_current(api, state, found, wish):
        await _register(api, state, wish)


def _fits(found: Registration, wish: Wish) -> bool:
    same = (found.url, found.project) == (wish.url, wish.project)
    return same and not found.void and wish.device_id in {"", found.device_id}


async def _is_current(api: Api, state: StateFile, found: Registration, wish: Wish) -> bool:
    """Bring a registration up to date; False where the gateway has it no more.

    While the API is away the device keeps what it has: the next start tries again. A new user must
    not be lost so: then it is an error.
    """
    changed = {key: value for key, value in wish.about.items() if found.about.get(key) != value}
    proof = {"user_token": wish.user_token} if wish.user_token else {}
    again = {} if changed.keys() >= {"bridge"} else _bridge_again(found, wish)
    if changed or proof or again:
        try:
            await api.change(found.device_id, found.credential, {**changed, **proof, **again})
        except ApiError as error:
            if error.http_status in _UNKNOWN_DEVICE and "user" not in changed:
                return False
            if proof or (changed and not error.retryable):
                raise
        else:
            said_at = _now() if again or "bridge" in changed else found.bridge_said_at
            about = {**found.about, **changed}
            found = replace(found, about=about, bridge_said_at=said_at)
    if wish.device_url:
        found = replace(found, device_url=wish.device_url)
    if found != state.registration:
        state.save(found)
    return True


def _bridge_again(found: Registration, wish: Wish) -> dict[str, object]:
    """Give the bridge where it is to be said again: the gateway forgets what nobody says."""
    bridge = wish.about.get("bridge")
    if not bridge or 0 <= _now() - found.bridge_said_at < _SAY_AGAIN_S:
        return {}
    return {"bridge": bridge}


def _now() -> float:
    return time.time_ns() / 1e9


async def _register(api: Api, state: StateFile, wish: Wish) -> None:
    more = {"device_id": wish.device_id, "user_token": wish.user_token}
    body = {**wish.about, **{key: value for key, value in more.items() if value}}
    made = await api.register(wish.client_key, body)
    state.save(
        Registration(
            url=wish.url,
            project=wish.project,
            device_id=made.device_id,
            token=made.token,
            credential=made.credential,
            device_url=wish.device_url or made.device_url,
            about=wish.about,
            bridge_said_at=_now() if wish.about.get("bridge") else 0.0,
        )
    )
