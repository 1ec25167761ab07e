"""The primary is found by asking Sentinels, and found again when it is another one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import hiredis
import pytest

from router.model.device import Device
from router.model.errors import StoreOutcomeUnknownError, StoreUnavailableError
from router.model.ids import DeviceId, ProjectId
from router.store.connection import StoreOptions
from router.store.link import pack
from router.store.mailbox import Mailboxes
from tests.support.sentinels import SERVICE, Watched, watched_servers
from tests.support.tcp_server import TcpServer
from tests.support.valkey import make_store, opened_store
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watched_servers() as running:
        yield running


async def test_writes_go_on_at_the_replica_that_takes_over(watched: Watched) -> None:
    async with opened_store(watched.url, deadline_s=30) as store:
        info, replica = await store.check()
        assert (info.where, info.replicas) == (watched.servers[0].address, 1)
        assert (replica.where, replica.is_replica) == (watched.servers[1].address, True)
        assert await store.batch.call("SET", "before", "x") == b"OK"
        assert await store.batch.call("WAIT", 1, 5000) == 1
        before = watched.primary()
        before.stop()
        write = store.batch.call("SET", "after", "y")
        await asyncio.to_thread(watched.await_failover, before)
        assert await write == b"OK"
        assert await store.batch.call("GET", "before") == b"x"
        # The functions are there too.
        new = Device(DeviceId("device-after-failover"), ProjectId("demo"), "python")
        assert await Mailboxes(store).register(new, "n" * 16, "h", 1)
        assert (await store.check())[0].where == watched.servers[1].address


async def test_a_primary_that_was_only_paused_is_left_for_good(watched: Watched) -> None:
    async with opened_store(watched.url, deadline_s=30) as store:
        before = watched.primary()
        reader = await store.open_reader("k")
        before.pause()
        try:
            write = store.batch.call("SET", "k", "v")
            await asyncio.to_thread(watched.await_failover, before)
            # The dead connection is not waited for: Sentinel's word ends it, and the readers'.
            assert await write == b"OK"
            await reader.lost
        finally:
            before.resume()
        again = await store.open_reader("k")
        role = await again.request("ROLE")
        assert isinstance(role, list)
        assert role[0] == b"master"
        again.abort()
        assert watched.primary().ask("GET", "k") == "v"


@contextlib.asynccontextmanager
async def forgetful_sentinel(primary: TcpServer) -> AsyncIterator[str]:
    """Play a Sentinel that was cut off before the first failover; give its address."""
    place = [b"127.0.0.1", str(primary.port).encode()]
    replies = {
        b"GET-MASTER-ADDR-BY-NAME": pack(tuple(place)),
        b"MASTER": pack((b"ip", place[0], b"port", place[1], b"config-epoch", b"0")),
        b"REPLICAS": b"*0\r\n",
    }
    left: list[asyncio.Event] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.append(gone := asyncio.Event())
        requests = hiredis.Reader()
        while data := await reader.read(65_536):
            requests.feed(data)
            while (request := requests.gets()) is not False:
                writer.write(replies.get(request[-2:][0], b"+PONG\r\n"))
        writer.close()
        gone.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for gone in left:
            await gone.wait()


async def test_a_sentinel_that_is_behind_is_not_believed(watched: Watched) -> None:
    before = watched.primary()
    after = await asyncio.to_thread(watched.fail_over)
    async with forgetful_sentinel(before) as address:
        url = watched.url.replace("://", f"://{address},")
        async with opened_store(url, deadline_s=30) as store:
            assert (await store.survey())[0].where == after.address
            assert await store.batch.call("SET", "k", "v") == b"OK"
    assert after.ask("GET", "k") == "v"


async def test_a_replica_must_have_it_where_the_options_say_so(watched: Watched) -> None:
    options = StoreOptions(watched.url, replicas=1, deadline_s=1.0)
    async with make_store(options) as store:
        assert await store.batch.call("SET", "k", "v", deadline_s=30) == b"OK"
        watched.other(watched.primary()).pause()
        try:
            with pytest.raises(StoreOutcomeUnknownError):
                await store.batch.call("SET", "k", "w", deadline_s=30)
        finally:
            watched.other(watched.primary()).resume()
    options = StoreOptions(watched.url, fsync=True, replicas=1, deadline_s=5.0)
    async with make_store(options) as store:
        assert await store.batch.call("SET", "k", "x", deadline_s=30) == b"OK"


async def test_what_keeps_the_primary_from_being_found_is_told(watched: Watched) -> None:
    url = watched.url.replace(f"/{SERVICE}", "/other")
    async with make_store(StoreOptions(url, deadline_s=0.5)) as store:
        with pytest.raises(StoreUnavailableError, match=r"other .* No such master with that name"):
            await store.check()
    watched.stop()
    async with make_store(StoreOptions(watched.url, deadline_s=0.5)) as store:
        with pytest.raises(StoreUnavailableError, match=r"push \(by Sentinel .* is away: no Senti"):
            await store.check()
        await eventually(lambda: not store.connected)
