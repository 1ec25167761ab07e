"""Copies of messages to users and groups: a session knows them by the id of their message."""

import pytest

from gateway.shard.events import Acked, Engaged, Nacked
from router.model.ids import DeviceId, MessageId, Partition, kept_as, new_cast_id
from tests.unit.shard.driver import DEVICE, START_MS, Lead, frames, only

CAST = new_cast_id(Partition("3f"), START_MS, bytes(10))
"""To a user whose list stands in another partition than the device."""


def test_a_copy_that_an_older_session_sent_is_acked_nacked_and_reported() -> None:
    live = Lead().live()
    acked = only(Acked, live.gets(op="ack", ids=[CAST]))
    assert [(ack.message, ack.seq) for ack in acked.acks] == [(CAST, 0)]
    other = new_cast_id(Partition("00"), START_MS, bytes(10))
    assert only(Nacked, live.gets(op="nack", id=other)).message == other
    assert only(Engaged, live.gets(op="event", id=CAST, event="opened")).message == CAST


@pytest.mark.parametrize("text", [kept_as(CAST, DEVICE), kept_as(CAST, DeviceId("e" * 16))])
def test_the_stores_own_ids_of_copies_are_not_taken_from_devices(text: MessageId) -> None:
    live = Lead().live()
    assert live.gets(op="ack", ids=[text]) == []
    assert frames(live.gets(op="nack", id=text))[0]["op"] == "error"
    assert frames(live.gets(op="event", id=text, event="opened"))[0]["op"] == "error"
