"""The list of recent messages: newest first, by target and state, page by page, within bounds."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.process import Clock, Entropy, RoleContext
from gateway.settings import Settings
from gateway.worker import app
from router.listing import MAX_READ, MAX_SCANNED, Listing, RecentSink, Wanted
from router.model.ids import (
    DeviceId,
    MessageId,
    all_partitions,
    new_cast_id,
    partition_of,
    partition_of_message,
)
from router.model.receipt import Event, Receipt
from router.receipts import MetricsSink, Receipts
from router.store import keys
from router.store.casts import Casts
from router.store.connection import Store
from router.store.recent import Listed, Recent
from tests.contract.api_server import Answer, Api, running_api
from tests.contract.router_stages import to
from tests.contract.test_api_users import of_user
from tests.contract.test_router_topics import TopicStages
from tests.support.waiting import eventually


@contextlib.asynccontextmanager
async def a_worker(url: str, **settings: Any) -> AsyncIterator[None]:
    """Run a worker until the end of the block."""
    context = RoleContext("worker-0", Clock(), Entropy(), CollectorRegistry(), lambda _: None)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app.run(Settings(store_url=url, **settings), context))
        try:
            yield
        finally:
            context.stopping.set()


async def listed(api: Api, query: str = "") -> Answer:
    return await api.call("GET", f"messages?{query}", key=api.key)


def names(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [message["name"].rpartition("/")[2] for message in answer.json["messages"]]


async def sent(api: Api, **message: Any) -> str:
    answer = await api.send(message)
    assert answer.status == 200, answer.text
    return str(answer.json["name"]).rpartition("/")[2]


async def test_what_was_accepted_is_listed_at_once_without_a_worker(api: Api) -> None:
    device, other = await api.device(), await api.device()
    first = await sent(api, token=device["token"], receipts="none")
    second = await sent(api, topic="news", fcm_options={"analytics_label": "sale"})
    third = await sent(api, token=other["token"], collapse_key="k")
    fourth = await sent(api, topic="news", receipts="none")
    found = names(await listed(api))
    assert found == sorted([first, second, third, fourth], key=newest)
    assert names(await listed(api, f"target={device['token']}")) == [first]
    assert names(await listed(api, f"target=token:{device['token']}")) == [first]
    assert names(await listed(api, f"target=device:{other['device_id']}")) == [third]
    assert names(await listed(api, "target=topic:news")) == sorted([second, fourth], key=newest)
    assert names(await listed(api, "target=topic:%2Ftopics%2Fnews")) == sorted(
        [second, fourth], key=newest
    )
    assert names(await listed(api, "target=topic:sports")) == []
    (single,) = (await listed(api, f"target={other['token']}")).json["messages"]
    assert (single["state"], single["target"]) == ("accepted", "token")
    assert (single["device_id"], single["collapse_key"]) == (other["device_id"], "k")
    assert single["counts"] == {"accepted": 1}
    topic = next(
        one for one in (await listed(api)).json["messages"] if one["name"].endswith(second)
    )
    assert (topic["state"], topic["topic"]) == ("in_progress", "news")
    assert topic["analytics_label"] == "sale"


def newest(message: str) -> tuple[int, str]:
    return -int(message[2:11], 36), message


async def test_messages_to_users_and_groups_are_listed_once(api: Api) -> None:
    token = (await of_user(api, "anna b"))["token"]
    await of_user(api, "anna b")
    group = {"group": "family", "tokens": [token]}
    assert (await api.call("POST", "groups", group, key=api.key)).status == 201
    options = {"analytics_label": "sale"}
    user = await sent(api, user="anna b", receipts="none", fcm_options=options)
    family = await sent(api, group="family", receipts="device")
    assert names(await listed(api)) == sorted([user, family], key=newest)
    answer = await listed(api, "target=user:anna%20b&state=in_progress")
    assert names(answer) == [user]
    (found,) = answer.json["messages"]
    assert (found["target"], found["user"], found["analytics_label"]) == ("user", "anna b", "sale")
    assert found["counts"] == {"accepted": 2}
    assert names(await listed(api, "target=group:family")) == [family]
    assert names(await listed(api, "state=done")) == []
    assert names(await listed(api, f"target={token}")) == []


async def test_an_entry_says_of_its_message_what_the_status_says(api: Api) -> None:
    device = await of_user(api, "anna")
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    options = {"collapse_key": "k", "fcm_options": {"analytics_label": "sale"}}
    for message in (
        {"token": device["token"], **options},
        {"token": device["token"], "send_at": later},
        {"topic": "news", "filter": {"language": "de"}, **options},
        {"condition": "'a' in topics && 'b' in topics", "send_at": later},
        {"filter": {"platform": "ios"}},
        {"user": "anna", **options},
    ):
        await sent(api, **message)
    entries = (await listed(api)).json["messages"]
    assert len(entries) == 6
    for entry in entries:
        status = (await api.call("GET", f"/v1/{entry['name']}", key=api.key)).json
        if "device_id" in entry:
            assert entry.pop("device_id") == device["device_id"]
        del status["deliveries"], status["timeline"]
        assert entry == status


@pytest.mark.parametrize(
    "state", ["state=cancelled", "state=opened,cancelled", "state=opened&state=cancelled"]
)
async def test_messages_are_listed_by_state(api: Api, state: str) -> None:
    device = await api.device()
    cancelled = await sent(api, token=device["token"])
    await sent(api, token=device["token"])
    await api.call("DELETE", f"messages/{cancelled}", key=api.key)
    assert names(await listed(api, state)) == [cancelled]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("target=nonsense", "target"),
        ("target=user:", "target"),
        ("target=group:a%20b", "target"),
        ("target=device:short", "target"),
        ("target=topic:a%20b", "target"),
        ("target=", "target"),
        ("state=sleeping", "state"),
        ("state=upstream", "state"),
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("page_size=ten", "page_size"),
        ("page_token=nonsense", "page_token"),
        ("page_token=00zzzzzzzzz' or 1=1", "page_token"),
        ("traget=x", "traget"),
    ],
)
async def test_a_bad_parameter_is_named(api: Api, query: str, field: str) -> None:
    answer = await listed(api, query)
    assert answer.status == 400
    assert answer.fields == [field]


async def test_only_the_project_s_own_messages_are_listed(api: Api) -> None:
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    await sent(api, token=(await api.device())["token"])
    path = f"/v1/projects/{other.project}/messages"
    assert (await api.call("GET", path, key=other.api_key)).json == {"messages": []}
    assert (await api.call("GET", path, key=api.key)).status == 403
    assert (await api.call("GET", path)).status == 401


async def test_pages_hold_every_message_once(fresh_store_url: str) -> None:
    async with running_api(fresh_store_url) as api, a_worker(fresh_store_url):
        devices = [await api.device() for _ in range(3)]
        batch = [{"token": devices[n % 3]["token"]} for n in range(100)]
        batch += [{"topic": f"t{n % 5}"} for n in range(100)]
        answer = await api.call("POST", "messages:sendBatch", {"messages": batch}, key=api.key)
        accepted = [one["name"].rpartition("/")[2] for one in answer.json["responses"]]

        async def noted() -> bool:
            return await indexed(api) == len(accepted)

        full: bool = await eventually(noted)
        assert full
        found: list[str] = []
        token = ""
        while True:
            answer = await listed(api, f"page_size=7&page_token={token}")
            found += names(answer)
            token = answer.json.get("next_page_token", "")
            if not token:
                break
        assert found == sorted(accepted, key=newest)
        mine = names(await listed(api, f"target={devices[0]['token']}&page_size=100"))
        assert mine == sorted(accepted[0:100:3], key=newest)


async def indexed(api: Api) -> int:
    call = api.services.store.batch.call
    sizes = [
        await call("ZCARD", keys.recent(partition, api.project)) for partition in all_partitions()
    ]
    return sum(size for size in sizes if isinstance(size, int))


async def test_a_list_that_is_switched_off_says_so_and_costs_nothing(fresh_store_url: str) -> None:
    async with (
        running_api(fresh_store_url, recent_messages=0) as api,
        a_worker(fresh_store_url, recent_messages=0),
    ):
        device = await api.device()
        await sent(api, token=device["token"])
        outbox = keys.outbox(partition_of(device["device_id"]))  # type: ignore[arg-type]

        async def dealt_with() -> bool:
            groups = await api.services.store.batch.call("XINFO", "GROUPS", outbox)
            return bool(groups) and b"0-0" not in groups[0]  # type: ignore[index]

        done: bool = await eventually(dealt_with)
        assert done
        answer = await listed(api)
        assert (answer.status, answer.error["status"]) == (501, "UNIMPLEMENTED")
        assert await indexed(api) == 0


class Index:
    """The index over a store, and what fills it, step by step."""

    def __init__(self, store: Store, bound: int = 1000) -> None:
        self.stages = TopicStages(store)
        self.recent = Recent(store, bound)
        self.listing = Listing(
            self.recent, self.stages.messages, Casts(store), self.stages.clock.now_ms
        )
        self.sink = RecentSink(self.recent, MetricsSink(self.stages.metrics))

    async def fill(self, message: MessageId) -> None:
        """Deal with the outbox of a message's partition."""
        reader = Receipts(self.stages.outbox, self.sink)
        partition = partition_of_message(message)
        await reader.take_over(partition)
        while await reader.run_once(partition):
            pass

    async def page(self, **wanted: Any) -> list[MessageId]:
        page = await self.listing.page(self.stages.project, Wanted(**wanted))
        return [status.id for status in page.messages]


async def test_the_index_keeps_the_newest_and_ends(store: Store) -> None:
    index = Index(store, bound=5)
    device = await index.stages.register()
    messages = [await index.stages.sender.send(index.stages.project, to(device)) for _ in range(9)]
    await index.fill(messages[0])
    key = keys.recent(partition_of(device.device_id), index.stages.project)
    call = store.batch.call
    members = await call("ZRANGE", key, 0, -1)
    kept = sorted(messages, key=newest)[:5]
    assert members == [f"{message}|{device.device_id}".encode() for message in kept]
    left = await call("PTTL", key)
    assert isinstance(left, int)
    assert left > store.options.retention_ms
    # From the outbox come the others, as long as they are the latest events.
    assert await index.page() == sorted(messages, key=newest)


async def test_a_message_whose_status_is_gone_is_skipped(store: Store) -> None:
    index = Index(store)
    device = await index.stages.register()
    first, second = [
        await index.stages.sender.send(index.stages.project, to(device)) for _ in range(2)
    ]
    await index.fill(first)
    await store.batch.call("UNLINK", keys.message(first))
    assert await index.page(target=device.device_id) == [second]


async def test_parts_of_a_message_to_a_user_are_not_listed(store: Store) -> None:
    index = Index(store)
    device = await index.stages.register()
    message = new_cast_id(all_partitions()[7], index.stages.clock.now_ms(), os.urandom(10))
    project = index.stages.project
    await index.sink.take([Receipt(project, message, device.device_id, Event.ACCEPTED, 1)])
    call = store.batch.call
    assert await call("EXISTS", keys.recent(all_partitions()[7], project)) == 0
    whole = Receipt(project, message, DeviceId(""), Event.ACCEPTED, 1, target="/users/ann")
    await index.sink.take([whole])
    members = await call("ZRANGE", keys.recent(all_partitions()[7], project), 0, -1)
    assert members == [f"{message}|/users/ann".encode()]


async def noted(index: Index, number: int, at_ms: int) -> list[MessageId]:
    """Note messages of one millisecond that have no status."""
    partition = all_partitions()[0]
    digits = "abcdefghijklmnop"
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    found = []
    for n in range(number):
        tail = digits[:13] + "".join(alphabet[n // 26**k % 26] for k in (2, 1, 0))
        found.append(MessageId(f"00{_base36(at_ms)}{tail}"))
    await index.recent.note(
        partition, {index.stages.project: [Listed(one, "d" * 16) for one in found]}
    )
    return found


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.rjust(9, "0")


async def test_a_page_looks_at_a_bounded_number_and_says_where_to_go_on(store: Store) -> None:
    index = Index(store, bound=10_000)
    now_ms = index.stages.clock.now_ms()
    await noted(index, MAX_SCANNED + MAX_READ, now_ms)
    project = index.stages.project
    steps = [
        (Wanted(partition=all_partitions()[0], target="e" * 16), MAX_SCANNED),
        (Wanted(partition=all_partitions()[0]), MAX_READ),
        (Wanted(), MAX_READ),
    ]
    for wanted, step in steps:
        page = await index.listing.page(project, wanted)
        assert page.messages == ()
        walked = [
            one.message async for one in index.recent.walk(project, all_partitions(), None, now_ms)
        ]
        assert page.last == walked[step - 1]
        assert len(walked) == len(set(walked)) == MAX_SCANNED + MAX_READ


async def test_many_messages_of_one_millisecond_are_walked_from_any_place(store: Store) -> None:
    index = Index(store, bound=10_000)
    now_ms = index.stages.clock.now_ms()
    found = await noted(index, 700, now_ms)
    project, partition = index.stages.project, all_partitions()[0]
    for start in (0, 350, 698, 699):
        walk = index.recent.walk(project, [partition], found[start], now_ms)
        assert [one.message async for one in walk] == found[start + 1 :]
