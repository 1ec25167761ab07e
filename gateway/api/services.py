"""What the handlers work with; made once per process by `app`."""

import msgspec

from gateway.addresses import Clients
from gateway.api.audiences import Audiences
from gateway.api.auth import Authenticator
from gateway.api.bridging import Bridging
from gateway.api.projects_service import ProjectsService
from gateway.api.user_tokens import UserTokens
from gateway.process import Clock, Entropy
from gateway.settings import Settings
from router.bridging.accounts import Accounts
from router.bridging.dead import AllDeadLetters
from router.bridging.directory import Directory
from router.callbacks.endpoints import Endpoints
from router.listing import Listing
from router.publish import Publisher
from router.quotas import Quotas
from router.registration import Registration
from router.send import Sender
from router.store.connection import Store
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.projects import Projects
from router.subscription import Subscription
from router.telemetry.metrics import Metrics


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """Every part that a handler may need."""

    settings: Settings
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    store: Store
    leases: Leases
    mailboxes: Mailboxes
    messages: Messages
    projects: Projects
    projects_service: ProjectsService
    sender: Sender
    publisher: Publisher
    audiences: Audiences
    subscription: Subscription
    registration: Registration
    accounts: Accounts
    bridges: Directory
    bridging: Bridging
    endpoints: Endpoints
    dead_letters: AllDeadLetters
    listing: Listing
    authenticator: Authenticator
    user_tokens: UserTokens
    quotas: Quotas
    clients: Clients
