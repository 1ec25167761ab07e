"""Webhooks: lanes, partitions, secrets."""

from router.model.ids import ProjectId, all_partitions
from router.model.webhook import LANES, Kind, Secret, Webhook, lane_of, partition_of_webhook


def webhook(*secrets: Secret) -> Webhook:
    return Webhook("wh_a", ProjectId("demo"), "https://x.test", frozenset(Kind), secrets, 1)


def test_an_old_secret_is_valid_until_its_time_is_over() -> None:
    found = webhook(Secret("new"), Secret("old", 100))
    assert found.valid_secrets(99) == ("new", "old")
    assert found.valid_secrets(100) == ("new",)


def test_partitions_share_the_lanes_evenly() -> None:
    lanes = [lane_of(partition) for partition in all_partitions()]
    assert {lanes.count(lane) for lane in range(LANES)} == {len(lanes) // LANES}


def test_a_webhook_has_a_partition_that_is_one() -> None:
    assert partition_of_webhook("wh_a") in all_partitions()
    assert partition_of_webhook("wh_a") == partition_of_webhook("wh_a")
