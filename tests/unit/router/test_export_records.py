"""What is exported of an event, whatever stands in the outbox."""

import pytest

from router.export import records
from router.export.records import Record
from router.model.ids import Partition
from router.model.receipt import Event

NOW = 1_764_000_000_500
PARTITION = Partition("2a")
ENTRY = "1764000000501-3"


def read(text: str) -> tuple[Record, ...]:
    return records.read(PARTITION, ENTRY, text.encode())


def test_an_event_that_ends_a_message_tells_how_long_it_took() -> None:
    (record,) = read(f"demo|m1|dev1|expired|{NOW}|{NOW - 250}|0|ttl")
    assert record == Record(
        event_id="2a-1764000000501-3",
        time_ms=NOW,
        event="expired",
        project="demo",
        message_id="m1",
        device_id="dev1",
        accepted_ms=NOW - 250,
        latency_ms=250,
        detail="ttl",
        partition="2a",
    )


def test_sent_and_delivered_of_one_entry_are_two_events_with_ids_of_their_own() -> None:
    sent, delivered = read(f"demo|m1|dev1|delivered|{NOW}|{NOW - 250}|{NOW - 50}|")
    assert (sent.event, sent.time_ms, sent.latency_ms) == ("sent", NOW - 50, 200)
    assert (delivered.event, delivered.time_ms, delivered.latency_ms) == ("delivered", NOW, 250)
    assert sent.event_id == f"{delivered.event_id}-sent"
    assert sent.accepted_ms == delivered.accepted_ms == NOW - 250


def test_what_is_not_known_is_none() -> None:
    (record,) = read(f"demo|m1||accepted|{NOW}|0|0|")
    assert (record.device_id, record.detail) == (None, None)
    assert (record.accepted_ms, record.latency_ms) == (None, None)


@pytest.mark.parametrize(
    ("target", "field", "name"),
    [
        ("/topics/news", "topic", "news"),
        ("~/topics/news", "topic", "news"),
        ("/users/a%7Cb%20c", "user", "a|b c"),
        ("/groups/family", "group", "family"),
        ("/topics/*", "", ""),
    ],
)
def test_an_event_of_a_message_as_a_whole_names_its_target(
    target: str, field: str, name: str
) -> None:
    (record,) = read(f"demo|m1|{target}|accepted|{NOW}|0|0|")
    named = {one: getattr(record, one) for one in ("topic", "user", "group")}
    assert named == {**dict.fromkeys(named), **({field: name} if field else {})}
    assert record.device_id is None


def test_an_event_of_one_device_leaves_the_target_to_the_message_as_a_whole() -> None:
    for record in read(f"demo|m1|dev1|delivered|{NOW}|{NOW - 250}|{NOW - 50}|"):
        assert (record.topic, record.user, record.group) == (None, None, None)


def test_a_registration_that_ended_has_no_message() -> None:
    (record,) = read(f"demo||dev1|unregistered|{NOW}|0|0|")
    assert (record.message_id, record.device_id) == (None, "dev1")


def test_a_message_of_a_device_is_told_by_its_own_id() -> None:
    (record,) = read(f"demo||dev1|{Event.UPSTREAM}|{NOW}|0|0|my|id")
    assert (record.message_id, record.detail) == ("my|id", None)


def test_clocks_that_disagree_make_no_negative_latency() -> None:
    assert read(f"demo|m1|dev1|delivered|{NOW}|{NOW + 5}|0|")[0].latency_ms == 0


@pytest.mark.parametrize(("named", "kept"), [(10**17, 253_402_300_799_999), (-(10**17), 0)])
def test_a_device_that_names_a_time_beyond_all_calendars_stops_no_file(
    named: int, kept: int
) -> None:
    (record,) = read(f"demo|m1|dev1|opened|{named}|0|0|")
    assert record.time_ms == kept


def test_probes_are_not_exported() -> None:
    assert read(f"_probe|m1|dev1|delivered|{NOW}|0|0|") == ()


@pytest.mark.parametrize("text", ["", "a|b", "demo|m1|dev1|sent|soon|0|0|"])
def test_what_is_no_event_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        read(text)
