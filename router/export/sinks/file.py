"""A directory: `file:///var/lib/pushwire/export`.

A file is written under a name that nobody reads, brought to the disk, and only then given its own
name: whoever lists the directory sees whole files alone, also after a loss of power.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from router.export.sink import Destination, File, SinkError

SCHEMES: Final = ("file",)

_UNFINISHED: Final = ".unfinished"
"""A directory beside the files: on the same file system, so that a rename is atomic."""
_STALE_MS: Final = 3_600_000
"""Who wrote an unfinished file for so long is dead."""


def violation(url: str) -> str:
    """Say what is accepted where this URL is not; empty where it is."""
    parts = urlsplit(url)
    fits = parts.netloc in {"", "localhost"} and unquote(parts.path).startswith("/")
    if not fits or parts.query or parts.fragment or "\0" in unquote(parts.path):
        return "a file URL with an absolute path such as file:///var/lib/pushwire/export"
    return ""


def make(destination: Destination, now_ms: Callable[[], int]) -> "DirectorySink":
    """Make a sink of a URL without a violation."""
    return DirectorySink(Path(unquote(urlsplit(destination.url).path)), now_ms)


class DirectorySink:
    """Writes files below a directory, in a thread of its own: a disk may hang.

    Args:
        directory: made where it is missing.
        now_ms: the clock, epoch milliseconds.
    """

    def __init__(self, directory: Path, now_ms: Callable[[], int]) -> None:
        self._directory = directory
        self._now_ms = now_ms
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="export-file")
        self._is_swept = False

    async def __aenter__(self) -> Self:
        """Open it; the directory is looked at when the first file comes."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Give up what has not begun; a write that hangs is left to the end of the process."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def put(self, file: File) -> None:
        """Write a file, and see it on disk.

        Raises:
            SinkError: the disk is full, the directory is not ours, and the like.
        """
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, file)
        except OSError as error:
            reason = error.strerror or error
            raise SinkError(f"cannot write to {self._directory}: {reason}") from error

    def _write(self, file: File) -> None:
        final = self._directory / file.name
        final.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / _UNFINISHED
        unfinished.mkdir(exist_ok=True)
        if not self._is_swept:
            self._sweep(unfinished)
            self._is_swept = True
        draft = unfinished / final.name
        try:
            with draft.open("wb") as opened:
                opened.write(file.data)
                opened.flush()
                os.fsync(opened.fileno())
            draft.replace(final)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()  # a full disk shall not stay full of halves
            raise
        for folder in (final.parent, self._directory):
            _sync(folder)

    def _sweep(self, unfinished: Path) -> None:
        """Remove what killed processes have left behind."""
        for draft in unfinished.iterdir():
            with contextlib.suppress(OSError):
                if self._now_ms() - draft.stat().st_mtime_ns // 1_000_000 > _STALE_MS:
                    draft.unlink()


def _sync(folder: Path) -> None:
    """Bring the names of a directory to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
