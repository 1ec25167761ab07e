"""Planted defects: each was made before, somewhere, and must not get past the checks."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from typing_extensions import override

from gateway.shard.events import Action
from gateway.shard.session import Session as ShardSession
from router.model.hint import Deliver, Hint
from router.model.ids import DeviceId, MessageId, ShardId
from router.model.mailbox import Ack, Attached, Pending, Window
from router.model.receipt import Event
from router.store.bridge_jobs import Taken
from sdk_client.events import Action as SdkAction
from sdk_client.inbox import Inbox
from sdk_client.session import Session as SdkSession
from sdk_client.wire import MessageFrame
from tests.simulation.context import Parts
from tests.support.mailbox_model import MailboxModel
from tests.support.mailbox_state import Box, Record, Waiting

_FOREVER_MS: Final = 2**50


# Of the shard's session.


class ForgetsGaps(ShardSession):
    """Sends the message of a hint though the one before it never came."""

    @override
    def _on_deliver(self, hint: Deliver, now_ms: int) -> Sequence[Action]:
        if hint.seq > self._cursor + 1:
            self._cursor = self._head = hint.seq - 1
        return super()._on_deliver(hint, now_ms)


class IgnoresItsWindow(ShardSession):
    """Sends as much as there is."""

    @override
    def _room(self) -> int:
        return 100


class IgnoresExpiry(ShardSession):
    """Believes that what was not expired when it was read or hinted still is not."""

    @override
    def _on_deliver(self, hint: Deliver, now_ms: int) -> Sequence[Action]:
        return super()._on_deliver(msgspec.structs.replace(hint, expires_ms=_FOREVER_MS), now_ms)

    @override
    def _offer(self, pending: Pending, now_ms: int, actions: list[Action]) -> bool:
        return super()._offer(
            msgspec.structs.replace(pending, expires_ms=_FOREVER_MS), now_ms, actions
        )


class HearsOldHints(ShardSession):
    """Takes hints of another epoch for its own."""

    @override
    def on_hint(self, hint: Hint, now_ms: int) -> Sequence[Action]:
        return super().on_hint(msgspec.structs.replace(hint, epoch=self.epoch), now_ms)


class WritesToTheSlow(ShardSession):
    """Goes on writing though the socket's buffer is full."""

    @override
    def on_writable(self, writable: bool, now_ms: int) -> Sequence[Action]:
        return super().on_writable(True, now_ms)


# Of the SDK's session.


class _Forgetful(Inbox):
    @override
    def handled(self, message_id: str) -> bool:
        known = super().handled(message_id)
        self._seen._ids.clear()
        return known


class DoesNotDedupe(SdkSession):
    """Gives the handler what it was done with."""

    @override
    def on_open(self, now: float) -> Sequence[SdkAction]:
        if type(self._inbox) is Inbox:
            self._inbox = _Forgetful(self.options.seen_limit, self.options.max_unhandled, ())
        return super().on_open(now)


class _Hasty(Inbox):
    @override
    def take(self, frame: MessageFrame, now: float) -> MessageFrame | dict[str, object] | None:
        taken = super().take(frame, now)
        if isinstance(taken, MessageFrame):
            self._acks[frame.id] = None
        return taken


class AcksTooEarly(SdkSession):
    """Acks what the handler was not done with."""

    @override
    def on_open(self, now: float) -> Sequence[SdkAction]:
        if type(self._inbox) is Inbox:
            self._inbox = _Hasty(
                self.options.seen_limit, self.options.max_unhandled, self._inbox._seen
            )
        return super().on_open(now)


class LosesAcks(SdkSession):
    """Does not ack a repeat of what the handler was done with."""

    @override
    def on_message(self, payload: bytes | str, now: float) -> Sequence[SdkAction]:
        owed = dict(self._inbox._acks)
        actions = super().on_message(payload, now)
        self._inbox._acks = owed
        return actions


# Of the store.


class AcksOneTooMany(MailboxModel):
    """An ack also takes the next message out."""

    @override
    def _ack_one(self, device: DeviceId, ack: Ack, now_ms: int) -> bool:
        done = super()._ack_one(device, ack, now_ms)
        if done and ack.seq:
            waiting = self._pending(device)
            waiting[:] = [each for each in waiting if each.seq != ack.seq + 1]
        return done


class DetachesTheNewest(MailboxModel):
    """A late detach clears the route of the session that came after."""

    @override
    async def detach(self, device: DeviceId, epoch: int, now_ms: int) -> None:
        await super().detach(device, self._boxes[device].epoch, now_ms)


class AttachesTheOldest(MailboxModel):
    """An attach that was overtaken displaces the connection that overtook it."""

    @override
    async def attach(
        self,
        device: DeviceId,
        credential_hash: str,
        shard: ShardId,
        now_ms: int,
        limit: int,
        app_version: str = "",
    ) -> Attached:
        self._boxes[device].attached_ms = 0
        return await super().attach(device, credential_hash, shard, now_ms, limit, app_version)


class EndsTwice(MailboxModel):
    """A message that expires stays in the mailbox."""

    @override
    async def expire(self, device: DeviceId, now_ms: int) -> int | None:
        before = list(self._pending(device))
        earliest = await super().expire(device, now_ms)
        self._waiting[device] = before
        return earliest


class NeverComesBack(MailboxModel):
    """Sets no timer for what a lost hint spoke of."""

    @override
    def _set_earlier(self, kind: str, subject: str, at_ms: int) -> None:
        if kind != "redeliver":
            super()._set_earlier(kind, subject, at_ms)


class ReadsBackwards(MailboxModel):
    """A window has the newest message first."""

    @override
    def _window(self, box: Box, after_seq: int, now_ms: int, limit: int) -> Window:
        window = super()._window(box, after_seq, now_ms, limit)
        messages = tuple(reversed(window.messages))
        return msgspec.structs.replace(window, messages=messages)


class TellsOfDropsOnce(MailboxModel):
    """Takes what was read for what the device has heard."""

    @override
    def _window(self, box: Box, after_seq: int, now_ms: int, limit: int) -> Window:
        window = super()._window(box, after_seq, now_ms, limit)
        box.drops_known = box.dropped
        return window


class HoldsTooMuch(MailboxModel):
    """Whatever gives way at the pending cap stays."""

    @override
    def _finish(
        self, device: DeviceId, waiting: Waiting, event: Event, now_ms: int, detail: str
    ) -> None:
        if event is not Event.DROPPED:
            super()._finish(device, waiting, event, now_ms, detail)


class BridgesWhatEnded(MailboxModel):
    """Gives a bridge what was acked meanwhile."""

    @override
    def _stands(self, message: MessageId, record: Record) -> bool:
        return Event.BRIDGED not in record.events


class LosesJobsOfTheDead(MailboxModel):
    """Takes a job that was given out for one that is done."""

    @override
    async def take(self, *args: Any) -> Taken:
        taken = await super().take(*args)
        for job in taken.jobs:
            del self.timers["bridge", job.kept]
        return taken


class WritesWhatIsForBridges(MailboxModel):
    """Puts into the mailbox what a bridge alone may carry."""

    @override
    def _enter(self, message: MessageId, record: Record, box: Box, now_ms: int) -> None:
        record.policy = record.policy.replace("o", "0")
        super()._enter(message, record, box, now_ms)


_SHARD: Final = (ForgetsGaps, IgnoresItsWindow, IgnoresExpiry, HearsOldHints, WritesToTheSlow)
_SDK: Final = (DoesNotDedupe, AcksTooEarly, LosesAcks)
_STORE: Final = (
    AcksOneTooMany,
    DetachesTheNewest,
    AttachesTheOldest,
    EndsTwice,
    NeverComesBack,
    ReadsBackwards,
    TellsOfDropsOnce,
    HoldsTooMuch,
    BridgesWhatEnded,
    LosesJobsOfTheDead,
    WritesWhatIsForBridges,
)

CANARIES: Final = [
    *(Parts(shard_session=broken, name=broken.__name__) for broken in _SHARD),
    *(Parts(sdk_session=broken, name=broken.__name__) for broken in _SDK),
    *(Parts(mailboxes=broken, name=broken.__name__) for broken in _STORE),
]
