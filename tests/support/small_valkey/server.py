"""The server: commands in, replies out, one at a time."""

from collections.abc import Callable, Sequence
from typing import Final

from hiredis import ReplyError

from tests.support.small_valkey import plain, sorted_sets, streams
from tests.support.small_valkey.functions import Library, load
from tests.support.small_valkey.plain import Reply
from tests.support.small_valkey.values import Keyspace, Stream

_COMMANDS: Final = {**plain.COMMANDS, **sorted_sets.COMMANDS, **streams.COMMANDS}
_APPENDS: Final = b"XADD"
_NEED_MEMORY: Final = {b"XADD", b"SET", b"HSET", b"ZADD", b"SADD", b"INCR", b"XGROUP"}


class SmallValkey:
    """A server's data, and what it does.

    Args:
        now_us: its clock, microseconds since the epoch.
        on_append: told of each entry of a stream, with its key and fields, as it is appended.
    """

    def __init__(
        self,
        now_us: Callable[[], int],
        on_append: Callable[[bytes, Sequence[bytes]], None] = lambda _key, _fields: None,
    ) -> None:
        self.keys = Keyspace(now_us)
        self._now_us = now_us
        self._on_append = on_append
        self._libraries: dict[str, Library] = {}
        self._functions: dict[str, Library] = {}

    def execute(self, args: Sequence[bytes]) -> Reply:
        """Carry out a command.

        Returns:
            Its reply; a ReplyError where it is refused.
        """
        try:
            name = args[0].upper()
            if name == b"FCALL":
                return self._fcall(args)
            if name == b"FUNCTION":
                return self._function(args)
            return self._command(args)
        except ReplyError as error:
            return error

    def needs_memory(self, args: Sequence[bytes]) -> bool:
        """Tell whether a command is refused where memory is at its limit."""
        if args[0] != b"FCALL":
            return args[0] in _NEED_MEMORY
        name = args[1].decode()
        library = self._functions.get(name)
        return library is not None and name not in library.allow_oom

    def drop_newest(self, key: bytes) -> None:
        """Take the last entry out of a stream, as a trim would."""
        stream = self.keys.find(key, Stream)
        if stream is not None and stream.ids:
            self.execute([b"XDEL", key, b"%d-%d" % stream.ids[-1]])

    def copy(self) -> "SmallValkey":
        """Give another server that has all of this one's data."""
        twin = SmallValkey(self._now_us, self._on_append)
        twin.keys = self.keys.copy()
        twin._libraries, twin._functions = dict(self._libraries), dict(self._functions)
        return twin

    def _command(self, args: Sequence[bytes]) -> Reply:
        name = args[0].upper()
        command = _COMMANDS.get(name)
        if command is None:
            raise NotImplementedError(args[0])
        reply = command(self.keys, args[1:])
        if name == _APPENDS and reply is not None:
            stream = self.keys.make(args[1], Stream)
            self._on_append(args[1], stream.fields.get(stream.last, []))
        return reply

    def _fcall(self, args: Sequence[bytes]) -> Reply:
        name, count = args[1].decode(), int(args[2])
        library = self._functions.get(name)
        if library is None:
            raise ReplyError("ERR Function not found")
        keys, values = list(args[3 : 3 + count]), list(args[3 + count :])
        return library.run(name, keys, values, self._command)

    def _function(self, args: Sequence[bytes]) -> Reply:
        if args[1].upper() == b"LIST":
            return [[b"library_name", args[3]]] if args[3].decode() in self._libraries else []
        if args[1].upper() != b"LOAD":
            raise NotImplementedError(args)
        library = load(args[2].decode())
        if library.name in self._libraries:
            raise ReplyError(f"ERR Library '{library.name}' already exists")
        self._libraries[library.name] = library
        self._functions.update(dict.fromkeys(library.functions, library))
        return library.name.encode()
