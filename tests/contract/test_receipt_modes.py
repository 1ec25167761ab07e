"""Which receipts of a message reach callbacks, as its sender asked, and what its status tells."""

import msgspec
import pytest

from router.cast import Casting
from router.model.audience import Audience, AudienceKind
from router.model.ids import BROADCAST, QUIET_DIGITS, MessageId
from router.model.message import Message, ReceiptMode
from router.model.receipt import Event
from router.model.selection import Filter, Selection
from router.model.topic import DeviceEvent
from router.publish import Publication
from router.registration import Registered
from router.store import keys
from tests.contract.callback_stage import CallbackStage, callback_stage
from tests.contract.cast_stage import of_user
from tests.contract.router_stages import to
from tests.contract.test_router_topics import NEWS, TopicStages
from tests.support.receiver import Receiver, receiving
from tests.support.waiting import eventually

QUIET = [ReceiptMode.NONE, ReceiptMode.AGGREGATE]


async def send(stage: CallbackStage, device: Registered, mode: ReceiptMode) -> MessageId:
    message = msgspec.structs.replace(to(device), receipts=mode)
    return await stage.sender.send(stage.project, message)


def events_of(receiver: Receiver, message: str) -> list[tuple[str, str, str]]:
    return [
        (found["device_id"], found.get("topic", ""), found["event"])
        for found in receiver.receipts
        if found["message_id"] == message
    ]


@pytest.mark.parametrize("mode", QUIET)
async def test_of_a_quiet_message_to_a_device_the_status_alone_tells(
    fresh_store_url: str, mode: ReceiptMode
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        await stage.webhook(receiver)
        device = await stage.register()
        quiet = await send(stage, device, mode)
        assert quiet[0] in QUIET_DIGITS
        (loud,) = await stage.delivered(device, 1)  # acks the quiet one too
        await eventually(
            lambda: (device.device_id, "", "delivered") in events_of(receiver, loud), 30.0
        )
        assert events_of(receiver, quiet) == []
        assert await stage.events(quiet) == ["accepted", "sent", "delivered"]
        receiver.check()


@pytest.mark.parametrize("mode", ReceiptMode)
async def test_a_message_to_a_user_is_told_of_where_its_sender_wants_it(
    fresh_store_url: str, mode: ReceiptMode
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        await stage.webhook(receiver)
        device = await of_user(stage, "a b")
        audience = Audience(AudienceKind.USER, "a b")
        message, later = [
            await stage.caster.cast(
                stage.project,
                Casting(audience, Message("", audience=audience, ttl_ms=60_000, receipts=asked)),
            )
            for asked in (mode, ReceiptMode.DEVICE)
        ]
        await eventually(lambda: len(events_of(receiver, later)) == 2)
        told = [("", "accepted"), (device.device_id, "accepted")]
        found = [(one, event) for one, _, event in events_of(receiver, message)]
        assert sorted(found) == (told if mode is ReceiptMode.DEVICE else [])
        whole = [one for one in receiver.receipts if not one["device_id"]]
        assert {one.get("user") for one in receiver.receipts} == {"a b"}
        assert {one["event"] for one in whole} == {"accepted"}
        receiver.check()


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        (ReceiptMode.NONE, []),
        (ReceiptMode.AGGREGATE, ["accepted", "expired"]),
        (ReceiptMode.DEVICE, ["accepted", "expired"]),
    ],
)
async def test_a_message_to_a_topic_is_told_of_as_a_whole(
    fresh_store_url: str, mode: ReceiptMode, told: list[str]
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        topics = TopicStages(stage.store)
        topics.project = stage.project
        await stage.webhook(receiver)
        message = await topics.publish(receipts=mode, ttl_ms=60_000)
        gone = await topics.publish(receipts=ReceiptMode.AGGREGATE)
        await topics.publisher.retract(stage.project, gone)
        stage.process_clock.ahead_ms = 61_000
        expired = await topics.publish(receipts=ReceiptMode.AGGREGATE, ttl_ms=0)
        await eventually(lambda: ("", "news", "expired") in events_of(receiver, expired))
        assert [event for *_, event in events_of(receiver, message)] == told
        assert [event for *_, event in events_of(receiver, gone)] == ["accepted", "cancelled"]
        assert await stage.events(message) == ["accepted", "expired"]
        assert await topics.log() == []
        receiver.check()


@pytest.mark.parametrize(
    "selection",
    [
        Selection(condition="'a' in topics"),
        Selection(filter=Filter(platform=("python",))),
    ],
    ids=["condition", "filter"],
)
async def test_a_message_to_a_condition_or_a_filter_is_told_of_by_that(
    fresh_store_url: str, selection: Selection
) -> None:
    async with callback_stage(fresh_store_url) as stage, receiving() as receiver, stage.worker():
        topics = TopicStages(stage.store)
        topics.project = stage.project
        await stage.webhook(receiver)
        message = Message("", selection=selection, data={"k": "v"}, ttl_ms=60_000)
        sent = await topics.publisher.publish(stage.project, Publication(BROADCAST, message))
        await topics.publisher.retract(stage.project, sent)
        await eventually(lambda: len(events_of(receiver, sent)) == 2)
        named = [
            (one["event"], set(one) - {"message_id", "time", "event"}) for one in receiver.receipts
        ]
        field = "condition" if selection.condition else "filter"
        assert named == [(event, {"device_id", field}) for event in ("accepted", "cancelled")]
        assert {str(one[field]) for one in receiver.receipts} == {
            selection.condition or "{'platform': ['python']}"
        }
        receiver.check()


async def test_a_message_to_a_topic_ends_once(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage:
        topics = TopicStages(stage.store)
        first = await topics.publish(collapse_key="score")
        second = await topics.publish(collapse_key="score")
        third = await topics.publish()
        await topics.publisher.retract(topics.project, third)
        later = stage.clock.now_ms() + 61_000
        for message in (first, second, third):
            await stage.mailboxes.lapse(message, later)
            await stage.mailboxes.lapse(message, later)
        await topics.publisher.retract(topics.project, second)
        endings = [(await stage.events(message))[1:] for message in (first, second, third)]
        assert endings == [["collapsed"], ["expired"], ["cancelled"]]


async def test_what_finds_no_room_in_the_log_of_a_topic_is_dropped(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage:
        topics = TopicStages(stage.store)
        first = await topics.publish()
        log = keys.topic_log(topics.project, NEWS)
        (entry,) = (await topics.topics.read(topics.project, NEWS, 0)).entries
        filler = [
            stage.store.batch.call("XADD", log, f"{entry.seq}-{n}", "h", f"x|{n}|a|", "f", b"")
            for n in range(1, 10_000)
        ]
        for added in filler:
            await added
        second = await topics.publish()
        assert await stage.events(first) == ["accepted", "dropped"]
        assert await stage.events(second) == ["accepted"]
        assert await stage.store.batch.call("XLEN", log) == 10_000


async def test_nothing_outlives_the_status_of_a_message_to_a_topic(fresh_store_url: str) -> None:
    async with callback_stage(fresh_store_url) as stage:
        topics = TopicStages(stage.store)
        message = await topics.publish(receipts=ReceiptMode.DEVICE)
        told = DeviceEvent("d" * 16, Event.SENT, stage.clock.now_ms())
        await topics.topics.count_devices(message, topics.project, [told])
        await topics.publisher.retract(topics.project, message)
        call = stage.store.batch.call
        status = await call("PTTL", keys.message(message))
        devices = await call("PTTL", keys.receivers(message))
        assert isinstance(status, int)
        assert isinstance(devices, int)
        assert 0 < devices <= status <= stage.store.options.retention_ms
