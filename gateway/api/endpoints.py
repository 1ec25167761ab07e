"""Wires webhooks and dead letters."""

from gateway.process import Clock, Entropy
from gateway.settings import Settings
from router.bridges import discover
from router.bridging.dead import AllDeadLetters
from router.callbacks.endpoints import Endpoints
from router.store.bridge_jobs import BridgeJobs
from router.store.connection import Store
from router.store.dead_letters import Bounds, DeadLetters
from router.store.outbox import Outbox
from router.store.webhooks import Webhooks


def endpoints_of(settings: Settings, store: Store, clock: Clock, entropy: Entropy) -> Endpoints:
    """Make what a project does with its webhooks."""
    return Endpoints(
        Webhooks(store),
        letters_of(settings, store),
        Outbox(store),
        clock.now_ms,
        entropy.bytes,
        allow_private=settings.callback_allow_private,
        backlog_bytes=settings.callback_backlog_bytes,
    )


def dead_letters_of(
    settings: Settings, store: Store, clock: Clock, endpoints: Endpoints
) -> AllDeadLetters:
    """Make what a project does with dead letters."""
    return AllDeadLetters(
        endpoints, letters_of(settings, store), BridgeJobs(store), tuple(discover()), clock.now_ms
    )


def letters_of(settings: Settings, store: Store) -> DeadLetters:
    """Make what keeps the dead letters of both."""
    bounds = Bounds(settings.dead_letters, settings.dead_letter_retention_s * 1000)
    return DeadLetters(store, bounds)
