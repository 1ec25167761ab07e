"""Messages to users and groups: who gets a copy, and when all of them are done."""

import pytest

from router.model.audience import Audience, AudienceKind
from router.model.cast import Member
from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.receipt import Event
from router.model.status import MessageStatus, TimelineEntry

PROJECT = ProjectId("p-1")


def test_a_member_is_proven_by_the_user_or_by_the_time_of_registration() -> None:
    member = Member(DeviceId("d" * 16), "17")
    assert member.proof(Audience(AudienceKind.USER, "a:b")) == "u:a:b"
    assert member.proof(Audience(AudienceKind.GROUP, "g")) == "ca:17"


def _status(*events: Event) -> MessageStatus:
    return MessageStatus(
        id=MessageId("x"),
        project=PROJECT,
        device=DeviceId("d"),
        target="token",
        state=Event.ACCEPTED,
        created_ms=1,
        expires_ms=2,
        timeline=tuple(TimelineEntry(event, 1) for event in events),
    )


@pytest.mark.parametrize(
    ("spreading", "copies", "done"),
    [
        (True, (), False),
        (False, (), True),
        (False, (_status(Event.ACCEPTED, Event.SENT),), False),
        (False, (_status(Event.DELIVERED), _status(Event.ACCEPTED)), False),
        (False, (_status(Event.DELIVERED), _status(Event.EXPIRED)), True),
    ],
)
def test_a_message_to_many_is_done_when_each_copy_is(
    spreading: bool, copies: tuple[MessageStatus, ...], done: bool
) -> None:
    found = MessageStatus(
        id=MessageId("x"),
        project=PROJECT,
        device=DeviceId(""),
        target="user",
        state=Event.ACCEPTED,
        created_ms=1,
        expires_ms=2,
        audience=Audience(AudienceKind.USER, "u"),
        spreading=spreading,
        copies=copies,
    )
    assert found.is_done(99) is done
