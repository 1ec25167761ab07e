"""What `pushwire doctor` says of bridges."""

from gateway.cli.bridge_findings import judged
from router.model.bridge_state import BridgeState, Suspension
from router.model.ids import ProjectId
from router.policy.sealing import Keyring
from router.store.bridge_credentials import SealedBridge

KEYS, OTHER = Keyring([b"k" * 32]), Keyring([b"o" * 32])
SHOP = ProjectId("shop")


def bridge(name: str, keys: Keyring = KEYS, **suspended: Suspension) -> SealedBridge:
    sealed = keys.seal(b"{}", f"shop|{name}", b"n" * 12)
    return SealedBridge(SHOP, name, sealed, BridgeState(1, 0, 0, suspended))


def test_bridges_that_are_well_are_one_line() -> None:
    (finding,) = judged([bridge("apns"), bridge("fcm")], KEYS)
    assert (finding.good, finding.found) == (True, "2 of 2 are well")


def test_what_does_not_open_fails_and_what_is_suspended_warns() -> None:
    suspended = bridge("fcm", apple=Suspension("Forbidden", 5))
    closed, refused, rest = judged([bridge("apns", OTHER), suspended, bridge("webpush")], KEYS)
    assert (closed.name, closed.good) == ("bridge apns of shop", False)
    assert "is not here" in closed.found
    assert "secret_key" in closed.advice
    assert (refused.good, refused.found) == (None, "suspended for apple (Forbidden)")
    assert "`pushwire project bridge test shop fcm`" in refused.advice
    assert rest.found == "1 of 3 are well"
