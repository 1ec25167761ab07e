"""Users and groups: how they are written, and the copies of their messages."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model.audience import Audience, AudienceKind, parse_target
from router.model.ids import (
    ENTROPY_BYTES,
    DeviceId,
    ProjectId,
    is_cast,
    is_topic_message,
    kept_as,
    new_cast_id,
    new_device_id,
    new_message_id,
    new_topic_message_id,
    parse_group,
    parse_message_id,
    partition_of,
    partition_of_message,
    told_as,
)

PROJECT = ProjectId("p-1")
devices = st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True).map(DeviceId)


@given(st.sampled_from(AudienceKind), st.text(min_size=1, max_size=128))
def test_a_target_is_read_as_it_was_written(kind: AudienceKind, name: str) -> None:
    name = name.encode("utf-8", "ignore").decode()
    audience = Audience(kind, name)
    assert "|" not in audience.target()
    assert parse_target(audience.target()) == audience


@pytest.mark.parametrize("text", ["", "abcdefghijklmnop", "/topics/news"])
def test_a_device_or_a_topic_is_no_audience(text: str) -> None:
    assert parse_target(text) is None


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES), devices, st.text(max_size=20))
def test_a_copy_stands_with_its_device_and_is_told_as_its_message(
    entropy: bytes, device: DeviceId, name: str
) -> None:
    name = name.encode("utf-8", "ignore").decode()
    partition = Audience(AudienceKind.USER, name).partition(PROJECT)
    message = new_cast_id(partition, 1_700_000_000_000, entropy)
    assert parse_message_id(message) == message
    assert is_cast(message)
    assert not is_topic_message(message)
    assert partition_of_message(message) == partition
    copy = kept_as(message, device)
    assert told_as(copy) == message
    assert partition_of_message(copy) == partition_of(device)
    assert parse_message_id(copy) is None


def test_other_messages_are_kept_under_their_own_id() -> None:
    device, entropy = new_device_id(os.urandom(10)), os.urandom(10)
    direct = new_message_id(partition_of(device), 1, entropy)
    published = new_topic_message_id(partition_of(device), 1, entropy)
    for message in (direct, published):
        assert kept_as(message, device) == told_as(message) == message
        assert not is_cast(message)


@pytest.mark.parametrize("name", ["", "a b", "a|b", "#", "x" * 129, "a\n"])
def test_a_group_has_a_plain_name(name: str) -> None:
    assert parse_group(name) is None
    assert parse_group("my-group_1.~%") == "my-group_1.~%"
