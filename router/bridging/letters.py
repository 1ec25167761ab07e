"""Dead letters of bridges: pushes that were given up, kept with their history.

They stand beside the dead letters of callbacks, as those of an endpoint `br_<project>_<bridge>`.
"""

import base64
import hashlib
from typing import Final

import msgspec

from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.webhook import Attempt, DeadLetter
from router.store.bridge_jobs import Job, Lane

PREFIX: Final = "br_"
KIND: Final = "bridge.push"
_ID_BYTES: Final = 10

EXHAUSTED: Final = "exhausted"
EXPIRED: Final = "expired"
REJECTED: Final = "rejected"


class PushBody(msgspec.Struct, frozen=True):
    """What a dead letter holds of a push; `frame` and `part` as the store had them."""

    message_id: MessageId
    kept: str
    device_id: DeviceId
    bridge: str
    frame: bytes
    part: bytes


_body = msgspec.json.Decoder(PushBody)


def endpoint_of(project: ProjectId, bridge: str) -> str:
    """Name what stands for a project's bridge in the place of a webhook."""
    return f"{PREFIX}{project}_{bridge}"


def letter_of(lane: Lane, job: Job, reason: str, error: str, now_ms: int) -> DeadLetter:
    """Make the dead letter of a push.

    Args:
        lane: project and bridge.
        job: the push; its letter has the same id however often it is made.
        reason: exhausted, expired or rejected.
        error: what the last attempt came to.
        now_ms: when it was given up.
    """
    endpoint = endpoint_of(lane.project, lane.bridge)
    digest = hashlib.sha256(f"{endpoint}|{job.kept}".encode()).digest()[:_ID_BYTES]
    history = [Attempt(one.time, 0, one.reason) for one in job.history]
    body = PushBody(job.message, job.kept, job.device, lane.bridge, job.frame, job.part)
    return DeadLetter(
        id=f"msg_{base64.b32encode(digest).decode().lower()}",
        webhook=endpoint,
        lane=0,
        kind=KIND,
        receipts=0,
        created_ms=job.ready_ms,
        died_ms=now_ms,
        reason=reason,
        history=(*history, Attempt(now_ms, 0, error)),
        body=msgspec.json.encode(body),
    )


def push_of(letter: DeadLetter) -> PushBody:
    """Read what a dead letter holds."""
    return _body.decode(letter.body)
