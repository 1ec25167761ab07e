"""Libraries of functions, run by the same Lua as the server's: 5.1."""

import functools
import json
import re
from collections.abc import Callable
from typing import Any, Final

from hiredis import ReplyError
from lupa import lua51

from tests.support.small_valkey.plain import Reply

Call = Callable[[tuple[bytes, ...]], Reply]
_SHEBANG: Final = re.compile(r"^#!lua name=(\w+)\n")
_ARRAY: Final = "function(...) return {...} end"
_RAISING: Final = """function(call)
  return function(...)
    local reply, problem = call(...)
    if problem then error({err = problem}) end
    return reply
  end
end"""


class Library:
    """What one FUNCTION LOAD made; it keeps nothing from one call to the next."""

    def __init__(self, code: str) -> None:
        found = _SHEBANG.match(code)
        assert found is not None
        self.name = found[1]
        self._lua: Any = lua51.LuaRuntime(
            encoding=None, register_eval=False, register_builtins=False, unpack_returned_tuples=True
        )
        self._array = self._lua.eval(_ARRAY.encode())
        self._call: Call = _no_call
        self._problems: list[Exception] = []
        self.functions: dict[str, Any] = {}
        self.allow_oom: set[str] = set()
        world = self._lua.globals()
        call = self._lua.eval(_RAISING.encode())(self._from_lua)
        world[b"redis"] = self._lua.table_from(
            {b"call": call, b"register_function": self._register}
        )
        world[b"cjson"] = self._lua.table_from({b"encode": self._encode, b"decode": self._decode})
        self._lua.execute(code[found.end() :].encode())

    def run(self, name: str, keys: list[bytes], args: list[bytes], call: Call) -> Reply:
        """Run a function.

        Raises:
            ReplyError: a command in it was refused; what it did before that stands.
        """
        self._call, self._problems = call, []
        try:
            return self._read(self.functions[name](self._array(*keys), self._array(*args)))
        except lua51.LuaError as error:
            raise next(reversed(self._problems), ReplyError(f"ERR {error}")) from error
        finally:
            self._call = _no_call
            # A function may go on without a command that this server lacks; nobody else may.
            if lacking := [one for one in self._problems if not isinstance(one, ReplyError)]:
                raise lacking[0]

    def _register(self, told: Any) -> None:
        name = told[b"function_name"].decode()
        self.functions[name] = told[b"callback"]
        if b"allow-oom" in told[b"flags"].values():
            self.allow_oom.add(name)

    def _from_lua(self, *args: Any) -> Any:
        try:
            return self._write(self._call(tuple(map(_argument, args)))), None
        except Exception as problem:  # noqa: BLE001 - told in Lua; `run` raises what is no reply
            self._problems.append(problem)
            return False, str(problem).encode()

    def _write(self, reply: Any) -> Any:
        """Give a reply as Lua sees it."""
        if reply is None:
            return False
        if isinstance(reply, list):
            return self._array(*map(self._write, reply))
        return reply

    def _read(self, value: Any) -> Reply:
        """Give what a function returns as the client sees it."""
        if value is None or value is False:
            return None
        if value is True:
            return 1
        if isinstance(value, bytes | int):
            return value
        if isinstance(value, float):
            return int(value)
        if (problem := value[b"err"]) is not None:
            return ReplyError(problem.decode())
        found: list[Reply] = []
        while (one := value[len(found) + 1]) is not None:
            found.append(self._read(one))
        return found

    def _encode(self, value: Any) -> bytes:
        return json.dumps(_plain(value), separators=(",", ":")).encode()

    def _decode(self, text: bytes) -> Any:
        return self._from_plain(json.loads(text))

    def _from_plain(self, value: Any) -> Any:
        if isinstance(value, list):
            return self._array(*map(self._from_plain, value))
        if isinstance(value, dict):
            pairs = {name.encode(): self._from_plain(one) for name, one in value.items()}
            return self._lua.table_from(pairs)
        return value.encode() if isinstance(value, str) else value


def _argument(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):
        return b"%d" % value
    return b"%.17g" % value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, int | float):
        return value
    if value[1] is None and list(value):
        return {name.decode(): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value.values()]


def _no_call(_args: tuple[bytes, ...]) -> Reply:
    raise ReplyError("ERR no function runs")


@functools.cache
def load(code: str) -> Library:
    """Load a library, once for all servers: it takes some milliseconds."""
    return Library(code)
