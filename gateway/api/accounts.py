"""Wires what projects do with bridges, for the API and for the command line alike."""

from gateway.process import Clock, Entropy
from gateway.sealing_keys import read_keys
from gateway.settings import Settings
from router.bridges import discover
from router.bridging.accounts import Accounts
from router.policy.sealing import Keyring
from router.store.bridge_credentials import BridgeCredentials
from router.store.connection import Store


def accounts_of(settings: Settings, store: Store, clock: Clock, entropy: Entropy) -> Accounts:
    """Make what changes bridges."""
    keys = Keyring(read_keys(settings.secret_key))
    return Accounts(BridgeCredentials(store), discover(), keys, clock.now_ms, entropy.bytes)
