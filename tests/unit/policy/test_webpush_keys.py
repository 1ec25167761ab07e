"""The cryptography of Web Push, held against the vectors of the RFCs."""

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from router.policy.webpush_keys import (
    KEY_BYTES,
    MAX_BODY_BYTES,
    MAX_PLAIN_BYTES,
    SALT_BYTES,
    SubscriptionKeys,
    encrypted,
    from_base64,
    is_auth,
    is_point,
    key_of,
    new_private_key,
    public_key,
    sealed,
    to_base64,
)
from tests.support.providers.webpush import Browser

# RFC 8291, section 5 and appendix A.
PLAIN = b"When I grow up, I want to be a watermelon"
AUTH = "BTBZMqHH6r4Tts7J_aSIgg"
RECEIVER = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"
RECEIVER_PUBLIC = (
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
)
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SENDER_PUBLIC = (
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
)
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
    "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
    "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)
ENTROPY = from_base64(SALT) + from_base64(SENDER)


def test_the_example_of_rfc_8291() -> None:
    body = encrypted(PLAIN, SubscriptionKeys(p256dh=RECEIVER_PUBLIC, auth=AUTH), ENTROPY)
    assert to_base64(body) == BODY


def test_the_key_pairs_of_rfc_8291() -> None:
    assert public_key(RECEIVER) == RECEIVER_PUBLIC
    assert public_key(SENDER) == SENDER_PUBLIC


def test_the_first_example_of_rfc_8188() -> None:
    salt, secret = (from_base64(x) for x in ("I1BsxtFttlv3u_Oo94xnmw", "yqdlZ-tYemfogSmv7Ws5PQ"))
    assert to_base64(sealed(b"I am the walrus", salt, secret, b"")) == (
        "I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"
    )


@given(st.binary(min_size=1, max_size=MAX_PLAIN_BYTES))
def test_another_library_decrypts_the_same(plain: bytes) -> None:
    body = encrypted(plain, SubscriptionKeys(RECEIVER_PUBLIC, AUTH), ENTROPY)
    read = http_ece.decrypt(
        body, private_key=key_of(RECEIVER), auth_secret=from_base64(AUTH), version="aes128gcm"
    )
    assert read == plain


@given(
    st.binary(max_size=MAX_PLAIN_BYTES),
    st.binary(min_size=SALT_BYTES + KEY_BYTES, max_size=SALT_BYTES + KEY_BYTES),
)
def test_a_browser_reads_what_was_encrypted_for_it(plain: bytes, entropy: bytes) -> None:
    browser = Browser("id", "https://push.example/id", "")
    keys = SubscriptionKeys(**browser.to_json()["keys"])
    body = encrypted(plain, keys, entropy)
    assert browser.decrypt(body) == plain
    assert len(body) <= MAX_BODY_BYTES


@pytest.mark.parametrize("raw", [b"\0" * 32, b"\xff" * 32])
def test_random_bytes_that_are_no_key_are_brought_in(raw: bytes) -> None:
    assert key_of(new_private_key(raw)) is not None
    assert key_of(to_base64(raw)) is None


def test_random_bytes_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match="48"):
        encrypted(PLAIN, SubscriptionKeys(RECEIVER_PUBLIC, AUTH), ENTROPY[:-1])


def test_more_than_one_record_is_refused() -> None:
    with pytest.raises(ValueError, match="3993"):
        encrypted(b"x" * 3994, SubscriptionKeys(RECEIVER_PUBLIC, AUTH), ENTROPY)


def test_keys_of_a_subscription_are_checked() -> None:
    assert is_point(RECEIVER_PUBLIC)
    assert is_point(RECEIVER_PUBLIC.replace("-", "+").replace("_", "/") + "=")
    assert not is_point(RECEIVER_PUBLIC[:-4])
    assert not is_point("B" + "A" * 86)
    compressed = ec.generate_private_key(ec.SECP256R1()).public_key()
    assert not is_point(to_base64(b"\2" + compressed.public_numbers().x.to_bytes(32, "big")))
    assert is_auth(AUTH)
    assert not is_auth(AUTH[:-2])
    assert not is_auth("é" * 22)
    assert not is_auth("$" * 22)
