"""Workers die while thousands of pushes are under way: each goes out, a second time as itself."""

import asyncio
import functools
import itertools
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gateway.sealing_keys import read_keys
from loadtest.faults import Killer
from router.bridges import discover
from router.bridging.directory import context_of
from router.model.ids import MessageId, ProjectId
from router.model.receipt import Event
from router.policy.sealing import NONCE_BYTES, Keyring
from router.store.bridge_credentials import BridgeCredentials
from router.store.connection import Store
from router.store.messages import Messages
from tests.support.bridges import apns_credentials, ec_key
from tests.support.certificate import make_certificate
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.providers import faults
from tests.support.providers.apns import ApnsProvider
from tests.support.valkey import opened_store, wall_ms
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.xdist_group("processes"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

DEVICES: Final = 100
PUSHES: Final = 5_000
KILLS: Final = 8
"""Spread over the pushes: one each time that so many more were taken."""
BATCH: Final = 500
"""Pushes in one call of the API."""


async def set_up(gateway: RunningGateway, store: Store, provider: ApnsProvider, ca: str) -> None:
    """Give the project its bridge, as the command does."""
    kind, project = discover()["apns"], ProjectId(gateway.project)
    made = kind.credentials(apns_credentials(endpoint=provider.server.url, ca=ca))
    keyring = Keyring(read_keys((gateway.data_dir / "secret.key").read_text()))
    plain = msgspec.json.encode(msgspec.to_builtins(made))
    sealed = keyring.seal(plain, context_of(project, "apns"), os.urandom(NONCE_BYTES))
    assert await BridgeCredentials(store).put(project, "apns", sealed, wall_ms())


async def all_bridged(store: Store, ids: set[MessageId]) -> bool:
    """Tell whether each has its receipt."""
    messages, waiting = Messages(store), sorted(ids)
    while waiting:
        window, waiting = waiting[:BATCH], waiting[BATCH:]
        for status in await messages.statuses(window):
            events = [] if status is None else [entry.event for entry in status.timeline]
            if Event.BRIDGED not in events:
                return False
    return True


async def send_all(gateway: RunningGateway, tokens: list[str]) -> set[MessageId]:
    """Send to devices that are away, in turn."""
    ids: set[MessageId] = set()
    turn = itertools.cycle(tokens)
    for _ in range(PUSHES // BATCH):
        messages = [
            {"token": next(turn), "notification": {"title": "t"}, "ttl": "3600s"}
            for _ in range(BATCH)
        ]
        status, body = await gateway.call("POST", "/messages:sendBatch", {"messages": messages})
        assert status == 200, body
        for response in body["responses"]:  # type: ignore[attr-defined]
            ids.add(MessageId(response["name"].rpartition("/")[2]))
    return ids


async def test_workers_are_killed_while_pushes_are_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = make_certificate(tmp_path)
    provider = ApnsProvider(certificate, ec_key().public_key())
    provider.faults.always = faults.slow(0.05)
    settings = {
        "workers": 2,
        "lease_s": 1.0,
        "bridge_timeout_s": 3.0,
        "bridge_connect_s": 1.0,
        "bridge_project_concurrency": 100,
        "device_sends_per_min": 0,
        "project_sends_per_s": 0,
    }
    async with provider.server, running_gateway(tmp_path, **settings) as gateway:
        url = json.loads((gateway.data_dir / "run" / "serve.json").read_text())["store_url"]
        async with opened_store(url, deadline_s=20.0) as store:
            await set_up(gateway, store, provider, certificate[0].read_text())
            ids, kills = await under_fire(gateway, provider)
            done: bool = await eventually(lambda: all_bridged(store, ids), 150.0)
            assert done
    taken = Counter(push.payload["pushwire_id"] for push in provider.taken)
    assert taken.keys() == ids
    for_one: dict[str, set[str]] = {}
    for push in provider.taken:
        for_one.setdefault(push.payload["pushwire_id"], set()).add(push.id)
    assert {len(found) for found in for_one.values()} == {1}, "a push keeps its apns-id"
    twice = taken.total() - len(taken)
    with capsys.disabled():
        sys.stderr.write(f"\n{kills} workers killed, {PUSHES} pushes, {twice} sent a second time\n")
    assert kills == KILLS
    # What was under way in a worker when it died is of unknown outcome, and no other.
    assert twice <= kills * settings["bridge_project_concurrency"]


def has_taken(provider: ApnsProvider, pushes: int) -> bool:
    return len(provider.ids) >= pushes


async def under_fire(gateway: RunningGateway, provider: ApnsProvider) -> tuple[set[MessageId], int]:
    """Send everything while workers are killed."""
    tokens = await registered(gateway)
    killer = Killer(lambda: {"worker": gateway.pids("worker")}, ("worker",), random.Random(46))

    async def trouble() -> None:
        for kill in range(1, KILLS + 1):
            await eventually(
                functools.partial(has_taken, provider, kill * PUSHES // (KILLS + 2)), 120.0
            )
            killer.kill_one()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(trouble())
        ids = await send_all(gateway, tokens)
    return ids, len(killer.kills)


async def registered(gateway: RunningGateway) -> list[str]:
    """Register devices that never connect; the API learns of the bridge within a second."""
    tokens = []
    for number in range(DEVICES):
        bridge = {"type": "apns", "token": f"{number:064x}"}
        tokens.append((await gateway.register(bridge=bridge))["token"])
    return tokens
