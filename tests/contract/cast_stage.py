"""Messages to users over a real store, for the tests of casts."""

import os

from router.cast import Casting
from router.model.audience import Audience, AudienceKind
from router.model.cast import CastEnvelope
from router.model.ids import MessageId, new_cast_id
from router.model.message import Message
from router.model.receipt import Event
from router.model.status import MessageStatus
from router.registration import DeviceSpec, Registered
from tests.contract.router_stages import Stages

USER = Audience(AudienceKind.USER, "a|b")


async def of_user(stages: Stages, user: str = USER.name) -> Registered:
    spec = DeviceSpec(platform="python", user=user)
    return await stages.registration.register(stages.project, spec)


def casting(
    audience: Audience = USER, *, ttl_ms: int = 60_000, key: str = "", send_at_ms: int | None = None
) -> Casting:
    message = Message(
        token="", audience=audience, data={"k": "v"}, ttl_ms=ttl_ms, send_at_ms=send_at_ms
    )
    return Casting(audience, message, key, "digest" if key else "")


async def status(stages: Stages, message: MessageId) -> MessageStatus:
    found = await stages.messages.status(message)
    assert found is not None
    return await stages.caster.status(found)


async def states(stages: Stages, message: MessageId) -> dict[str, Event]:
    return {copy.device: copy.state for copy in (await status(stages, message)).copies}


async def held(stages: Stages, device: Registered) -> list[MessageId]:
    """What waits in a mailbox, by the ids that a session sees."""
    shard = await stages.shard()
    return [one.message for one in (await stages.attach(device, shard)).window.messages]


def an_envelope(stages: Stages) -> CastEnvelope:
    """A message as it is accepted by a process that then dies."""
    now_ms = stages.clock.now_ms()
    message = new_cast_id(USER.partition(stages.project), now_ms, os.urandom(10))
    return CastEnvelope(stages.project, USER, message, b"\x80", now_ms, now_ms + 60_000)
