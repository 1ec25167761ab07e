"""The store's memory is full: new work is refused clearly, what was accepted goes on."""

import asyncio
from pathlib import Path

import pytest

from gateway.embedded_store.directory import find_socket
from router.store.connection import Store
from router.store.link import Argument
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.raw_device import connected
from tests.support.statuses import events_of, until_state
from tests.support.valkey import opened_store

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

FULL = "out of memory: raise its maxmemory"
TTL_S = 3


async def ask(store: Store, *words: Argument) -> str:
    reply = await store.batch.call(*words)
    assert isinstance(reply, bytes)
    return reply.decode()


async def refusal(gateway: RunningGateway, path: str, body: object) -> str:
    """Make a call that must be refused, and give the text."""
    async with gateway.http.post(
        gateway.project_url + path, json=body, headers=gateway.auth
    ) as response:
        found = await response.json()
        assert response.status == 503, found
        assert int(response.headers["Retry-After"]) >= 1
    assert found["error"]["status"] == "UNAVAILABLE"
    return str(found["error"]["message"])


async def test_a_full_store_refuses_sends_and_carries_on_with_what_it_has(tmp_path: Path) -> None:
    async with (
        running_gateway(tmp_path, ack_timeout_s=1.0) as gateway,
        opened_store(f"unix://{find_socket(gateway.data_dir)}", deadline_s=20.0) as store,
    ):
        here, away = await gateway.register(), await gateway.register()
        waiting = await gateway.send(away["token"], data={"n": "1"})
        expiring = await gateway.send(away["token"], data={"n": "2"}, ttl=f"{TTL_S}s")
        async with connected(gateway.devices, here["credential"]) as device:
            sent = await gateway.send(here["token"], data={"n": "3"})
            assert await device.messages() == [sent]
            await ask(store, "CONFIG", "SET", "maxmemory", 1)

            one = {"token": here["token"], "data": {"n": "4"}}
            assert FULL in await refusal(gateway, "/messages:send", {"message": one})
            assert FULL in await refusal(gateway, "/messages:sendBatch", {"messages": [one, one]})
            assert FULL in await refusal(gateway, "/devices", {"platform": "test"})

            await device.ack(sent)
            await until_state(gateway, sent, "delivered")
        async with connected(gateway.devices, away["credential"]) as device:
            assert (await device.messages())[0] == waiting
            await device.ack(waiting)
            await until_state(gateway, waiting, "delivered")
            assert "expired" in events_of(await until_state(gateway, expiring, "expired"))

        assert "evicted_keys:0\r\n" in await ask(store, "INFO", "stats")
        await ask(store, "CONFIG", "SET", "maxmemory", 0)
        async with connected(gateway.devices, here["credential"]) as device:
            again = await gateway.send(here["token"], data={"n": "5"})
            async with asyncio.timeout(20):
                assert await device.messages() == [again], "a refused one was stored"
