"""The Valkey in memory and a real one are given the same, and must answer the same."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hiredis import ReplyError
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.context import SOUND
from tests.simulation.play import play
from tests.support.small_valkey.server import SmallValkey
from tests.support.valkey import opened_store, running_server

Command = list[bytes]
_RUNS = 3
"""Runs of the simulation that are played again on a real server."""
_AT_ONCE = 500
_UNORDERED = {b"FCALL", b"SMEMBERS", b"HGETALL"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_server("--appendonly", "no") as server:
        yield server.url


# Commands.

keys = st.sampled_from([b"k1", b"k2"])
words = st.sampled_from([b"a", b"b", b"c", b"d"])
numbers = st.integers(-3, 6).map(lambda number: b"%d" % number)
bounds = st.one_of(
    st.integers(0, 5).map(lambda number: b"%d" % number),
    st.integers(0, 5).map(lambda number: b"(%d" % number),
    st.sampled_from([b"-inf", b"+inf"]),
)
identifiers = st.integers(1, 5).map(lambda number: b"%d-0" % number)


def command(*parts: Any) -> st.SearchStrategy[Command]:
    """Make a command of words and of strategies for them."""
    made = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*made).map(list)


def of(prefix: bytes, *commands: st.SearchStrategy[Command]) -> st.SearchStrategy[Command]:
    """Have commands of one kind of value use keys of their own."""
    return st.one_of(*commands).map(
        lambda made: [prefix + part if part in {b"k1", b"k2"} else part for part in made]
    )


HASHES = of(
    b"h",
    command(b"HSET", keys, words, numbers, words, numbers),
    command(b"HSETNX", keys, words, numbers),
    command(b"HGET", keys, words),
    command(b"HMGET", keys, words, words),
    command(b"HDEL", keys, words, words),
    command(b"HEXISTS", keys, words),
    command(b"HINCRBY", keys, words, numbers),
    command(b"HLEN", keys),
    command(b"HGETALL", keys),
)
SETS = of(
    b"s",
    command(b"SADD", keys, words, words),
    command(b"SREM", keys, words, words),
    command(b"SCARD", keys),
    command(b"SISMEMBER", keys, words),
)
STRINGS = of(
    b"t",
    command(b"SET", keys, words),
    command(b"SET", keys, words, b"NX"),
    command(b"SET", keys, words, b"PX", b"100000"),
    command(b"SET", keys, words, b"KEEPTTL"),
    command(b"GET", keys),
    command(b"EXISTS", keys, keys),
    command(b"DEL", keys, keys),
    command(b"PEXPIRE", keys, st.sampled_from([b"0", b"-1", b"100000"])),
)
LISTS = of(
    b"l",
    command(b"RPUSH", keys, words, words),
    command(b"LRANGE", keys, numbers, numbers),
    command(b"LTRIM", keys, numbers, numbers),
    command(b"LLEN", keys),
)
SORTED_SETS = of(
    b"z",
    command(b"ZADD", keys, numbers, words, numbers, words),
    command(b"ZADD", keys, st.sampled_from([b"NX", b"LT", b"GT"]), numbers, words),
    command(b"ZADD", keys, b"XX", b"GT", numbers, words),
    command(b"ZREM", keys, words, words),
    command(b"ZPOPMIN", keys),
    command(b"ZSCORE", keys, words),
    command(b"ZCARD", keys),
    command(b"ZCOUNT", keys, bounds, bounds),
    command(b"ZRANGE", keys, numbers, numbers, b"WITHSCORES"),
    command(b"ZRANGE", keys, bounds, bounds, b"BYSCORE", b"LIMIT", b"0", numbers),
    command(b"ZRANGE", keys, bounds, bounds, b"BYSCORE", b"WITHSCORES"),
    command(b"ZREMRANGEBYSCORE", keys, bounds, bounds),
    command(b"ZREMRANGEBYRANK", keys, numbers, numbers),
)
STREAMS = of(
    b"x",
    command(b"XADD", keys, identifiers, b"f", words),
    command(b"XADD", keys, b"NOMKSTREAM", identifiers, b"f", words),
    command(b"XADD", keys, b"MAXLEN", b"2", identifiers, b"f", words),
    command(b"XADD", keys, b"MINID", identifiers, identifiers, b"f", words),
    command(b"XLEN", keys),
    command(b"XDEL", keys, identifiers),
    command(b"XTRIM", keys, b"MINID", identifiers),
    command(b"XTRIM", keys, b"MAXLEN", b"2"),
    command(b"XRANGE", keys, st.sampled_from([b"-", b"2", b"(2-0"]), b"+", b"COUNT", b"2"),
    command(b"XREVRANGE", keys, b"+", b"-", b"COUNT", b"1"),
    command(b"XREAD", b"COUNT", b"2", b"STREAMS", keys, identifiers),
    command(b"XGROUP", b"CREATE", keys, words, st.sampled_from([b"0", b"$"]), b"MKSTREAM"),
    command(b"XGROUP", b"SETID", keys, words, identifiers),
    command(b"XGROUP", b"DESTROY", keys, words),
)
COMMANDS = st.one_of(HASHES, SETS, STRINGS, LISTS, SORTED_SETS, STREAMS)


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
@given(made=st.lists(COMMANDS, min_size=1, max_size=60))
def test_commands_are_answered_alike(url: str, made: list[Command]) -> None:
    with asyncio.Runner() as runner:
        real = runner.run(_ask(url, [[b"FLUSHDB"], *made]))[1:]
    small = SmallValkey(lambda: 1_800_000_000_000_000)
    for one, expected in zip(made, real, strict=True):
        assert _alike(small.execute(one)) == _alike(expected), one


async def _ask(url: str, commands: list[Command]) -> list[object]:
    async with opened_store(url, deadline_s=20) as store:
        replies = [store.batch.call(*one) for one in commands]
        done = await asyncio.gather(*replies, return_exceptions=True)
        return [_refused(reply) for reply in done]


def _refused(reply: object) -> object:
    return ReplyError(str(reply)) if isinstance(reply, Exception) else reply


def _alike(reply: object) -> object:
    if isinstance(reply, bytes) and reply.startswith(b"[{"):
        return json.loads(reply)  # Lua writes the names of an object in no order
    return "refused" if isinstance(reply, ReplyError) else reply


# Whole runs.


class Step(NamedTuple):
    """One command of a run."""

    now_us: int
    expired: list[bytes]
    """Keys whose end was found to have come."""
    command: Command
    reply: object


def record(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Note all that the first server of a run is given: another one comes with a failover."""
    steps: list[Step] = []
    execute = SmallValkey.execute
    first: list[SmallValkey] = []

    def noted(server: SmallValkey, args: Command) -> object:
        first.append(server)
        if server is not first[0] or args[0] in {b"PING", b"FUNCTION"}:
            return execute(server, args)
        place, before = len(steps), server.keys.on_expired
        expired: list[bytes] = []
        server.keys.on_expired = expired.append
        steps.append(Step(server.keys.now_us(), expired, list(args), None))
        reply = execute(server, args)
        steps[place] = steps[place]._replace(reply=reply)
        server.keys.on_expired = before
        return reply

    monkeypatch.setattr(SmallValkey, "execute", noted)
    return steps


def by_a_clock_in_a_key(code: str) -> str:
    """Have the functions read the time from a key, which the test sets."""
    code = code.replace("'~'", "'='").replace("call('TIME')", "call('HMGET', 'clock', 's', 'u')")
    return code.replace(
        "call('XADD', outbox, '*'", "call('XADD', outbox, call('HGET', 'clock', 'id')"
    )


def again(step: Step) -> list[Command]:
    """Give what has a real server do the same, though its own time does not pass."""
    seconds, micros = divmod(step.now_us, 1_000_000)
    identifier = b"%d-*" % (step.now_us // 1000)
    clock = [b"HSET", b"clock", b"s", b"%d" % seconds, b"u", b"%d" % micros, b"id", identifier]
    plain = {b"*": identifier, b"~": b"="}
    streams = step.command[0] in {b"XADD", b"XTRIM"}
    command = [plain.get(part, part) if streams else part for part in step.command]
    if b"BLOCK" in command:
        at = command.index(b"BLOCK")
        del command[at : at + 2]
    return [clock, *([b"DEL", key] for key in step.expired), command]


@pytest.mark.slow
@pytest.mark.xdist_group("processes")
def test_whole_runs_are_answered_alike(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = 0
    for seed in range(100):
        with monkeypatch.context() as patch:
            steps = record(patch)
            reached = play(seed).reached
        if "clock_steps" in reached:
            continue  # a real server's clock cannot be set
        played += 1
        with asyncio.Runner() as runner:
            runner.run(_play_again(url, steps))
        if played == _RUNS:
            return
    pytest.fail("nothing was played")


async def _play_again(url: str, steps: list[Step]) -> None:
    async with opened_store(url, deadline_s=60) as store:
        await store.batch.call("FLUSHALL")
        code = by_a_clock_in_a_key(SOUND.functions.code)
        await store.batch.call("FUNCTION", "LOAD", "REPLACE", code)
        for first in range(0, len(steps), _AT_ONCE):
            some = steps[first : first + _AT_ONCE]
            asked = [[store.batch.call(*one) for one in again(step)] for step in some]
            for step, replies in zip(some, asked, strict=True):
                done = await asyncio.gather(*replies, return_exceptions=True)
                expected = _comparable(step.command, _refused(done[-1]))
                assert _comparable(step.command, step.reply) == expected, step.command


def _comparable(command: Command, reply: object) -> object:
    """Leave out what a server tells besides, and orders that mean nothing."""
    if command[0] == b"XINFO" and isinstance(reply, list):
        return [
            dict(zip(group[::2], group[1::2], strict=True))[b"last-delivered-id"] for group in reply
        ]
    return _in_no_order(reply) if command[0] in _UNORDERED else _alike(reply)


def _in_no_order(reply: object) -> object:
    """Hashes and sets have no order, and functions give them on."""
    if not isinstance(reply, list):
        return _alike(reply)
    return sorted((_in_no_order(one) for one in reply), key=repr)
