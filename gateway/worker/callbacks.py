"""Wires the callbacks of a worker."""

from collections.abc import Callable, Collection

import msgspec

from gateway.process import RoleContext
from gateway.settings import Settings
from router.callbacks.attempts import Attempts
from router.callbacks.client import Client
from router.callbacks.delivery import Delivery
from router.callbacks.directory import Directory
from router.callbacks.endpoints import new_callback_id
from router.callbacks.feed import Feed
from router.model.ids import Partition
from router.store.callbacks import Lanes
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters
from router.store.members import Members
from router.store.messages import Messages
from router.store.outbox import Outbox
from router.store.webhooks import Webhooks


class Callbacks(msgspec.Struct, frozen=True):
    """The two halves: into the lanes, and out of them."""

    feed: Feed
    delivery: Delivery


def callbacks_of(
    settings: Settings,
    context: RoleContext,
    store: Store,
    worker: str,
    owned: Callable[[], Collection[Partition]],
) -> Callbacks:
    """Make the callbacks of a worker that owns the partitions that `owned` gives."""
    metrics, now_ms, entropy = context.metrics, context.clock.now_ms, context.entropy
    webhooks, lanes = Webhooks(store), Lanes(store)
    letters = DeadLetters(
        store, Bounds(settings.dead_letters, settings.dead_letter_retention_s * 1000)
    )
    directory = Directory(webhooks)
    timeout_s = settings.callback_timeout_s
    client = Client(timeout_s, allow_private=settings.callback_allow_private)

    def new_id() -> str:
        return new_callback_id(entropy.bytes)

    feed = Feed(
        Outbox(store),
        lanes,
        letters,
        directory,
        Members(store),
        Messages(store),
        metrics,
        now_ms,
        new_id,
        settings.callback_backlog_bytes,
    )
    attempts = Attempts(client, webhooks, lanes, letters, metrics, now_ms, entropy.uniform)
    delivery = Delivery(
        worker,
        owned,
        webhooks,
        lanes,
        letters,
        directory,
        client,
        attempts,
        metrics,
        now_ms,
        new_id,
        timeout_s,
    )
    return Callbacks(feed, delivery)
