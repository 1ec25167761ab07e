"""What a `serve` stands on: its run directory, its ports, its keys."""

import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gateway.embedded_store import is_alive, using
from gateway.process import opening
from gateway.sealing_keys import ACCEPTED, KEY_BYTES, read_keys, write_key
from gateway.settings import Settings, SettingsError
from router.model.ids import SECRET_BYTES, new_secret
from router.store.survey import StoreInfo

SECRET_KEY_FILE: Final = "secret.key"  # noqa: S105 - a name

_log: structlog.stdlib.BoundLogger = structlog.get_logger("supervisor")


class Endpoints(msgspec.Struct, frozen=True):
    """Where a running `serve` is reached; stands in `run/serve.json`."""

    pid: int
    api: str
    devices: str
    ops: str
    store_url: str
    processes: dict[str, int] = {}
    """Process ids by name: `store`, `api-0`, `shard-0`, `worker-0`."""


def fresh_run_dir(data_dir: Path) -> Path:
    """Give an empty `run` directory, without what an earlier `serve` left."""
    run_dir = data_dir / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    with using(data_dir):
        (run_dir / "metrics").mkdir(parents=True, mode=0o700)
        run_dir.chmod(0o700)
    return run_dir


def write_endpoints(run_dir: Path, endpoints: Endpoints) -> None:
    """Write `serve.json`, all of it or nothing."""
    fresh = run_dir / "serve.new"
    fresh.write_bytes(msgspec.json.encode(endpoints))
    fresh.replace(run_dir / "serve.json")


def forget_endpoints(run_dir: Path) -> None:
    """Take `serve.json` away."""
    (run_dir / "serve.json").unlink(missing_ok=True)


def running_endpoints(data_dir: Path) -> Endpoints | None:
    """Read where the `serve` of a data directory is reached; None where none runs."""
    try:
        found = msgspec.json.decode((data_dir / "run" / "serve.json").read_bytes(), type=Endpoints)
    except (OSError, msgspec.MsgspecError):
        return None
    return found if is_alive(found.pid) else None


def admin_key(settings: Settings, entropy: Callable[[int], bytes]) -> str:
    """Give the admin key: the setting, else the one in `admin.key`, made at the first call."""
    if settings.admin_key:
        return settings.admin_key
    path = settings.data_dir / "admin.key"
    with using(settings.data_dir):
        return _read(path) or _made(path, "pa_" + new_secret(entropy(SECRET_BYTES)))


def secret_key(settings: Settings, entropy: Callable[[int], bytes]) -> str:
    """Give the keys that seal: the setting, else what stands in `secret.key`.

    That file is made where the store is the embedded one, by whoever holds the data directory. To
    an external store other machines may come, whose keys must be the same: there the operator makes
    them, and without any the text is empty.

    Raises:
        SettingsError: the file holds something else.
        StoreError: the data directory is of no use.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / SECRET_KEY_FILE
    with using(settings.data_dir):
        found = _read(path)
        if not found and not settings.store_url:
            found = _made(path, write_key(entropy(KEY_BYTES)))
    try:
        return ",".join(write_key(key) for key in read_keys(found))
    except ValueError:
        raise SettingsError(f"{path}: {ACCEPTED}") from None


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    return ""


def _made(path: Path, key: str) -> str:
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(key + "\n")
    fresh.replace(path)
    return key


def warn_of_store(servers: Iterable[StoreInfo]) -> None:
    """Log which servers of an external store may lose messages that were accepted."""
    for info in servers:
        if not info.aof:
            advice = "set `appendonly yes` there"
            _log.warning("store.not_persistent", server=info.where, advice=advice)


@contextlib.contextmanager
def reserve(setting: str, host: str, port: int) -> Iterator[int]:
    """Hold a port for the processes that will listen on it together (SO_REUSEPORT).

    Args:
        setting: its name, for the error.
        host: address to bind.
        port: 0 for a free one.

    Raises:
        PushError: it is taken, or not ours to bind.
    """
    with opening(setting, host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:  # a stranger that shares ports too
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        held = socket.socket(family, kind, protocol)
    with held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with opening(setting, host, port):
            held.bind(address)
        yield int(held.getsockname()[1])


def check_certificate(settings: Settings) -> None:
    """Try the certificate, so that a bad one ends `serve` and not its shards again and again.

    Raises:
        SettingsError: the files cannot be read, or are not what they should be.
    """
    if not settings.tls_cert:
        return
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, password=""
        )
    except OSError as error:
        raise SettingsError(
            "tls_cert and tls_key: accept the PEM files of a certificate and of its plain key, not "
            f"{settings.tls_cert} and {settings.tls_key} ({error.strerror or error})"
        ) from error
