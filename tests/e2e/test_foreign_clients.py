"""Devices made by others: WebSocket clients from PyPI, Node's and a browser's own."""

from pathlib import Path
from typing import Final

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.foreign.packages import picows_device, websockets_device
from tests.support.foreign.programs import browser_device, browsing, node_device, served_page
from tests.support.foreign.sight import JSON, MSGPACK, ForeignDevice, Order
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.statuses import until_state

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

CLIENTS: Final[dict[str, ForeignDevice]] = {
    "websockets": websockets_device,
    "picows": picows_device,
    "node": node_device,
    "browser": browser_device,
}
# Lengths of all three kinds of a WebSocket frame's header but the longest, and text of two, three
# and four bytes a character.
TEXTS: Final = ("", "Grüße, 世界 🚀", "x" * 3000)


@pytest.fixture(params=list(CLIENTS))
def device(request: pytest.FixtureRequest) -> ForeignDevice:
    return CLIENTS[request.param]


def order_for(gateway: RunningGateway, credential: str, subprotocol: str = JSON) -> Order:
    return Order(f"{gateway.devices}/v1/connect", subprotocol, credential)


@pytest.mark.parametrize("subprotocol", [JSON, MSGPACK])
async def test_messages_arrive_and_their_acks_deliver_them(
    gateway: RunningGateway, device: ForeignDevice, subprotocol: str
) -> None:
    registered = await gateway.register()
    waiting = await gateway.send(
        registered["token"], notification={"title": TEXTS[1], "body": "waits"}
    )
    async with device(order_for(gateway, registered["credential"], subprotocol)) as sight:
        assert (await sight.event("open"))["subprotocol"] == subprotocol
        first = await sight.event("frame")
        assert first["binary"] is (subprotocol == MSGPACK)
        assert first["frame"]["op"] == "welcome"
        assert first["frame"]["device_id"] == registered["device_id"]
        assert first["frame"]["pending"] == 1
        frame = await sight.frame("message")
        assert (frame["id"], frame["notification"]["title"]) == (waiting, TEXTS[1])
        assert await sight.frame("pong")
        for text in TEXTS:
            sent = await gateway.send(registered["token"], data={"text": text})
            frame = await sight.frame("message")
            assert (frame["id"], frame["data"]) == (sent, {"text": text})
            assert 0 < frame["sent_at"] < frame["expires_at"]
            await until_state(gateway, sent, "delivered")
        await until_state(gateway, waiting, "delivered")


async def test_a_newer_connection_displaces_the_older_one(
    gateway: RunningGateway, device: ForeignDevice
) -> None:
    registered = await gateway.register()
    order = order_for(gateway, registered["credential"])
    async with device(order) as older:
        await older.frame("welcome")
        async with websockets_device(order) as newer:
            await newer.frame("welcome")
            closed = await older.event("close")
            assert closed["code"] == 4002
            assert closed["reason"] == "displaced by a newer session"
            sent = await gateway.send(registered["token"], data={"n": "1"})
            assert (await newer.frame("message"))["id"] == sent
            await until_state(gateway, sent, "delivered")


async def test_a_wrong_credential_is_told_by_its_close_code(
    gateway: RunningGateway, device: ForeignDevice
) -> None:
    async with device(order_for(gateway, "nonsense")) as sight:
        assert (await sight.event("close"))["code"] == 4001


async def test_pages_of_other_origins_are_refused_and_what_is_no_page_is_not(
    tmp_path: Path,
) -> None:
    async with (
        served_page() as page,
        running_gateway(tmp_path, allowed_origins=page.origin()) as gateway,
    ):
        registered = await gateway.register()
        order = order_for(gateway, registered["credential"])
        async with browsing(page, order, host="localhost") as sight:
            refused = await sight.event("close")
            assert refused["origin"] == page.origin("localhost")
            assert refused["code"] == 1006
        async with browsing(page, order) as sight:
            assert (await sight.event("open"))["origin"] == page.origin()
            sent = await gateway.send(registered["token"], data={"n": "1"})
            assert (await sight.frame("message"))["id"] == sent
            await until_state(gateway, sent, "delivered")
        for device in (websockets_device, picows_device, node_device):
            async with device(order) as sight:
                await sight.frame("welcome")
        with pytest.raises(InvalidStatus, match="403"):
            async with websockets_device(order, origin=page.origin("localhost")):
                pytest.fail("a page was let in")
