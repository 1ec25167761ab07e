"""Whether the settings of the export go together: asked at every start."""

import re
from typing import Final

from router.export.encoder import Compression, Format, missing
from router.export.sink import scheme_of, sink_modules

_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e]*[\x21-\x7e])[ \t]*")
"""RFC 9110, section 5: a token, a colon, visible characters."""
_OURS: Final = frozenset({"content-length", "transfer-encoding", "host", "connection"})


def violation(url: str, format_: str, compression: str, headers: str) -> str:
    """Say what is wrong as `<setting>: …`, without quoting what may be secret; empty where nothing.

    Args:
        url: where files go; empty for no export.
        format_: a `Format`.
        compression: a `Compression`.
        headers: one a line.
    """
    if not url:
        return ""
    modules = sink_modules()
    module = modules.get(scheme_of(url))
    if module is None:
        return f"export_url: accepts URLs that begin with {' or '.join(sorted(modules))}"
    if accepted := module.violation(url):
        return f"export_url: accepts {accepted}"
    if lacking := missing(Format(format_), Compression(compression)):
        return f"export_format {format_}, export_compression {compression}: {lacking}"
    if parse_headers(headers) is None:
        return (
            "export_headers: accepts headers such as `Authorization: Bearer …`, one a line, "
            f"none of {', '.join(sorted(_OURS))}"
        )
    return ""


def parse_headers(text: str) -> tuple[tuple[str, str], ...] | None:
    """Read headers, one a line; None where one is malformed or belongs to the connection."""
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        match = _HEADER.fullmatch(line)
        if match is None or match[1].lower() in _OURS:
            return None
        found.append((match[1], match[2]))
    return tuple(found)
