"""What a message takes of a call that is made for many: its keys and arguments.

Before: `router.store.mailbox`. After: `lua/enqueue.lua`, `lua/ack.lua`, which take them apart.
"""

from collections.abc import Sequence
from typing import Final

from router.model.ids import DeviceId, kept_as
from router.model.mailbox import Ack, Envelope
from router.store import keys
from router.store.command import Part
from router.store.link import Argument
from router.store.rates import number

_NOTHING, _TERMS, _TERMS_AND_KEY = range(3)
"""What follows the frame."""
_PLAIN: Final[tuple[Argument, ...]] = (_NOTHING,)


def enqueue_part(envelope: Envelope) -> Part:
    """Write one message of `enqueue`."""
    mailbox, index, frames, _, _ = keys.of_device(envelope.device)
    more = _PLAIN
    if not _is_plain(envelope):
        kind = _TERMS_AND_KEY if envelope.idempotency_key else _TERMS
        more = (kind, *terms(envelope))
    return (
        (mailbox, index, frames, keys.message(envelope.message), *idempotency_key(envelope)),
        (
            envelope.message,
            envelope.device,
            envelope.project,
            envelope.nonce,
            envelope.now_ms,
            envelope.expires_ms,
            envelope.collapse_key,
            envelope.frame,
            *more,
        ),
    )


def ack_part(
    device: DeviceId, epoch: int, window: Sequence[Ack], now_ms: int, drops_known: int
) -> Part:
    """Write the acks of one device for `ack`."""
    mailbox, index, frames, _, _ = keys.of_device(device)
    statuses = (keys.message(kept_as(ack.message, device)) for ack in window)
    return (
        (mailbox, index, frames, *statuses),
        (device, epoch, now_ms, drops_known, len(window), *ack_triples(device, window)),
    )


def ack_triples(device: DeviceId, acks: Sequence[Ack]) -> list[Argument]:
    """Write messages with their seqs and when they were sent."""
    return [part for ack in acks for part in (kept_as(ack.message, device), ack.seq, ack.sent_ms)]


def idempotency_key(envelope: Envelope) -> tuple[str, ...]:
    """Give the key that notes a request, where there is one."""
    if not envelope.idempotency_key:
        return ()
    return (keys.idempotency(envelope.partition, envelope.project, envelope.idempotency_key),)


def terms(envelope: Envelope) -> tuple[Argument, ...]:
    """Write what most messages have nothing of."""
    return (
        envelope.idempotency_digest,
        envelope.label,
        number(envelope.rate.per_s),
        number(envelope.rate.burst),
        envelope.bridge,
        envelope.part,
        envelope.unfit,
    )


def _is_plain(envelope: Envelope) -> bool:
    return not (
        envelope.idempotency_key
        or envelope.bridge
        or envelope.rate.per_s
        or envelope.label
        or envelope.unfit
    )
