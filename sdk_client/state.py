"""What a device keeps on disk: its registration and the ids that its handler is done with.

One file. Its first line is a JSON object with the registration and the ids known when it was
written; each line after it is one more id. So an id costs one small append, and the whole file is
written anew only when the registration changes, or when as many ids were appended as are kept.

Writing anew is atomic (temporary file, fsync, rename, fsync of the directory): whenever the process
or the machine dies, the old or the new content is there. An append reaches the operating system
before the ack leaves, so it survives the death of the process. It is not fsynced: after a power
failure a message may come again whose ack was lost too. The last line, if it is torn, is ignored.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from sdk_client.errors import StateError
from sdk_client.seen import Seen

VERSION: Final = 1
SEEN_LIMIT: Final = 4_096
_MODE: Final = 0o600
_TEXTS: Final = ("url", "project", "device_id", "token", "credential", "device_url")


@dataclass(frozen=True, slots=True)
class Registration:
    """Who the device is. `credential` is its secret."""

    url: str
    """Of the HTTP API."""
    project: str
    device_id: str
    token: str
    credential: str
    device_url: str = ""
    """Where to connect; empty: derived from `url`."""
    about: Mapping[str, object] = field(default_factory=dict)
    """What the device said of itself."""
    void: bool = False
    """The gateway refused it for good: registering again makes a new one."""
    bridge_said_at: float = 0.0
    """When the gateway was last told of the bridge in `about`, seconds since the epoch."""


class StateFile:
    """The state of one device. Made by `read`; for one process at a time.

    Args:
        path: of the file; None keeps everything in memory.
        registration: None before the first `save`.
        seen: ids that the handler is done with.
    """

    def __init__(self, path: Path | None, registration: Registration | None, seen: Seen) -> None:
        self.registration = registration
        self.seen = seen
        self._path = path
        self._journal: int | None = None
        self._size = 0
        self._appended = 0

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None, limit: int = SEEN_LIMIT) -> "StateFile":
        """Read a state file; one that does not exist is an empty state.

        Args:
            path: of the file; None for a state in memory.
            limit: how many ids are kept.

        Raises:
            StateError: the file cannot be read, or is not a state file.
        """
        if path is None:
            return cls(None, None, Seen(limit))
        where = Path(path)
        try:
            content = where.read_bytes()
        except FileNotFoundError:
            return cls(where, None, Seen(limit))
        except OSError as error:
            raise StateError(f"cannot read the state file {where}: {error}") from error
        registration, ids = _parse(content, where)
        return cls(where, registration, Seen(limit, ids))

    def save(self, registration: Registration) -> None:
        """Keep a registration.

        Raises:
            StateError: the file cannot be written; the one before is untouched.
        """
        before, self.registration = self.registration, registration
        try:
            self._write_anew()
        except StateError:
            self.registration = before
            raise

    def replace(self, *, token: str | None = None, void: bool | None = None) -> None:
        """Change the registration.

        Raises:
            StateError: as `save`.
        """
        now = self.registration
        if now is None:
            raise StateError("there is no registration to change")
        changed = replace(
            now,
            token=now.token if token is None else token,
            void=now.void if void is None else void,
        )
        if changed != now:
            self.save(changed)

    def add(self, message_id: str) -> None:
        """Keep the id of a message that the handler is done with.

        Raises:
            StateError: it could not be written, and counts as not kept.
        """
        if self._path is not None:
            if self._journal is None or self._appended >= self.seen.limit:
                self._write_anew()
            self._append(json.dumps(message_id).encode() + b"\n")
        self.seen.add(message_id)

    def delete(self) -> None:
        """Remove the file: the device is gone.

        Raises:
            StateError: it cannot be removed.
        """
        self.close()
        self.registration = None
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                raise StateError(f"cannot remove the state file {self._path}: {error}") from error

    def close(self) -> None:
        """Let go of the file; a later change opens it again."""
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None

    def _append(self, line: bytes) -> None:
        journal = self._journal
        if journal is None:
            return
        try:
            written, why = os.write(journal, line), "no space"
        except OSError as error:
            written, why = 0, str(error)
        if written < len(line):
            # Half a line would spoil the next one.
            with contextlib.suppress(OSError):
                os.ftruncate(journal, self._size)
            raise StateError(f"cannot write the state file {self._path}: {why}")
        self._size += len(line)
        self._appended += 1

    def _write_anew(self) -> None:
        if self._path is None:
            return
        head = {
            "pushwire_state": VERSION,
            "registration": asdict(self.registration) if self.registration else None,
            "seen": list(self.seen),
        }
        content = json.dumps(head).encode() + b"\n"
        self.close()
        try:
            _replace_file(self._path, content)
            self._journal = os.open(self._path, os.O_WRONLY | os.O_APPEND | _flag("O_CLOEXEC"))
        except OSError as error:
            raise StateError(f"cannot write the state file {self._path}: {error}") from error
        self._size = len(content)
        self._appended = 0


def _replace_file(path: Path, content: bytes) -> None:
    """Put new content in a file's place, so that a crash leaves the old or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    # O_EXCL: a link that somebody put there is not followed.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flag("O_CLOEXEC")
    try:
        with os.fdopen(os.open(temporary, flags, _MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    if os.name == "nt":
        return  # Windows has no handle on a directory; it orders renames by itself.
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flag(name: str) -> int:
    """Give an open flag that not every system has."""
    found = getattr(os, name, 0)
    return found if isinstance(found, int) else 0


def _parse(content: bytes, where: Path) -> tuple[Registration | None, list[str]]:
    lines = content.split(b"\n")
    lines.pop()  # what follows the last newline: nothing, or an append that was cut
    if not lines:
        raise _corrupt(where, "it has no whole line")
    try:
        head: object = json.loads(lines[0])
        appended: list[object] = [json.loads(line) for line in lines[1:]]
    except ValueError as error:
        raise _corrupt(where, str(error)) from None
    if not isinstance(head, dict) or head.get("pushwire_state") != VERSION:
        raise _corrupt(where, f"its first line is not of version {VERSION}")
    ids: list[object] = [*_list(head.get("seen"), where), *appended]
    return _registration(head.get("registration"), where), [_text(each, where) for each in ids]


def _registration(found: object, where: Path) -> Registration | None:
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _corrupt(where, "the registration is not a map")
    texts = {name: _text(found.get(name), where) for name in _TEXTS}
    about = found.get("about")
    if not isinstance(about, dict):
        raise _corrupt(where, "`about` is not a map")
    said = found.get("bridge_said_at", 0.0)
    return Registration(
        **texts,
        about=about,
        void=found.get("void") is True,
        bridge_said_at=said if isinstance(said, float) else 0.0,
    )


def _list(found: object, where: Path) -> list[object]:
    if not isinstance(found, list):
        raise _corrupt(where, "`seen` is not a list")
    return found


def _text(found: object, where: Path) -> str:
    if not isinstance(found, str):
        raise _corrupt(where, f"{str(found)[:40]!r} is not a text")
    return found


def _corrupt(where: Path, why: str) -> StateError:
    return StateError(
        f"{where} is not a state file of this SDK, or is damaged ({why[:200]}). "
        "Name another file, or remove this one to register anew."
    )
