"""Ids: forms, partitions, and what is refused."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.model import ids

device_ids = st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True).map(ids.DeviceId)
entropy = st.binary(min_size=ids.ENTROPY_BYTES, max_size=ids.ENTROPY_BYTES)
secret_entropy = st.binary(min_size=ids.SECRET_BYTES, max_size=ids.SECRET_BYTES)


@given(device_ids)
def test_a_device_always_falls_into_the_same_known_partition(device: ids.DeviceId) -> None:
    partition = ids.partition_of(device)
    assert partition == ids.partition_of(device)
    assert partition in ids.all_partitions()


def test_there_are_64_partitions_from_00_to_3f() -> None:
    assert len(ids.all_partitions()) == 64
    assert ids.all_partitions()[0] == "00"
    assert ids.all_partitions()[-1] == "3f"


@given(entropy)
def test_a_new_device_id_is_a_valid_one(random: bytes) -> None:
    device = ids.new_device_id(random)
    assert len(device) == 16
    assert ids.parse_device_id(device) == device


@given(st.sampled_from(ids.all_partitions()), st.integers(0, 36**9 - 1), entropy)
def test_a_message_id_names_its_partition(
    partition: ids.Partition, now_ms: int, random: bytes
) -> None:
    message = ids.new_message_id(partition, now_ms, random)
    assert ids.partition_of_message(message) == partition
    assert ids.parse_message_id(message) == message


@given(st.sampled_from(ids.all_partitions()), st.integers(0, 36**9 - 1), entropy)
def test_a_message_id_names_its_kind(partition: ids.Partition, now_ms: int, random: bytes) -> None:
    made = {
        ids.new_message_id(partition, now_ms, random): (False, False),
        ids.new_topic_message_id(partition, now_ms, random): (True, False),
        ids.new_quiet_message_id(partition, now_ms, random): (False, True),
    }
    assert len(made) == 3
    for message, kind in made.items():
        quiet = message[0] in ids.QUIET_DIGITS
        assert (ids.is_topic_message(message), quiet) == kind
        assert ids.partition_of_message(message) == partition
        assert ids.parse_message_id(message) == message


@given(st.integers(0, 36**9 - 2), entropy, entropy)
def test_message_ids_sort_by_their_millisecond(now_ms: int, first: bytes, second: bytes) -> None:
    partition = ids.Partition("07")
    earlier = ids.new_message_id(partition, now_ms, first)
    assert earlier < ids.new_message_id(partition, now_ms + 1, second)


@given(device_ids, entropy, st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True))
def test_a_token_survives_being_written_and_read(
    device: ids.DeviceId, random: bytes, region: str
) -> None:
    token = ids.new_token(region, device, random)
    assert ids.parse_token(str(token)) == token
    assert token.partition == ids.partition_of(device)


@given(device_ids, entropy, st.sampled_from(ids.all_partitions()))
def test_a_token_with_another_partition_than_its_devices_is_refused(
    device: ids.DeviceId, random: bytes, partition: ids.Partition
) -> None:
    token = ids.new_token("local", device, random)
    other = ids.Token(token.region, partition, device, token.nonce)
    assert (ids.parse_token(str(other)) is None) is (partition != token.partition)


@given(device_ids, secret_entropy)
def test_a_credential_survives_being_written_and_read(device: ids.DeviceId, random: bytes) -> None:
    credential = ids.new_credential(device, random)
    assert ids.parse_credential(str(credential)) == credential


@given(device_ids, secret_entropy)
def test_a_credential_is_no_token_and_a_token_no_credential(
    device: ids.DeviceId, random: bytes
) -> None:
    token = ids.new_token("local", device, random[: ids.ENTROPY_BYTES])
    assert ids.parse_credential(str(token)) is None
    assert ids.parse_token(str(ids.new_credential(device, random))) is None


def test_secrets_are_stored_as_their_sha_256() -> None:
    assert ids.secret_hash("abc") == hashlib.sha256(b"abc").hexdigest()


def test_a_secret_is_url_safe_and_32_characters_long() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", ids.new_secret(b"\xff" * ids.SECRET_BYTES))


@given(st.text())
def test_no_text_upsets_the_readers(text: str) -> None:
    for parse in (
        ids.parse_token,
        ids.parse_credential,
        ids.parse_device_id,
        ids.parse_message_id,
        ids.parse_project_id,
    ):
        got = parse(text)
        assert got is None or str(got) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "local.07.short.aaaaaaaaaaaaaaaa",
        "LOCAL.15.aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaa",
        "local.7.aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaa",
        "local.15.aaaaaaaaaaaaaaaa.AAAAAAAAAAAAAAAA",
        "local.15.aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaa\n",
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert ids.parse_token(text) is None


@pytest.mark.parametrize("text", ["a" * 15, "a" * 65, "a" * 15 + ".", "a" * 15 + "é"])
def test_what_is_no_device_id_is_refused(text: str) -> None:
    assert ids.parse_device_id(text) is None


@pytest.mark.parametrize("text", ["demo", "a-1", "a" * 64])
def test_a_project_id_is_taken(text: str) -> None:
    assert ids.parse_project_id(text) == text


@pytest.mark.parametrize("text", ["ab", "1ab", "abc-", "Abc", "a_b", "a" * 65, "_probe"])
def test_what_is_no_project_id_is_refused(text: str) -> None:
    assert ids.parse_project_id(text) is None
