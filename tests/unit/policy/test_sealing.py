"""Sealing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.policy.sealing import KEY_BYTES, NONCE_BYTES, Keyring, SealError, key_id, sealed_with

OLD, NEW = b"o" * KEY_BYTES, b"n" * KEY_BYTES
NONCE = b"nonce-of-12-"
SECRET = b'{"key":"-----BEGIN PRIVATE KEY-----"}'
OURS = "shop|apns"


@given(plain=st.binary(max_size=4096), nonce=st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_what_is_sealed_opens_and_shows_nothing(plain: bytes, nonce: bytes) -> None:
    sealed = Keyring([NEW]).seal(plain, OURS, nonce)
    assert Keyring([NEW]).open(sealed, OURS) == plain
    assert len(plain) < 8 or plain not in sealed[len(key_id(NEW)) + 1 + NONCE_BYTES :]


def test_the_first_key_seals_and_all_open() -> None:
    before = Keyring([OLD]).seal(SECRET, OURS, NONCE)
    both = Keyring([NEW, OLD])
    after = both.seal(SECRET, OURS, NONCE)
    assert both.open(before, OURS) == both.open(after, OURS) == SECRET
    assert (sealed_with(before), sealed_with(after)) == (key_id(OLD), key_id(NEW))
    assert both.is_newest(after)
    assert not both.is_newest(before)


def test_a_key_that_is_not_here_is_named_by_its_id() -> None:
    sealed = Keyring([OLD]).seal(SECRET, OURS, NONCE)
    with pytest.raises(SealError, match=f"the key {key_id(OLD)}, which is not here"):
        Keyring([NEW]).open(sealed, OURS)


@pytest.mark.parametrize("context", ["shop|fcm", "shop2|apns", ""])
def test_a_text_in_the_place_of_another_does_not_open(context: str) -> None:
    keys = Keyring([NEW])
    with pytest.raises(SealError, match="changed"):
        keys.open(keys.seal(SECRET, OURS, NONCE), context)


def test_a_changed_text_does_not_open_wherever_it_was_changed() -> None:
    keys = Keyring([NEW])
    sealed = keys.seal(SECRET, OURS, NONCE)
    for at in range(len(sealed)):
        broken = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(SealError):
            keys.open(broken, OURS)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            keys.open(sealed[:length], OURS)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_in_words(junk: bytes) -> None:
    with pytest.raises(SealError):
        Keyring([NEW]).open(junk, OURS)


def test_without_keys_nothing_is_sealed() -> None:
    none = Keyring([])
    assert not none
    with pytest.raises(SealError, match="no key"):
        none.seal(SECRET, OURS, NONCE)


def test_nonces_and_keys_have_their_length() -> None:
    with pytest.raises(ValueError, match="12 random bytes"):
        Keyring([NEW]).seal(SECRET, OURS, b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        Keyring([b"short"])


def test_a_keyring_shows_nothing_of_its_keys() -> None:
    assert repr(Keyring([NEW, OLD])) == "<Keyring of 2>"
    assert OLD.hex()[:8] != key_id(OLD)
