"""Events: their words are API."""

from router.model.ids import DeviceId, MessageId, ProjectId
from router.model.receipt import ENGAGEMENT, TERMINAL, Event, Receipt


def test_an_event_reads_as_its_word() -> None:
    assert Event("delivered") is Event.DELIVERED
    assert all(event.value == event.name.lower() for event in Event)


def test_engagement_never_ends_a_life() -> None:
    assert not ENGAGEMENT & TERMINAL


def test_a_receipt_of_an_event_within_a_life_has_no_time_of_acceptance() -> None:
    receipt = Receipt(ProjectId("demo"), MessageId("m"), DeviceId("d"), Event.SENT, 5)
    assert receipt.accepted_ms == 0
    assert receipt.detail == ""
