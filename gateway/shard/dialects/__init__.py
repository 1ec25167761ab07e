"""The dialects, found by looking: each module here with a `DIALECT`."""

import importlib
import pkgutil
from typing import cast

from gateway.shard.dialect import Dialect


def discover() -> dict[str, Dialect]:
    """Give every dialect by its WebSocket subprotocol, the server's preference first."""
    found = [
        cast(Dialect, importlib.import_module(f"{__name__}.{module.name}").DIALECT)
        for module in pkgutil.iter_modules(__path__)
    ]
    found.sort(key=lambda dialect: dialect.subprotocol, reverse=True)
    return {dialect.subprotocol: dialect for dialect in found}
