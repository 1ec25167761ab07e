"""HTTP/2 connections and pools against an APNs that fails in every way: nothing lost or doubled."""

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.bridge import Request, Response
from router.bridging import http2, http2_pool
from router.bridging.http2 import Connection
from router.bridging.http2_pool import MAX_CONNECTIONS, Http2Pool
from router.bridging.transport import (
    SilentError,
    TransportError,
    UnknownError,
    UnreachableError,
    UnsentError,
)
from tests.contract.apple import Apple, opened_apple
from tests.support.providers import faults
from tests.support.waiting import eventually


@pytest.fixture
async def apple(tmp_path: Path) -> AsyncIterator[Apple]:
    async with opened_apple(tmp_path) as made:
        yield made


@pytest.fixture
async def pool(apple: Apple) -> AsyncIterator[Http2Pool]:
    made = Http2Pool(apple.provider.server.url, apple.context, 5.0)
    yield made
    made.close()


async def connect(apple: Apple) -> Connection:
    made = await Connection.open(apple.provider.server.url, apple.context, 5.0, lambda: None)
    await eventually(lambda: made.has_room(1))
    return made


def send(
    connection: Connection, request: Request, timeout_s: float = 10.0
) -> asyncio.Future[Response]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Response] = loop.create_future()
    connection.send(request, answer, timeout_s)
    return answer


async def warmed(apple: Apple) -> Connection:
    """A connection on which a request was authorized, so that many streams are allowed."""
    connection = await connect(apple)
    assert (await send(connection, apple.request(0))).status == 200
    return connection


async def sent_all(pool: Http2Pool, requests: Iterator[Request]) -> list[Response | TransportError]:
    async def one(request: Request) -> Response | TransportError:
        try:
            return await pool.send(request, 10.0)
        except TransportError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one(request)) for request in requests]
    return [task.result() for task in running]


def requests(apple: Apple, count: int) -> Iterator[Request]:
    return (apple.request(number) for number in range(count))


async def test_a_goaway_in_mid_stream_answers_what_was_read_and_no_more(apple: Apple) -> None:
    connection = await warmed(apple)
    apple.provider.faults.then(faults.slow(0.05), faults.GOAWAY_UNREAD)
    read, unread = send(connection, apple.request(1)), send(connection, apple.request(2))
    with pytest.raises(UnsentError, match="Shutdown"):
        await unread
    assert not connection.usable
    assert (await read).status == 200
    assert len(apple.provider.taken) == 2
    await eventually(lambda: connection.closed)


async def test_a_goaway_after_the_request_is_followed_by_its_answer(apple: Apple) -> None:
    connection = await connect(apple)
    apple.provider.faults.then(faults.GOAWAY_READ)
    assert (await send(connection, apple.request())).status == 200
    assert not connection.usable
    assert not connection.has_room(1)


async def test_a_refused_stream_was_not_looked_at(apple: Apple) -> None:
    connection = await connect(apple)
    apple.provider.faults.then(faults.REFUSE)
    with pytest.raises(UnsentError, match="refused"):
        await send(connection, apple.request())
    assert not apple.provider.taken
    assert (await send(connection, apple.request())).status == 200
    connection.close()


@pytest.mark.parametrize(("fault", "taken"), [(faults.CUT_UNREAD, 0), (faults.CUT_READ, 1)])
async def test_a_lost_connection_does_not_tell_what_was_taken(
    apple: Apple, fault: faults.Fault, taken: int
) -> None:
    connection = await connect(apple)
    apple.provider.faults.then(fault)
    with pytest.raises(UnknownError):
        await send(connection, apple.request())
    assert len(apple.provider.taken) == taken
    assert connection.closed


async def test_an_answer_that_does_not_come_is_given_up_while_others_come(apple: Apple) -> None:
    connection = await warmed(apple)
    apple.provider.faults.then(faults.NEVER)
    silent, other = send(connection, apple.request(1), 0.0), send(connection, apple.request(2))
    assert (await other).status == 200
    connection.tick()
    with pytest.raises(SilentError):
        await silent
    assert connection.under_way == 0
    assert (await send(connection, apple.request(3))).status == 200
    connection.close()


async def test_a_peer_that_answers_no_ping_is_dead(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await warmed(apple)
    monkeypatch.setattr(http2, "PING_S", 0.0)
    monkeypatch.setattr(http2, "PONG_S", 0.0)
    apple.provider.faults.then(faults.NEVER)
    silent = send(connection, apple.request(1))
    connection.tick()
    connection.tick()
    with pytest.raises(UnknownError, match="ping"):
        await silent
    assert connection.closed


def pinged_since(apple: Apple, before: int) -> bool:
    return apple.provider.server.pings > before


async def test_a_quiet_peer_that_answers_pings_is_kept(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await warmed(apple)
    monkeypatch.setattr(http2, "PING_S", 0.0)
    apple.provider.faults.then(faults.NEVER)
    silent = send(connection, apple.request(1))
    for _ in range(3):
        before = apple.provider.server.pings
        connection.tick()
        await eventually(functools.partial(pinged_since, apple, before))
        await eventually(lambda: not connection._pinged_s)
    assert connection.usable
    connection.close()
    with pytest.raises(UnknownError):
        await silent


async def test_an_old_connection_takes_no_more_and_ends_when_all_is_answered(
    apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await warmed(apple)
    apple.provider.faults.then(faults.slow(0.05))
    last = send(connection, apple.request(1))
    monkeypatch.setattr(http2, "MAX_AGE_S", 0.0)
    connection.tick()
    assert not connection.has_room(1)
    assert (await last).status == 200
    await eventually(lambda: connection.closed)


@pytest.mark.slow
async def test_a_thousand_requests_go_over_a_handful_of_connections(
    apple: Apple, pool: Http2Pool
) -> None:
    answers = await sent_all(pool, requests(apple, 1000))
    assert {answer.status for answer in answers if isinstance(answer, Response)} == {200}
    assert apple.provider.ids.total() == len(apple.provider.ids) == 1000
    assert apple.provider.server.opened <= MAX_CONNECTIONS


async def test_few_streams_are_kept_to(apple: Apple, pool: Http2Pool) -> None:
    apple.provider.server.max_streams = 3
    answers = await sent_all(pool, requests(apple, 40))
    assert {answer.status for answer in answers if isinstance(answer, Response)} == {200}
    assert apple.provider.server.most_streams <= 3
    assert apple.provider.server.opened <= MAX_CONNECTIONS


@pytest.mark.slow
@pytest.mark.parametrize("fault", [faults.GOAWAY_UNREAD, faults.GOAWAY_READ, faults.REFUSE])
async def test_what_was_not_looked_at_is_sent_again_and_nothing_twice(
    apple: Apple, pool: Http2Pool, fault: faults.Fault
) -> None:
    apple.provider.faults.then(*[None] * 100, fault, *[None] * 100, fault)
    answers = await sent_all(pool, requests(apple, 300))
    assert [answer for answer in answers if not isinstance(answer, Response)] == []
    assert set(apple.provider.ids.values()) == {1}
    assert len(apple.provider.ids) == 300


@pytest.mark.slow
@pytest.mark.parametrize("fault", [faults.CUT_READ, faults.CUT_UNREAD])
async def test_after_a_reset_each_request_was_answered_or_is_of_unknown_outcome(
    apple: Apple, pool: Http2Pool, fault: faults.Fault
) -> None:
    apple.provider.faults.then(*[None] * 50, fault)
    answers = await sent_all(pool, requests(apple, 300))
    unknown = [answer for answer in answers if isinstance(answer, UnknownError)]
    answered = [answer for answer in answers if isinstance(answer, Response)]
    assert len(unknown) + len(answered) == 300
    assert unknown
    assert set(apple.provider.ids.values()) == {1}
    assert len(answered) <= len(apple.provider.ids)


async def test_a_stream_that_stays_refused_is_given_back(apple: Apple, pool: Http2Pool) -> None:
    apple.provider.faults.always = faults.REFUSE
    with pytest.raises(UnsentError, match="refused"):
        await pool.send(apple.request(), 10.0)
    assert not apple.provider.taken


async def test_nobody_listening_is_told_at_once(apple: Apple) -> None:
    pool = Http2Pool("https://127.0.0.1:1", apple.context, 5.0)
    answers = await sent_all(pool, requests(apple, 3))
    assert {type(answer) for answer in answers} == {UnreachableError}
    assert pool.is_idle


async def test_a_request_that_finds_no_stream_in_time_was_not_sent(
    apple: Apple, pool: Http2Pool
) -> None:
    apple.provider.server.max_streams = 1
    apple.provider.faults.always = faults.NEVER
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(one_error(pool, apple.request(number))) for number in range(10)]
        await eventually(lambda: len(apple.provider.taken) == MAX_CONNECTIONS)
        await asyncio.sleep(0)
        while not all(task.done() for task in sent):
            pool.tick()
            await asyncio.sleep(0.05)
    errors = [type(task.result()) for task in sent]
    assert errors.count(SilentError) >= MAX_CONNECTIONS
    assert len(apple.provider.taken) == errors.count(SilentError)


async def one_error(pool: Http2Pool, request: Request) -> TransportError | None:
    try:
        await pool.send(request, 0.3)
    except TransportError as error:
        return error
    return None


async def test_a_cancelled_request_gives_its_stream_back(apple: Apple, pool: Http2Pool) -> None:
    apple.provider.faults.then(faults.NEVER)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pool.send(apple.request(1), 10.0)
    pool.tick()
    assert pool.under_way == 0
    assert (await pool.send(apple.request(2), 10.0)).status == 200


async def test_idle_connections_are_closed(
    apple: Apple, pool: Http2Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await pool.send(apple.request(), 10.0)).status == 200
    pool.tick()
    assert pool.connections == 1
    monkeypatch.setattr(http2_pool, "IDLE_S", 0.0)
    pool.tick()
    await eventually(lambda: not apple.provider.server.connections)

    def forgotten() -> bool:
        pool.tick()
        return pool.is_idle

    await eventually(forgotten)
