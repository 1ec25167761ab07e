"""Wires what has to do with users and groups."""

from collections.abc import Callable

import msgspec

from gateway.process import Clock, Entropy
from gateway.settings import Settings
from router.binding import Bindings
from router.bridge_terms import BridgeTerms
from router.cast import Caster
from router.groups import Groups
from router.model.ids import MessageId, ProjectId
from router.routing import Routing
from router.spread import Spreader
from router.store.casts import Casts
from router.store.connection import Store
from router.store.mailbox import Mailboxes
from router.store.members import Members
from router.telemetry.metrics import Metrics


class Audiences(msgspec.Struct, frozen=True):
    """What handlers need for users and groups."""

    caster: Caster
    bindings: Bindings
    groups: Groups


def audiences_of(  # noqa: PLR0913, PLR0917 - it wires what has many neighbours
    settings: Settings,
    store: Store,
    routing: Routing,
    metrics: Metrics,
    clock: Clock,
    entropy: Entropy,
    withdraw: Callable[[ProjectId, MessageId], None],
    terms: BridgeTerms,
) -> Audiences:
    """Make them over one store; `withdraw` is the sender's."""
    members, casts, now_ms = Members(store), Casts(store), clock.now_ms
    spreader = Spreader(casts, Mailboxes(store), members, routing, metrics, now_ms)
    return Audiences(
        Caster(casts, members, spreader, now_ms, entropy.bytes, withdraw, terms=terms),
        Bindings(members, now_ms, entropy.bytes, settings.max_user_devices),
        Groups(members, entropy.bytes, settings.max_group_devices),
    )
