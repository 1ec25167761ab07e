"""The slots of a cluster: which one a command is for, and who serves it. Pure."""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from router.store.link import Argument, Reply, fields, unpack

SLOTS: Final = 16_384
_KEYLESS: Final = frozenset({"PING", "TIME", "ASKING"})
_KEY_AT: Final = {"FCALL": 3, "XREAD": -2, "XGROUP": 2, "XINFO": 2}
"""Where the key stands; at 1 in all other commands that Pushwire uses."""


class Range(msgspec.Struct, frozen=True):
    """Slots that one primary serves, and its replicas."""

    first: int
    last: int
    primary: tuple[str, int]
    replicas: tuple[tuple[str, int], ...]


class Tags(dict[str, int]):
    """Slots by hash tag: there are as many as partitions, and they come with every command."""

    def __missing__(self, tag: str) -> int:
        """Work it out, once."""
        slot = self[tag] = crc_hqx(tag.encode(), 0) % SLOTS
        return slot


def slot_of_key(key: str, tags: Tags) -> int:
    """Give the slot of a key: that of its hash tag where it has one.

    https://valkey.io/topics/cluster-spec/#hash-tags
    """
    if key[0] == "{" and (end := key.find("}", 1)) > 1:
        return tags[key[1:end]]
    begin = key.find("{")
    if begin >= 0 and (end := key.find("}", begin + 1)) > begin + 1:
        return crc_hqx(key[begin + 1 : end].encode(), 0) % SLOTS
    return crc_hqx(key.encode(), 0) % SLOTS


def slot_of(args: Sequence[Argument], tags: Tags) -> int | None:
    """Give the slot of a command; None where any node may carry it out."""
    name = cast("str", args[0])
    if name in _KEYLESS:
        return None
    key = args[_KEY_AT.get(name, 1)]
    return slot_of_key(key.decode() if isinstance(key, bytes) else cast("str", key), tags)


def slot_of_packed(packed: bytes, tags: Tags) -> int | None:
    """Give the slot of a command that was written already; for the rare ones that move."""
    # What is no text (a frame) stands behind the key.
    return slot_of([one.decode(errors="replace") for one in unpack(packed)], tags)


def read_ranges(reply: Reply, asked: str) -> list[Range]:
    """Read the answer to CLUSTER SLOTS.

    Args:
        reply: the answer.
        asked: host of the node that gave it, which stands for a host that it does not name.
    """
    found = []
    for entry in fields(reply):
        first, last, primary, *replicas = cast("list[Reply]", entry)
        found.append(
            Range(
                cast("int", first),
                cast("int", last),
                _node(primary, asked),
                tuple(_node(one, asked) for one in replicas),
            )
        )
    return found


def read_redirection(words: str, asked: str) -> tuple[int, tuple[str, int]]:
    """Read `MOVED 3999 10.0.0.1:6381` or `ASK …` as slot and node."""
    _, slot, where = words.split(" ", 2)
    host, _, port = where.rpartition(":")
    return int(slot), (host.strip("[]") or asked, int(port))


def _node(reply: Reply, asked: str) -> tuple[str, int]:
    host, port = fields(reply)[:2]
    # Nil or nothing: the address that was asked; a question mark: it does not know.
    name = host.decode() if isinstance(host, bytes) else ""
    return name if name not in {"", "?"} else asked, cast("int", port)
