"""Commands of streams. What the server trims roughly (`~`) is trimmed exactly, which it may be."""

import bisect
from typing import Final

from hiredis import ReplyError

from tests.support.small_valkey.plain import Arguments, Reply
from tests.support.small_valkey.values import ZERO, Id, Keyspace, Stream

_LAST: Final = 2**64 - 1
_NO_KEY: Final = "ERR The XGROUP subcommand requires the key to exist"


def xadd(keys: Keyspace, args: Arguments) -> Reply:
    key, at = args[0], 1
    trim: list[bytes] = []
    only_existing = False
    while True:
        option = args[at].upper()
        if option == b"NOMKSTREAM":
            only_existing = True
            at += 1
        elif option in {b"MAXLEN", b"MINID"}:
            size = 3 if args[at + 1] in {b"~", b"="} else 2
            trim = [option, args[at + size - 1]]
            at += size
        else:
            break
    stream = keys.find(key, Stream)
    if stream is None:
        if only_existing:
            return None
        stream = keys.make(key, Stream)
    identifier = _next(stream, keys.now_ms) if args[at] == b"*" else _id(args[at], 0)
    if identifier <= stream.last:
        raise ReplyError(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item"
        )
    stream.append(identifier, list(args[at + 1 :]))
    if trim:
        _trim(stream, *trim)
    return _name(identifier)


def xlen(keys: Keyspace, args: Arguments) -> Reply:
    return len(keys.find(args[0], Stream) or ())


def xdel(keys: Keyspace, args: Arguments) -> Reply:
    stream = keys.find(args[0], Stream)
    return 0 if stream is None else sum(stream.remove(_id(one, 0)) for one in args[1:])


def xtrim(keys: Keyspace, args: Arguments) -> Reply:
    stream = keys.find(args[0], Stream)
    return 0 if stream is None else _trim(stream, args[1].upper(), args[-1])


def xrange(keys: Keyspace, args: Arguments) -> Reply:
    return _entries(keys, args[0], args[1], args[2], args[3:], backwards=False)


def xrevrange(keys: Keyspace, args: Arguments) -> Reply:
    return _entries(keys, args[0], args[2], args[1], args[3:], backwards=True)


def xread(keys: Keyspace, args: Arguments) -> Reply:
    """Read without waiting; who waits (`BLOCK`) is the connection."""
    options = [option.upper() for option in args]
    at = options.index(b"STREAMS")
    if len(args) != at + 3:
        raise NotImplementedError(args)
    most = int(args[options.index(b"COUNT") + 1]) if b"COUNT" in options[:at] else _LAST
    stream = keys.find(args[at + 1], Stream)
    if stream is None:
        return None
    start = bisect.bisect_right(stream.ids, _id(args[at + 2], 0))
    found = stream.ids[start : start + most]
    return [[args[at + 1], [_entry(stream, one) for one in found]]] if found else None


def xgroup(keys: Keyspace, args: Arguments) -> Reply:
    command, key, group = args[0].upper(), args[1], args[2]
    stream = keys.find(key, Stream)
    if stream is None:
        if command != b"CREATE" or args[-1].upper() != b"MKSTREAM":
            raise ReplyError(_NO_KEY)
        stream = keys.make(key, Stream)
    if command == b"DESTROY":
        return int(stream.groups.pop(group, None) is not None)
    if command == b"CREATE" and group in stream.groups:
        raise ReplyError("BUSYGROUP Consumer Group name already exists")
    if command == b"SETID" and group not in stream.groups:
        raise ReplyError(f"NOGROUP No such consumer group {group!r}")
    if command not in {b"CREATE", b"SETID"}:
        raise NotImplementedError(args)
    stream.groups[group] = stream.last if args[3] == b"$" else _id(args[3], 0)
    return b"OK"


def xinfo(keys: Keyspace, args: Arguments) -> Reply:
    if args[0].upper() != b"GROUPS":
        raise NotImplementedError(args)
    stream = keys.find(args[1], Stream)
    if stream is None:
        raise ReplyError("ERR no such key")
    return [
        [b"name", name, b"last-delivered-id", _name(last)]
        for name, last in sorted(stream.groups.items())
    ]


def _next(stream: Stream, now_ms: int) -> Id:
    time_ms, number = stream.last
    return (now_ms, 0) if now_ms > time_ms else (time_ms, number + 1)


def _trim(stream: Stream, kind: bytes, bound: bytes) -> int:
    if kind == b"MAXLEN":
        return stream.drop_first(max(len(stream) - int(bound), 0))
    return stream.drop_first(bisect.bisect_left(stream.ids, _id(bound, 0)))


def _entries(
    keys: Keyspace, key: bytes, low: bytes, high: bytes, rest: Arguments, *, backwards: bool
) -> Reply:
    stream = keys.find(key, Stream)
    if stream is None:
        return []
    start, stop = 0, len(stream)
    if low != b"-":
        search = bisect.bisect_right if low.startswith(b"(") else bisect.bisect_left
        start = search(stream.ids, _id(low.lstrip(b"("), 0))
    if high != b"+":
        search = bisect.bisect_left if high.startswith(b"(") else bisect.bisect_right
        stop = search(stream.ids, _id(high.lstrip(b"("), _LAST))
    found = stream.ids[start:stop]
    if backwards:
        found.reverse()
    if rest:
        found = found[: int(rest[1])]
    return [_entry(stream, one) for one in found]


def _entry(stream: Stream, identifier: Id) -> list[object]:
    return [_name(identifier), list(stream.fields[identifier])]


def _id(text: bytes, number: int) -> Id:
    if text == b"0":
        return ZERO
    first, _, second = text.partition(b"-")
    return int(first), int(second) if second else number


def _name(identifier: Id) -> bytes:
    return b"%d-%d" % identifier


COMMANDS: Final = {
    b"XADD": xadd,
    b"XLEN": xlen,
    b"XDEL": xdel,
    b"XTRIM": xtrim,
    b"XRANGE": xrange,
    b"XREVRANGE": xrevrange,
    b"XREAD": xread,
    b"XGROUP": xgroup,
    b"XINFO": xinfo,
}
