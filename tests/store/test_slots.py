"""Slots of keys and commands, as the specification of the cluster has them."""

import pytest

from router.store.link import pack
from router.store.slots import (
    Range,
    Tags,
    read_ranges,
    read_redirection,
    slot_of,
    slot_of_key,
    slot_of_packed,
)


@pytest.mark.parametrize(
    ("key", "same"),
    [
        ("123456789", 0x31C3),  # the specification's own example
        ("{123456789}:d:device", 0x31C3),
        ("a{123456789}b", 0x31C3),
        ("a{123456789}{b}", 0x31C3),
    ],
)
def test_the_slot_of_a_key_is_that_of_its_hash_tag(key: str, same: int) -> None:
    tags = Tags()
    assert slot_of_key(key, tags) == same
    assert slot_of_key(key, tags) == same  # from memory


def test_an_empty_or_open_tag_is_none() -> None:
    slots = {slot_of_key(key, Tags()) for key in ("{}one", "{}two", "{one", "o{}ne", "o}{ne")}
    assert len(slots) == 5


@pytest.mark.parametrize(
    "args",
    [
        ("GET", "k"),
        ("PTTL", b"k"),
        ("FCALL", "enqueue_0", 1, "k", b"\xff"),
        ("XREAD", "COUNT", 5, "STREAMS", "k", "0-0"),
        ("XGROUP", "CREATE", "k", "group", "$"),
        ("XINFO", "STREAM", "k"),
    ],
)
def test_the_key_of_a_command_is_found(args: tuple[str | bytes | int, ...]) -> None:
    tags = Tags()
    assert slot_of(args, tags) == slot_of_packed(pack(args), tags) == slot_of_key("k", tags)


@pytest.mark.parametrize("name", ["PING", "TIME", "ASKING"])
def test_some_commands_have_no_key(name: str) -> None:
    assert slot_of((name,), Tags()) is None
    assert slot_of_packed(pack((name,)), Tags()) is None


def test_ranges_name_primaries_and_replicas() -> None:
    reply = [
        [0, 9, [b"10.0.0.1", 6379, b"id", []], [b"db", 6380, b"id", [b"ip", b"10.0.0.2"]]],
        [10, 16_383, [None, 6381, b"id", []], [b"?", 6382, b"id", []], [b"", 6383, b"id", []]],
    ]
    assert read_ranges(reply, "asked") == [
        Range(0, 9, ("10.0.0.1", 6379), (("db", 6380),)),
        Range(10, 16_383, ("asked", 6381), (("asked", 6382), ("asked", 6383))),
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("MOVED 3999 10.0.0.1:6381", (3999, ("10.0.0.1", 6381))),
        ("ASK 3999 db.example:6381", (3999, ("db.example", 6381))),
        ("MOVED 1 :6381", (1, ("asked", 6381))),
        ("MOVED 1 2001:db8::1:6381", (1, ("2001:db8::1", 6381))),
    ],
)
def test_a_redirection_is_read(words: str, found: tuple[int, tuple[str, int]]) -> None:
    assert read_redirection(words, "asked") == found
