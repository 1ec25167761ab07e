"""Commands of sorted sets."""

import bisect
from collections.abc import Sequence
from typing import Final

from tests.support.small_valkey.plain import Arguments, Reply, span
from tests.support.small_valkey.values import Keyspace, SortedSet

_HIGHEST: Final = b"\xff" * 64
_OPTIONS: Final = {b"NX", b"XX", b"LT", b"GT", b"CH"}


def zadd(keys: Keyspace, args: Arguments) -> Reply:
    at = 1
    options: set[bytes] = set()
    while (option := args[at].upper()) in _OPTIONS:
        options.add(option)
        at += 1
    found = keys.make(args[0], SortedSet)
    added = changed = 0
    for place in range(at, len(args), 2):
        score, member = float(args[place]), args[place + 1]
        before = found.scores.get(member)
        if before is None:
            if b"XX" not in options:
                found.put(member, score)
                added += 1
        elif (
            b"NX" in options
            or (b"LT" in options and score >= before)
            or (b"GT" in options and score <= before)
        ):
            continue
        elif before != score:
            found.put(member, score)
            changed += 1
    keys.tidy(args[0])
    return added + changed if b"CH" in options else added


def zrem(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    if found is None:
        return 0
    gone = sum(found.remove(member) for member in args[1:])
    keys.tidy(args[0])
    return gone


def zpopmin(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    if found is None:
        return []
    score, member = found.order[0]
    found.remove(member)
    keys.tidy(args[0])
    return [member, written(score)]


def zscore(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    score = None if found is None else found.scores.get(args[1])
    return None if score is None else written(score)


def zcard(keys: Keyspace, args: Arguments) -> Reply:
    return len(keys.find(args[0], SortedSet) or ())


def zcount(keys: Keyspace, args: Arguments) -> Reply:
    return len(_by_score(keys.find(args[0], SortedSet), args[1], args[2]))


def zrange(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    options = [option.upper() for option in args[3:]]
    limit: tuple[int, int] | None = None
    if b"LIMIT" in options:
        at = options.index(b"LIMIT")
        limit = (int(options[at + 1]), int(options[at + 2]))
        del options[at : at + 3]
    if not {b"BYSCORE", b"WITHSCORES"}.issuperset(options):
        raise NotImplementedError(args)
    if b"BYSCORE" in options:
        chosen = _by_score(found, args[1], args[2])
    else:
        order = [] if found is None else found.order
        chosen = order[span(args[1], args[2], len(order))]
    if limit is not None:
        skipped, most = limit
        chosen = chosen[skipped:] if most < 0 else chosen[skipped : skipped + most]
    if b"WITHSCORES" in options:
        return [part for score, member in chosen for part in (member, written(score))]
    return [member for _, member in chosen]


def zremrangebyscore(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    return _remove(keys, args[0], _by_score(found, args[1], args[2]))


def zremrangebyrank(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], SortedSet)
    order = [] if found is None else found.order
    return _remove(keys, args[0], order[span(args[1], args[2], len(order))])


def _remove(keys: Keyspace, key: bytes, chosen: Sequence[tuple[float, bytes]]) -> int:
    found = keys.find(key, SortedSet)
    if found is not None:
        for _, member in chosen:
            found.remove(member)
        keys.tidy(key)
    return len(chosen)


def _by_score(found: SortedSet | None, low: bytes, high: bytes) -> list[tuple[float, bytes]]:
    if found is None:
        return []
    if low.startswith(b"("):
        start = bisect.bisect_right(found.order, (float(low[1:]), _HIGHEST))
    else:
        start = bisect.bisect_left(found.order, (float(low), b""))
    if high.startswith(b"("):
        stop = bisect.bisect_left(found.order, (float(high[1:]), b""))
    else:
        stop = bisect.bisect_right(found.order, (float(high), _HIGHEST))
    return found.order[start:stop]


def written(score: float) -> bytes:
    """Write a score as the server does."""
    return b"%d" % score if score == int(score) else repr(score).encode()


COMMANDS: Final = {
    b"ZADD": zadd,
    b"ZREM": zrem,
    b"ZPOPMIN": zpopmin,
    b"ZSCORE": zscore,
    b"ZCARD": zcard,
    b"ZCOUNT": zcount,
    b"ZRANGE": zrange,
    b"ZREMRANGEBYSCORE": zremrangebyscore,
    b"ZREMRANGEBYRANK": zremrangebyrank,
}
