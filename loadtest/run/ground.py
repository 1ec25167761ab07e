"""The gateway that a run is put on: one of its own, or one that runs already."""

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadtest.address import is_this_machine
from loadtest.gateway import RATES_LIFTED, create_project, serve
from loadtest.http import encode_request, open_connection
from loadtest.run.protocol import Place
from loadtest.run.samples import pids_of
from loadtest.run.spec import GatewaySpec, Spec
from loadtest.run.watched_store import StoreError, WatchedStore, watched_store

_OK: Final = 200
_POLL_S: Final = 0.05
_PATIENCE_S: Final = 60.0


class GroundError(Exception):
    """The gateway cannot be used; the text says why."""


class Ground(msgspec.Struct, frozen=True):
    """A gateway as a run sees it."""

    place: Place
    ops: str = ""
    """Its ops port; empty where it is not known."""
    data_dir: Path | None = None
    """Of a `serve` on this machine: its processes can be looked at."""
    own: bool = False
    """Whether the run started it, and so may hurt it."""
    owned: bool = False
    """Whether whoever started the run said that it is theirs, wherever it is."""
    store: WatchedStore | None = None
    """Of the run's own, where a replica is to take over."""

    @property
    def named(self) -> str:
        """Name it for a report."""
        return "started by the run" if self.own else self.place.api

    def pids(self) -> Mapping[str, int]:
        """Give the processes by name, as they are now; none where they cannot be seen."""
        found = pids_of(self.data_dir) if self.data_dir else {}
        return {**found, **self.store.pids()} if self.store else found

    def of_role(self, role: str) -> dict[str, int]:
        """Give the processes of a role by name."""
        found = self.pids().items()
        return {name: pid for name, pid in sorted(found) if name.partition("-")[0] == role}

    def hurt(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process of a gateway of the run's own.

        Raises:
            GroundError: it is somebody else's.
        """
        if not self.own:
            raise GroundError("the gateway is not the run's own: its processes are left alone")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    async def replaced(self, name: str, pid: int) -> float:
        """Wait until another process serves in the place of one; gives the seconds it took.

        Raises:
            GroundError: it does not come back.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < _PATIENCE_S:
            now = self.pids().get(name, pid)
            if now != pid and await self._ready():
                return time.monotonic() - begun
            await asyncio.sleep(_POLL_S)
        raise GroundError(f"{name} did not come back within {_PATIENCE_S:.0f} s")

    async def until_ready(self) -> None:
        """Wait until the gateway says that it serves.

        Raises:
            GroundError: it does not.
        """
        begun = time.monotonic()
        while time.monotonic() - begun < _PATIENCE_S:
            if await self._ready():
                return
            await asyncio.sleep(_POLL_S)
        raise GroundError(f"the gateway was not ready within {_PATIENCE_S:.0f} s")

    async def _ready(self) -> bool:
        try:
            connection = await open_connection(self.ops)
            try:
                answer = await connection.request(encode_request("GET", self.ops, "/readyz", b""))
            finally:
                connection.close()
        except (OSError, TimeoutError):
            return False
        return answer.status == _OK


@contextlib.asynccontextmanager
async def own_gateway(spec: Spec) -> AsyncIterator[Ground]:
    """Start a gateway on free ports and an embedded store, all of it gone in the end.

    Raises:
        GroundError: it did not come up.
    """
    wanted = spec.gateway
    flags: dict[str, object] = {
        "shards": wanted.shards,
        "apis": wanted.apis,
        "workers": wanted.workers,
        "callback_allow_private": str(spec.callbacks).lower(),
        **{name: _flag(value) for name, value in wanted.settings.items()},
    }
    with tempfile.TemporaryDirectory(prefix="pushwire-loadtest-") as folder:
        data_dir = Path(folder, "data")
        async with contextlib.AsyncExitStack() as stack:
            try:
                store = await _store(stack, wanted, Path(folder))
                if store is not None:
                    flags["store_url"] = store.url
                serving = serve(data_dir, flags=flags, lifted=RATES_LIFTED)
                gateway = await stack.enter_async_context(serving)
                url = store.url if store else ""
                project = await create_project(data_dir, "loadtest", store_url=url)
            except (ConnectionError, FileNotFoundError, StoreError) as error:
                raise GroundError(str(error)) from None
            place = Place(
                api=gateway.api,
                devices=gateway.devices,
                project=project.project,
                api_key=project.api_key,
                client_key=project.client_key,
            )
            yield Ground(place, ops=gateway.ops, data_dir=data_dir, own=True, store=store)


async def _store(
    stack: contextlib.AsyncExitStack, wanted: GatewaySpec, folder: Path
) -> WatchedStore | None:
    """Start the store that the gateway does not start itself."""
    if wanted.store == "embedded":
        return None
    fsync = wanted.settings.get("durability") == "fsync"
    return await stack.enter_async_context(watched_store(folder, fsync=fsync))


def check(url: str, *, owned: bool) -> None:
    """Look whether a gateway that runs already may be put under load.

    Args:
        url: of its API or of its device port; empty for one that is not known yet.
        owned: whether whoever started the run said that it is theirs.

    Raises:
        GroundError: it is not on this machine, and nobody said so; or it is no URL.
    """
    try:
        here = not url or is_this_machine(url)
    except ValueError as error:
        raise GroundError(str(error)) from None
    if not here and not owned:
        raise GroundError(
            f"{url} is not this machine. A load test can bring a server down: if it is yours, "
            "add --i-own-this-server"
        )


def _flag(value: bool | float | str) -> str:  # noqa: FBT001 - a value of a setting
    return str(value).lower() if isinstance(value, bool) else str(value)
