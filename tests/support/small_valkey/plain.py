"""Commands of keys, strings, hashes, sets, lists."""

from collections.abc import Sequence
from typing import Final

from hiredis import ReplyError

from tests.support.small_valkey.values import Hash, Keyspace, Many, Members, Row, Text

Arguments = Sequence[bytes]
Reply = object


def ping(_keys: Keyspace, _args: Arguments) -> Reply:
    return b"PONG"


def time(keys: Keyspace, _args: Arguments) -> Reply:
    seconds, micros = divmod(keys.now_us(), 1_000_000)
    return [b"%d" % seconds, b"%d" % micros]


def delete(keys: Keyspace, args: Arguments) -> Reply:
    return sum(keys.peek(key) is not None and keys.drop(key) for key in args)


def exists(keys: Keyspace, args: Arguments) -> Reply:
    return sum(keys.peek(key) is not None for key in args)


def pexpire(keys: Keyspace, args: Arguments) -> Reply:
    key, ttl_ms = args[0], _whole(args[1])
    if len(args) > 2:
        raise NotImplementedError(args)
    if keys.peek(key) is None:
        return 0
    if ttl_ms <= 0:
        keys.drop(key)
    else:
        keys.ends_ms[key] = keys.now_ms + ttl_ms
    return 1


def pttl(keys: Keyspace, args: Arguments) -> Reply:
    if keys.peek(args[0]) is None:
        return -2
    end_ms = keys.ends_ms.get(args[0])
    return -1 if end_ms is None else end_ms - keys.now_ms


def get(keys: Keyspace, args: Arguments) -> Reply:
    value = keys.find(args[0], Text)
    return None if value is None else bytes(value)


def set_(keys: Keyspace, args: Arguments) -> Reply:
    key, value = args[0], args[1]
    options = [option.upper() for option in args[2:]]
    ttl_ms = 0
    if b"PX" in options:
        ttl_ms = _whole(args[2 + options.index(b"PX") + 1])
    known = {b"NX", b"PX", b"KEEPTTL", b"%d" % ttl_ms}
    if not known.issuperset(options):
        raise NotImplementedError(args)
    if b"NX" in options and keys.peek(key) is not None:
        return None
    keys.peek(key)
    keys.values[key] = Text(value)
    if ttl_ms:
        keys.ends_ms[key] = keys.now_ms + ttl_ms
    elif b"KEEPTTL" not in options:
        keys.ends_ms.pop(key, None)
    return b"OK"


def incr(keys: Keyspace, args: Arguments) -> Reply:
    value = _whole(keys.find(args[0], Text) or b"0") + 1
    keys.values[args[0]] = Text(b"%d" % value)
    return value


# Hashes.


def hset(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.make(args[0], Hash)
    before = len(found)
    for at in range(1, len(args), 2):
        found[args[at]] = args[at + 1]
    return len(found) - before


def hsetnx(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.make(args[0], Hash)
    if args[1] in found:
        return 0
    found[args[1]] = args[2]
    return 1


def hget(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Hash)
    return None if found is None else found.get(args[1])


def hmget(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Hash)
    return [None if found is None else found.get(field) for field in args[1:]]


def hgetall(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Hash)
    return [] if found is None else [part for pair in found.items() for part in pair]


def hdel(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Hash)
    if found is None:
        return 0
    gone = sum(found.pop(field, None) is not None for field in args[1:])
    keys.tidy(args[0])
    return gone


def hexists(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Hash)
    return int(found is not None and args[1] in found)


def hlen(keys: Keyspace, args: Arguments) -> Reply:
    return len(keys.find(args[0], Hash) or ())


def hincrby(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.make(args[0], Hash)
    value = _whole(found.get(args[1], b"0")) + _whole(args[2])
    found[args[1]] = b"%d" % value
    return value


# Sets and HyperLogLogs.


def sadd(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.make(args[0], Members)
    before = len(found)
    found.update(dict.fromkeys(args[1:]))
    return len(found) - before


def srem(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Members)
    if found is None:
        return 0
    before = len(found)
    for member in args[1:]:
        found.pop(member, None)
    gone = before - len(found)
    keys.tidy(args[0])
    return gone


def smembers(keys: Keyspace, args: Arguments) -> Reply:
    return list(keys.find(args[0], Members) or ())


def scard(keys: Keyspace, args: Arguments) -> Reply:
    return len(keys.find(args[0], Members) or ())


def sismember(keys: Keyspace, args: Arguments) -> Reply:
    return int(args[1] in (keys.find(args[0], Members) or ()))


def pfadd(keys: Keyspace, args: Arguments) -> Reply:
    new = keys.peek(args[0]) is None
    found = keys.make(args[0], Many)
    before = len(found)
    found.update(args[1:])
    return int(new or len(found) > before)


def pfcount(keys: Keyspace, args: Arguments) -> Reply:
    return len(set().union(*(keys.find(key, Many) or () for key in args)))


# Lists.


def rpush(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.make(args[0], Row)
    found.extend(args[1:])
    return len(found)


def llen(keys: Keyspace, args: Arguments) -> Reply:
    return len(keys.find(args[0], Row) or ())


def lrange(keys: Keyspace, args: Arguments) -> Reply:
    found = keys.find(args[0], Row) or Row()
    return found[span(args[1], args[2], len(found))]


def ltrim(keys: Keyspace, args: Arguments) -> Reply:
    if (found := keys.find(args[0], Row)) is not None:
        found[:] = found[span(args[1], args[2], len(found))]
        keys.tidy(args[0])
    return b"OK"


def span(first: bytes, last: bytes, length: int) -> slice:
    """Read two indexes, of which negative ones count from the end, and the last is included."""
    start, stop = _whole(first), _whole(last)
    start = max(start + length, 0) if start < 0 else start
    stop = stop + length if stop < 0 else stop
    return slice(start, max(stop + 1, 0))


def _whole(text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise ReplyError("ERR value is not an integer or out of range") from None


COMMANDS: Final = {
    b"PING": ping,
    b"TIME": time,
    b"DEL": delete,
    b"UNLINK": delete,
    b"EXISTS": exists,
    b"PEXPIRE": pexpire,
    b"PTTL": pttl,
    b"GET": get,
    b"SET": set_,
    b"INCR": incr,
    b"HSET": hset,
    b"HSETNX": hsetnx,
    b"HGET": hget,
    b"HMGET": hmget,
    b"HGETALL": hgetall,
    b"HDEL": hdel,
    b"HEXISTS": hexists,
    b"HLEN": hlen,
    b"HINCRBY": hincrby,
    b"SADD": sadd,
    b"SREM": srem,
    b"SMEMBERS": smembers,
    b"SCARD": scard,
    b"SISMEMBER": sismember,
    b"PFADD": pfadd,
    b"PFCOUNT": pfcount,
    b"RPUSH": rpush,
    b"LLEN": llen,
    b"LRANGE": lrange,
    b"LTRIM": ltrim,
}
