"""Where a message is published to."""

import pytest

from router.model.ids import BROADCAST, TopicName, parse_topic
from router.model.message import Message
from router.model.selection import Selection

NEWS, FEW = TopicName("news"), Selection("'a' in topics")


@pytest.mark.parametrize(
    ("topic", "selection", "log"),
    [(None, None, None), (NEWS, None, NEWS), (NEWS, FEW, NEWS), (None, FEW, BROADCAST)],
)
def test_a_message_goes_to_its_topic_or_to_the_whole_project(
    topic: TopicName | None, selection: Selection | None, log: TopicName | None
) -> None:
    assert Message(token="", topic=topic, selection=selection).log == log


def test_no_topic_has_the_name_of_the_broadcast_log() -> None:
    assert parse_topic(BROADCAST) is None
