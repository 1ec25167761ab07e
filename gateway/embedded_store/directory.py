"""The data directory: who owns it, and where in it the store's socket is."""

import asyncio
import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from router.model.errors import ErrorCode, PushError

_SOCKET_PATH_LIMIT: Final = 100
"""sockaddr_un holds 108 bytes; some systems 104."""
_LOCK_DEADLINE_S: Final = 30.0
_POLL_S: Final = 0.02


class StoreError(PushError):
    """The embedded store cannot be started. The text says why and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorCode.UNAVAILABLE, message)


class DirectoryBusyError(StoreError):
    """Another process owns the data directory."""

    def __init__(self, data_dir: Path, holder: str, pid: int) -> None:
        super().__init__(
            f"{data_dir} is in use by `pushwire {holder}`, process {pid}: "
            "stop that one first, or choose another --data-dir"
        )
        self.holder = holder
        self.pid = pid


@contextlib.contextmanager
def using(data_dir: Path) -> Iterator[None]:
    """Tell in words, instead of by an OSError, that the directory or a file in it is of no use.

    Raises:
        StoreError: something cannot be made, read or written there.
    """
    try:
        yield
    except OSError as error:
        inside = error.filename if error.filename != str(data_dir) else None
        where = f" ({inside})" if inside else ""
        raise StoreError(
            f"{data_dir} cannot be the data directory: {error.strerror}{where}"
        ) from error


class DirectoryLock:
    """Ownership of a data directory, held until `release` or the end of the process.

    Args:
        data_dir: made with mode 0700 if it is not there.
        holder: the command that owns it, for whoever is refused.

    Raises:
        DirectoryBusyError: another process holds it.
        StoreError: it cannot be made or written.
    """

    def __init__(self, data_dir: Path, holder: str) -> None:
        with using(data_dir):
            _make_private(data_dir)
            self._fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = os.pread(self._fd, 100, 0).decode(errors="replace").split()
            os.close(self._fd)
            name, number = words if len(words) == 2 else ("?", "0")  # noqa: PLR2004 - a pair
            raise DirectoryBusyError(data_dir, name, int(number)) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{holder} {os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the directory up."""
        os.close(self._fd)


async def own_directory(data_dir: Path, holder: str) -> DirectoryLock:
    """Take a data directory; wait while a command that will soon be done holds it.

    Raises:
        DirectoryBusyError: another `serve` holds it, or a command for too long.
        StoreError: it cannot be made or written.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LOCK_DEADLINE_S
    while True:
        try:
            return DirectoryLock(data_dir, holder)
        except DirectoryBusyError as busy:
            if busy.holder == "serve" or loop.time() > deadline:
                raise
        await asyncio.sleep(_POLL_S)


def _make_private(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(data_dir.iterdir()):
        data_dir.chmod(0o700)


def url_of(socket: Path) -> str:
    """Write the URL of a socket."""
    return "unix://" + quote(str(socket))


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= _SOCKET_PATH_LIMIT


def choose_socket(data_dir: Path) -> Path:
    """Give the socket's path; a short one in a private folder where the plain one is too long."""
    found = find_socket(data_dir)
    if found.parent != data_dir and _fits(found) and _is_private(found.parent):
        return found
    if _fits(data_dir / "store.sock"):
        return data_dir / "store.sock"
    return Path(tempfile.mkdtemp(prefix="pushwire-")) / "store.sock"


def prepare_folder(data_dir: Path, socket: Path) -> None:
    """Make the folder of the socket, and record a path that is not the plain one.

    Raises:
        StoreError: the folder is open to others.
    """
    record = data_dir / "store.path"
    if socket.parent == data_dir:
        record.unlink(missing_ok=True)
        return
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(socket.parent):
        raise StoreError(f"{socket.parent} must belong to this user alone (mode 0700)")
    record.write_text(str(socket))


def find_socket(data_dir: Path) -> Path:
    """Give the socket's path as the owner of the directory chose it."""
    with contextlib.suppress(OSError):
        return Path((data_dir / "store.path").read_text())
    return data_dir.resolve() / "store.sock"


def forget_socket(data_dir: Path, socket: Path) -> None:
    """Clean up after the server that listened there."""
    if socket.parent != data_dir:
        with contextlib.suppress(OSError):
            socket.parent.rmdir()
        (data_dir / "store.path").unlink(missing_ok=True)


def _is_private(folder: Path) -> bool:
    try:
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


def remove(socket: Path) -> None:
    """Take a dead server's socket away."""
    socket.unlink(missing_ok=True)
