"""What `pushwire doctor` says of bridges: whether their credentials open, and what is suspended."""

from collections.abc import Sequence
from typing import Final

from gateway.cli.finding import Finding
from gateway.process import Entropy
from gateway.sealing_keys import read_keys
from gateway.settings import Settings
from gateway.supervisor.ground import secret_key
from router.bridging.directory import context_of
from router.policy.sealing import Keyring, SealError
from router.store.bridge_credentials import BridgeCredentials, SealedBridge
from router.store.connection import Store

_CLOSED: Final = "give this command the secret_key of the gateway, or the credentials again"


async def bridge_findings(store: Store, settings: Settings) -> list[Finding]:
    """Look at all bridges of all projects: one finding for each that needs somebody."""
    found = await BridgeCredentials(store).all()
    if not found:
        return [Finding("bridges", good=True, found="none is set up")]
    keyring = Keyring(read_keys(secret_key(settings, Entropy().bytes)))
    return judged(found, keyring)


def judged(bridges: Sequence[SealedBridge], keyring: Keyring) -> list[Finding]:
    """Judge bridges; what is well is told in one line."""
    bad = [finding for bridge in bridges if (finding := _judge(bridge, keyring)) is not None]
    good = len(bridges) - len(bad)
    return [*bad, Finding("bridges", good=True, found=f"{good} of {len(bridges)} are well")]


def _judge(bridge: SealedBridge, keyring: Keyring) -> Finding | None:
    name, state = f"bridge {bridge.name} of {bridge.project}", bridge.state
    try:
        keyring.open(bridge.sealed, context_of(bridge.project, bridge.name))
    except SealError as error:
        return Finding(name, good=False, found=f"does not open: {error}", advice=_CLOSED)
    if not state.suspended:
        return None
    told = ", ".join(f"{audience} ({one.reason})" for audience, one in state.suspended.items())
    advice = f"mend it, then `pushwire project bridge test {bridge.project} {bridge.name}`"
    return Finding(name, None, f"suspended for {told}", advice)
