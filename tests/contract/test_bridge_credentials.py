"""Credentials of bridges in the store, and what every process knows of them."""

import asyncio
import os

import msgspec
import pytest
from structlog.testing import capture_logs

from router.bridge import AnyBridge
from router.bridges import discover
from router.bridging.directory import Directory, context_of
from router.model.bridge_state import MAX_SUSPENDED, BridgeTest, Suspension
from router.model.ids import ProjectId
from router.policy.sealing import Keyring
from router.store import keys
from router.store.bridge_credentials import BridgeCredentials, SealedBridge
from router.store.connection import Store
from tests.support.bridges import apns_credentials, fcm_credentials

OLD, NEW = Keyring([b"o" * 32]), Keyring([b"n" * 32, b"o" * 32])
BRIDGES: dict[str, AnyBridge] = discover()
NOW_MS = 1_900_000_000_000


@pytest.fixture
def project() -> ProjectId:
    return ProjectId(f"p{os.urandom(8).hex()}")


@pytest.fixture
def kept(store: Store) -> BridgeCredentials:
    return BridgeCredentials(store)


def sealed(project: ProjectId, name: str, raw: object, ring: Keyring = NEW) -> bytes:
    credentials = BRIDGES[name].credentials(raw)
    plain = msgspec.json.encode(credentials)
    return ring.seal(plain, context_of(project, name), os.urandom(12))


async def put(
    kept: BridgeCredentials, project: ProjectId, name: str = "apns", now_ms: int = NOW_MS
) -> SealedBridge:
    raw = apns_credentials() if name == "apns" else fcm_credentials()
    bridge = await kept.put(project, name, sealed(project, name, raw), now_ms)
    assert bridge is not None
    return bridge


async def test_a_bridge_is_kept_listed_and_forgotten(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    assert await kept.get(project, "apns") is None
    apns, fcm = await put(kept, project), await put(kept, project, "fcm")
    assert await kept.get(project, "apns") == apns
    assert await kept.of(project) == [apns, fcm]
    assert apns in await kept.all()
    assert await kept.remove(project, "apns")
    assert not await kept.remove(project, "apns")
    assert await kept.of(project) == [fcm]
    await kept.remove_all(project)
    assert await kept.of(project) == []
    assert not [each for each in await kept.all() if each.project == project]


async def test_a_state_is_never_taken_for_a_bridge(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    await put(kept, project)
    assert await kept.get(project, "apns:state") is None
    assert [each.name for each in await kept.of(project)] == ["apns"]


async def test_nothing_of_a_deleted_project_comes_back(
    kept: BridgeCredentials, store: Store, project: ProjectId
) -> None:
    await store.batch.call("SADD", keys.DELETED_PROJECTS, project)
    assert await kept.put(project, "apns", b"sealed", NOW_MS) is None
    assert await kept.of(project) == []


async def test_a_suspension_stands_until_the_credentials_change(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    first = await put(kept, project)
    generation = first.state.generation
    assert await kept.suspend(project, "apns", generation, "https://a", "Forbidden", NOW_MS + 1)
    assert await kept.suspend(project, "apns", generation, "https://a", "later", NOW_MS + 2)
    found = await kept.get(project, "apns")
    assert found is not None
    assert found.state.suspended == {"https://a": Suspension("Forbidden", NOW_MS + 1)}
    changed = await put(kept, project, now_ms=NOW_MS + 5)
    assert changed.state.suspended == {}
    assert (changed.state.created_ms, changed.state.changed_ms) == (NOW_MS, NOW_MS + 5)
    assert changed.state.generation != generation


async def test_who_used_older_credentials_suspends_nothing(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    old = await put(kept, project)
    new = await put(kept, project)
    assert not await kept.suspend(project, "apns", old.state.generation, "a", "Forbidden", NOW_MS)
    late = BridgeTest(ok=False, says="refused", time_ms=NOW_MS)
    assert not await kept.note_test(project, "apns", old.state.generation, late)
    assert await kept.get(project, "apns") == new
    await kept.remove(project, "apns")
    assert not await kept.suspend(project, "apns", new.state.generation, "a", "Forbidden", NOW_MS)
    assert await kept.get(project, "apns") is None


async def test_a_test_that_passed_lifts_suspensions_and_one_that_failed_does_not(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    generation = (await put(kept, project)).state.generation
    await kept.suspend(project, "apns", generation, "https://a", "Forbidden", NOW_MS)
    failed = BridgeTest(ok=False, says="403 Forbidden", time_ms=NOW_MS + 1)
    assert await kept.note_test(project, "apns", generation, failed)
    found = await kept.get(project, "apns")
    assert found is not None
    assert (found.state.test, len(found.state.suspended)) == (failed, 1)
    passed = BridgeTest(ok=True, says="", time_ms=NOW_MS + 2)
    assert await kept.note_test(project, "apns", generation, passed)
    found = await kept.get(project, "apns")
    assert found is not None
    assert (found.state.test, found.state.suspended) == (passed, {})


async def test_many_note_something_at_once_and_nothing_is_lost(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    generation = (await put(kept, project)).state.generation
    async with asyncio.TaskGroup() as tasks:
        noted = [
            tasks.create_task(kept.suspend(project, "apns", generation, f"{n}", "x", NOW_MS))
            for n in range(6)
        ]
    assert all(task.result() for task in noted)
    found = await kept.get(project, "apns")
    assert found is not None
    assert found.state.suspended.keys() == {f"{n}" for n in range(6)}


async def test_suspensions_are_bounded_and_the_first_go(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    generation = (await put(kept, project)).state.generation
    for number in range(MAX_SUSPENDED + 3):
        await kept.suspend(project, "apns", generation, f"https://{number}", "x", NOW_MS + number)
    found = await kept.get(project, "apns")
    assert found is not None
    assert list(found.state.suspended) == [f"https://{n}" for n in range(3, MAX_SUSPENDED + 3)]


async def test_resealing_undoes_no_change(kept: BridgeCredentials, project: ProjectId) -> None:
    before = await put(kept, project)
    after = await put(kept, project)
    assert not await kept.reseal(before, b"older ones")
    assert await kept.get(project, "apns") == after
    assert await kept.reseal(after, b"again")
    assert await kept.reseal(after, b"again"), "its answer may have been lost"
    found = await kept.get(project, "apns")
    assert found == msgspec.structs.replace(after, sealed=b"again")


async def test_a_directory_follows_every_change(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    directory = Directory(kept, BRIDGES, NEW)
    assert not await directory.has(project, "apns")
    assert directory.is_loaded
    bridge = await put(kept, project)
    assert directory.names(project) == frozenset()
    assert await directory.has(project, "apns"), "it looks anew before it says no"
    assert directory.names(project) == {"apns"}
    raw = apns_credentials()
    expected = BRIDGES["apns"].credentials(raw)
    assert directory.credentials(project, "apns") == (bridge.state.generation, expected)
    assert directory.credentials(project, "fcm") is None

    await kept.suspend(project, "apns", bridge.state.generation, "https://a", "Forbidden", NOW_MS)
    await directory.refresh()
    assert directory.suspended(project, "apns", "https://a") == Suspension("Forbidden", NOW_MS)
    assert directory.suspended(project, "apns", "https://b") is None
    assert directory.suspended(project, "fcm", "https://a") is None

    await kept.remove(project, "apns")
    await directory.refresh()
    assert directory.names(project) == frozenset()
    assert directory.credentials(project, "apns") is None


async def test_credentials_are_opened_once_until_they_change(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    directory = Directory(kept, BRIDGES, NEW)
    bridge = await put(kept, project)
    await directory.refresh()
    first = directory.credentials(project, "apns")
    await kept.suspend(project, "apns", bridge.state.generation, "https://a", "Forbidden", NOW_MS)
    await directory.refresh()
    again = directory.credentials(project, "apns")
    assert first is not None
    assert again is not None
    assert again[1] is first[1]
    await put(kept, project)
    await directory.refresh()
    changed = directory.credentials(project, "apns")
    assert changed is not None
    assert changed[1] is not first[1]
    assert changed[0] != first[0]


@pytest.mark.parametrize("fault", ["other key", "other place", "changed", "other kind"])
async def test_credentials_that_do_not_open_are_logged_without_them(
    kept: BridgeCredentials, project: ProjectId, fault: str
) -> None:
    raw = apns_credentials()
    body = sealed(project, "apns", raw)
    if fault == "other place":
        body = sealed(ProjectId("another"), "apns", raw)
    elif fault == "changed":
        body = body[:-1] + bytes([body[-1] ^ 1])
    elif fault == "other kind":
        body = NEW.seal(b'{"key":"secret-of-apns"}', context_of(project, "apns"), os.urandom(12))
    await kept.put(project, "apns", body, NOW_MS)
    directory = Directory(kept, BRIDGES, OLD if fault == "other key" else NEW)
    await directory.refresh()
    with capture_logs() as logged:
        assert directory.credentials(project, "apns") is None
        assert directory.credentials(project, "apns") is None
    assert [entry["event"] for entry in logged] == ["bridge.credentials_closed"]
    assert directory.names(project) == {"apns"}, "its messages wait"
    shown = repr(logged)
    assert raw["key"][30:60] not in shown
    assert "secret-of-apns" not in shown


async def test_a_bridge_of_a_later_version_is_left_alone(
    kept: BridgeCredentials, project: ProjectId
) -> None:
    await kept.put(project, "carrier-pigeon", b"sealed", NOW_MS)
    directory = Directory(kept, BRIDGES, NEW)
    await directory.refresh()
    assert directory.names(project) == frozenset()
    assert [each.name for each in await kept.of(project)] == ["carrier-pigeon"]
