"""Wires what projects do with bridges, for the API and for the command line alike."""

from gateway.api.endpoints import letters_of
from gateway.process import Clock, Entropy
from gateway.sealing_keys import read_keys
from gateway.settings import Settings
from router.bridges import discover
from router.bridging.accounts import Accounts
from router.bridging.probe import Prober
from router.policy.sealing import Keyring
from router.store.bridge_credentials import BridgeCredentials
from router.store.connection import Store
from router.telemetry.metrics import Metrics


def accounts_of(
    settings: Settings, store: Store, clock: Clock, entropy: Entropy, metrics: Metrics
) -> Accounts:
    """Make what changes bridges, and tries them."""
    kept, keys = BridgeCredentials(store), Keyring(read_keys(settings.secret_key))
    prober = Prober(metrics, clock.now_ms, allow_private=settings.callback_allow_private)
    letters = letters_of(settings, store)
    return Accounts(kept, letters, discover(), keys, prober.probe, clock.now_ms, entropy.bytes)
