"""The server-side functions: one library made from `lua/*.lua`, one transition per file.

The library and its functions carry a digest of their text in their names, so that two versions of
Pushwire can run on one store while it is being upgraded.
"""

import functools
import hashlib
import re
from importlib import resources
from typing import Final

from router.store.link import Link, LinkError, fields

_FLAGS: Final = re.compile(r"^-- FLAGS: *(.*)$", re.MULTILINE)
_SHARED: Final = ("prelude.lua", "prelude_topics.lua", "prelude_bridges.lua")
"""What functions share, in the order in which one part needs the other."""


def _function(name: str, digest: str, body: str) -> str:
    found = _FLAGS.search(body)
    flags = "".join(f"'{flag}'," for flag in found[1].split()) if found else ""
    return (
        f"redis.register_function{{function_name='{name}_{digest}',flags={{{flags}}},"
        f"callback=function(keys, args) call = redis.call\n{body}\nend}}\n"
    )


class Library:
    """The text of the library and the names in it."""

    def __init__(self) -> None:
        sources = {
            entry.name: entry.read_text("utf-8")
            for entry in resources.files("router.store").joinpath("lua").iterdir()
            if entry.name.endswith(".lua")
        }
        joined = "".join(f"{name}\n{text}" for name, text in sorted(sources.items()))
        self.digest: str = hashlib.sha256(joined.encode()).hexdigest()[:8]
        prelude = "\n".join(sources.pop(name) for name in _SHARED)
        self.functions: frozenset[str] = frozenset(name[: -len(".lua")] for name in sources)
        self.name: str = f"pushwire_{self.digest}"
        bodies = "".join(
            _function(name[: -len(".lua")], self.digest, text)
            for name, text in sorted(sources.items())
        )
        self.code: str = f"#!lua name={self.name}\n{prelude}\n{bodies}"

    def function(self, name: str) -> str:
        """Give the full name of a function, as FCALL takes it."""
        if name not in self.functions:
            raise LookupError(name)
        return f"{name}_{self.digest}"

    async def ensure(self, link: Link) -> None:
        """Load the library where the server does not have it.

        Raises:
            LinkError: the server does not take it.
        """
        if fields(await link.request("FUNCTION", "LIST", "LIBRARYNAME", self.name)):
            return
        try:
            await link.request("FUNCTION", "LOAD", self.code)
        except LinkError as error:
            if "already exists" not in str(error):
                raise


@functools.cache
def shared() -> Library:
    """Give the library; its text is read once."""
    return Library()
