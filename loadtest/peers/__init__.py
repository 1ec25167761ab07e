"""The servers that are measured side by side, found by looking: each module here with a `PEER`."""

import importlib
import pkgutil
from typing import cast

from loadtest.peer import Peer


def discover() -> dict[str, Peer]:
    """Give every peer by its name, in order."""
    found = [
        cast(Peer, importlib.import_module(f"{__name__}.{module.name}").PEER)
        for module in pkgutil.iter_modules(__path__)
    ]
    return {peer.name: peer for peer in sorted(found, key=lambda each: each.name)}
