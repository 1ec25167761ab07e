"""Wires what has to do with bridges, as far as senders and devices go."""

import msgspec

from gateway.process import Clock
from gateway.sealing_keys import read_keys
from gateway.settings import Settings
from router.bridge_terms import BridgeTerms
from router.bridges import discover
from router.bridging.directory import Directory
from router.contacts import Contacts
from router.policy.sealing import Keyring
from router.store.addresses import Addresses
from router.store.bridge_credentials import BridgeCredentials
from router.store.bridge_jobs import BridgeJobs
from router.store.connection import Store
from router.store.mailbox import Mailboxes


class Bridging(msgspec.Struct, frozen=True):
    """What handlers need for bridges."""

    directory: Directory
    terms: BridgeTerms
    contacts: Contacts


def bridging_of(settings: Settings, store: Store, clock: Clock) -> Bridging:
    """Make them over one store."""
    kinds = discover()
    keyring = Keyring(read_keys(settings.secret_key))
    directory = Directory(BridgeCredentials(store), kinds, keyring)
    return Bridging(
        directory,
        BridgeTerms(kinds, directory, int(settings.bridge_after_s * 1000)),
        Contacts(
            kinds,
            directory,
            Addresses(store),
            Mailboxes(store),
            BridgeJobs(store),
            clock.now_ms,
            settings.bridge_token_days,
            allow_private=settings.callback_allow_private,
        ),
    )
