"""The bridges, found by looking: each module here with a `BRIDGE` (`router.bridge`)."""

import importlib
import pkgutil
from typing import cast

from router.bridge import AnyBridge


def discover() -> dict[str, AnyBridge]:
    """Give every bridge by its name, in order."""
    found = [
        cast(AnyBridge, importlib.import_module(f"{__name__}.{module.name}").BRIDGE)
        for module in pkgutil.iter_modules(__path__)
    ]
    return {bridge.name: bridge for bridge in sorted(found, key=lambda each: each.name)}
