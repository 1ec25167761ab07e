"""The embedded store: a valkey-server of our own in the data directory, on a unix socket.

One process at a time owns a data directory, by a lock on its `lock` file. The owner starts the
server as its child and stops it. A server that a killed owner left behind is stopped first, never
doubled.
"""

from gateway.embedded_store.directory import (
    DirectoryBusyError,
    DirectoryLock,
    StoreError,
    own_directory,
    using,
)
from gateway.embedded_store.leftover import is_alive
from gateway.embedded_store.server import EmbeddedStore, borrowed_store, find_binary, running_url

__all__ = [
    "DirectoryBusyError",
    "DirectoryLock",
    "EmbeddedStore",
    "StoreError",
    "borrowed_store",
    "find_binary",
    "is_alive",
    "own_directory",
    "running_url",
    "using",
]
