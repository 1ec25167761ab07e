"""Signatures, verified by the official library."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from router.policy.signing import headers, new_secret, secret_violation, sign

BODY = b'{"type":"message.receipts"}'


@given(key=st.binary(min_size=24, max_size=64), body=st.text(max_size=200))
def test_the_official_library_verifies_every_request(key: bytes, body: str) -> None:
    secret = new_secret(key)
    assert secret_violation(secret) is None
    sent = json.dumps({"text": body})
    signed = headers([secret], "msg_1", int(time.time()), sent.encode())
    assert Webhook(secret).verify(sent, signed) == {"text": body}


def test_both_secrets_of_a_rotation_verify() -> None:
    old, new = new_secret(b"o" * 32), new_secret(b"n" * 32)
    signed = headers([new, old], "msg_1", int(time.time()), BODY)
    assert len(signed["webhook-signature"].split()) == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY.decode(), signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret(b"x" * 32)).verify(BODY.decode(), signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_what_is_signed_cannot_be_changed(changed: str) -> None:
    secret = new_secret(b"k" * 32)
    signed = headers([secret], "msg_1", int(time.time()), BODY)
    body = BODY.decode()
    if changed == "body":
        body = body.replace("message", "massage")
    elif changed == "webhook-id":
        signed["webhook-id"] = "msg_2"
    else:
        signed["webhook-timestamp"] = str(int(signed["webhook-timestamp"]) + 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, signed)


def test_the_example_of_the_specification() -> None:
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "secret_" + base64.b64encode(b"k" * 32).decode(),
        "whsec_" + base64.b64encode(b"k" * 23).decode(),
        "whsec_" + base64.b64encode(b"k" * 65).decode(),
        "whsec_" + "!" * 44,
        "whsec_" + "ü" * 44,
    ],
)
def test_a_bad_secret_is_refused(secret: str) -> None:
    violation = secret_violation(secret)
    assert violation is not None
    assert violation.field == "secret"
