"""What is fixed of a message when it is accepted, whoever it is for: times and frame. Pure."""

from typing import Final, NamedTuple

from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import MessageId
from router.model.message import MAX_PAYLOAD_BYTES, Message
from router.policy.delivery import lifetime
from router.policy.frame import message_frame, payload_bytes
from router.policy.limits import payload_violation, schedule_violation

_MOST_JSON_PER_BYTE: Final = 6
"""A byte of msgpack is at most `\\u0000` in JSON: only large frames need to be measured."""


class Taken(NamedTuple):
    """A message as it is stored; times in epoch milliseconds."""

    frame: bytes
    """The device's frame, encoded here, once."""
    sent_ms: int
    """As the frame says it: when it was accepted, or goes out."""
    send_at_ms: int
    """When it goes out; 0 for at once."""
    expires_ms: int
    """The time of acceptance of a message with a TTL of 0, a scheduled one too."""


def take_in(message: Message, identifier: MessageId, now_ms: int) -> Taken:
    """Fix what is stored of a message that is accepted at `now_ms`.

    Raises:
        PushError: INVALID_ARGUMENT: `send_at` is too far ahead, the payload above 4096 bytes, or a
            text no Unicode.
    """
    if (late := schedule_violation(message.send_at_ms, now_ms)) is not None:
        raise _invalid(late)
    times = lifetime(now_ms, message.ttl_ms, message.send_at_ms)
    try:
        frame = message_frame(message, identifier, times.send_at_ms or now_ms, times.expires_ms)
    except UnicodeEncodeError as error:
        accepted = "text in Unicode; half of a surrogate pair is none"
        raise _invalid(FieldViolation("message", accepted)) from error
    if len(frame) * _MOST_JSON_PER_BYTE > MAX_PAYLOAD_BYTES:
        _check_size(message)
    sent_ms = times.send_at_ms or now_ms
    return Taken(frame, sent_ms, times.send_at_ms, times.expires_ms if message.ttl_ms else now_ms)


def _check_size(message: Message) -> None:
    if (large := payload_violation(payload_bytes(message))) is not None:
        raise _invalid(large)


def _invalid(violation: FieldViolation) -> PushError:
    message = f"{violation.field}: {violation.description}"
    return PushError(ErrorCode.INVALID_ARGUMENT, message, violations=(violation,))
