"""What becomes of messages, as a device and an app server see it."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

from tests.e2e.conftest import kept_running, seen_from_here
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw_device import RawDevice, connected, opened
from tests.support.statuses import events_of, timeline_of, until_state

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

MAX_PENDING = 8
WINDOW = 4


@pytest.fixture(scope="module")
def narrow_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    context = running_gateway(
        tmp_path_factory.mktemp("narrow"), ack_timeout_s=0.5, max_pending=MAX_PENDING, window=WINDOW
    )
    with kept_running(context) as found:
        yield found


@pytest_asyncio.fixture
async def narrow(narrow_process: RunningGateway) -> AsyncIterator[RunningGateway]:
    """A gateway whose limits are soon reached, and which soon sends again what is not acked."""
    async with seen_from_here(narrow_process) as here:
        yield here


Registered = dict[str, str]


def joined(
    gateway: RunningGateway, registered: Registered
) -> AbstractAsyncContextManager[RawDevice]:
    return connected(gateway.devices, registered["credential"])


async def send_batch(gateway: RunningGateway, *messages: Mapping[str, object]) -> list[str]:
    """Send in one request, and give the messages' ids."""
    status, body = await gateway.call("POST", "/messages:sendBatch", {"messages": messages})
    assert status == 200, body
    responses = body["responses"]
    assert isinstance(responses, list)
    return [one["name"].rpartition("/")[2] for one in responses]


async def test_an_unacked_message_comes_again_on_its_connection(narrow: RunningGateway) -> None:
    registered = await narrow.register()
    async with joined(narrow, registered) as device:
        sent = await narrow.send(registered["token"], data={"n": "1"})
        first = await device.frame("message")
        assert first["id"] == sent
        assert await device.frame("message") == first
        await device.ack(sent)
        status = await until_state(narrow, sent, "delivered")
        assert events_of(status) == ["accepted", "sent", "delivered"]


async def test_an_unacked_message_comes_again_after_each_disconnect(
    gateway: RunningGateway,
) -> None:
    registered = await gateway.register()
    sent = await gateway.send(registered["token"], data={"n": "1"})
    async with joined(gateway, registered) as device:
        assert await device.messages() == [sent]
    async with joined(gateway, registered) as device:
        assert await device.messages() == [sent]
        device.drop()
    async with joined(gateway, registered) as device:
        assert await device.messages() == [sent]
        await device.ack(sent)
        await until_state(gateway, sent, "delivered")
    async with joined(gateway, registered) as device:
        assert await device.until_pong() == []


async def test_an_ack_out_of_order_spares_the_others(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    sent = await send_batch(gateway, *[{"token": registered["token"]}] * 3)
    async with joined(gateway, registered) as device:
        assert await device.messages(3) == sent
        await device.ack(sent[1])
        await until_state(gateway, sent[1], "delivered")
    async with joined(gateway, registered) as device:
        assert await device.messages(2) == [sent[0], sent[2]]
        assert await device.until_pong() == []


async def test_one_frame_acks_many(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    sent = await send_batch(gateway, *[{"token": registered["token"]}] * 50)
    async with joined(gateway, registered) as device:
        assert await device.messages(50) == sent
        await device.ack(*sent, sent[0], "of nobody")
        for message in sent:
            status = await until_state(gateway, message, "delivered")
            assert events_of(status).count("delivered") == 1
        assert await device.until_pong() == []


async def test_order_is_kept_while_a_device_connects(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    ten = [{"token": registered["token"]}] * 10
    sent = await send_batch(gateway, *ten)
    async with opened(gateway.devices, registered["credential"]) as device:
        for _ in range(4):
            sent += await send_batch(gateway, *ten)
        assert await device.messages(len(sent)) == sent


async def test_of_one_collapse_key_only_the_latest_waits(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    scores = {"token": registered["token"], "collapse_key": "score"}
    other = {"token": registered["token"]}
    first, between, second, third = await send_batch(gateway, scores, other, scores, scores)
    async with joined(gateway, registered) as device:
        assert await device.messages(2) == [between, third]
        await device.ack(between, third)
        await until_state(gateway, third, "delivered")
    for message in (first, second):
        assert events_of(await until_state(gateway, message, "collapsed")) == [
            "accepted",
            "collapsed",
        ]


async def test_an_ack_does_not_revive_a_collapsed_message(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    async with joined(gateway, registered) as device:
        older = await gateway.send(registered["token"], collapse_key="score")
        assert await device.messages() == [older]
        newer = await gateway.send(registered["token"], collapse_key="score")
        assert await device.messages() == [newer]
        await device.ack(older, newer)
        await until_state(gateway, newer, "delivered")
        assert "delivered" not in events_of(await until_state(gateway, older, "collapsed"))
    async with joined(gateway, registered) as device:
        assert await device.until_pong() == []


async def test_now_or_never_reaches_a_connected_device(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    async with joined(gateway, registered) as device:
        sent = await gateway.send(registered["token"], ttl="0s")
        assert await device.messages() == [sent]
        await device.ack(sent)
        await until_state(gateway, sent, "delivered")


async def test_now_or_never_is_offered_once(narrow: RunningGateway) -> None:
    registered = await narrow.register()
    async with joined(narrow, registered) as device:
        sent = await narrow.send(registered["token"], ttl="0s")
        assert await device.messages() == [sent]
        status = await until_state(narrow, sent, "expired")
        assert timeline_of(status)[-1]["detail"] == "not acked"
        assert await device.until_pong() == []
    async with joined(narrow, registered) as device:
        assert await device.until_pong() == []


async def test_now_or_never_never_reaches_a_device_that_was_away(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    sent = await gateway.send(registered["token"], ttl="0s")
    assert (await gateway.status(sent))["state"] == "expired"
    async with joined(gateway, registered) as device:
        assert await device.until_pong() == []


async def test_expired_messages_do_not_hold_up_a_good_one(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    short = {"token": registered["token"], "ttl": "1s"}
    sent = await send_batch(gateway, *[short] * 5, {"token": registered["token"]}, *[short] * 5)
    good = sent.pop(5)
    for message in sent:
        assert events_of(await until_state(gateway, message, "expired")) == ["accepted", "expired"]
    async with opened(gateway.devices, registered["credential"]) as device:
        assert (await device.frame("welcome"))["pending"] == 1
        assert await device.messages() == [good]
        assert await device.until_pong() == []
        await device.ack(good)
        await until_state(gateway, good, "delivered")


async def test_an_ack_does_not_revive_an_expired_message(gateway: RunningGateway) -> None:
    registered = await gateway.register()
    async with joined(gateway, registered) as device:
        late = await gateway.send(registered["token"], ttl="1s")
        assert await device.messages() == [late]
        await until_state(gateway, late, "expired")
        good = await gateway.send(registered["token"])
        assert await device.messages() == [good]
        await device.ack(late, good)
        await until_state(gateway, good, "delivered")
        assert (await gateway.status(late))["state"] == "expired"


async def test_a_full_mailbox_drops_its_oldest_and_tells_the_device_once(
    narrow: RunningGateway,
) -> None:
    registered = await narrow.register()
    sent = await send_batch(narrow, *[{"token": registered["token"]}] * (MAX_PENDING + 2))
    for message in sent[:2]:
        assert events_of(await until_state(narrow, message, "dropped")) == ["accepted", "dropped"]
    async with joined(narrow, registered) as device:
        assert await device.next() == {"op": "dropped", "count": 2}
        for message in sent[2:]:
            while await device.messages() != [message]:
                pass
            await device.ack(message)
        await until_state(narrow, sent[-1], "delivered")
    async with joined(narrow, registered) as device:
        assert await device.until_pong() == []


async def test_a_device_has_no_more_than_a_window_unacked(narrow: RunningGateway) -> None:
    registered = await narrow.register()
    sent = await send_batch(narrow, *[{"token": registered["token"]}] * (WINDOW + 2))
    async with joined(narrow, registered) as device:
        assert await device.messages(WINDOW) == sent[:WINDOW]
        assert {frame["id"] for frame in await device.until_pong()} <= set(sent[:WINDOW])
        await device.ack(*sent[:2])
        came = {frame["id"] for frame in await device.until_pong()}
        while not came >= set(sent[WINDOW:]):
            came.update(await device.messages())
        assert not {frame["id"] for frame in await device.until_pong()} & set(sent[:2])


async def test_an_unregistered_device_is_told_and_gets_nothing_more(
    gateway: RunningGateway,
) -> None:
    registered = await gateway.register()
    async with joined(gateway, registered) as device:
        pending = await gateway.send(registered["token"])
        assert await device.messages() == [pending]
        status, _ = await gateway.call("DELETE", f"/devices/{registered['device_id']}")
        assert status == 200
        assert await device.closed() == 4003
    status, body = await gateway.call(
        "POST", "/messages:send", {"message": {"token": registered["token"]}}
    )
    assert status == 404
    assert '"UNREGISTERED"' in json.dumps(body)
    await until_state(gateway, pending, "dropped")
    async with opened(gateway.devices, registered["credential"]) as device:
        assert await device.closed() == 4003
