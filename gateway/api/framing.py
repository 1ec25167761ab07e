"""Where the requests of a connection begin and end, as far as that is plain. Sans-I/O.

A request can be refused without parsing it only where it is certain that one begins here and where
it ends: otherwise an answer would be taken for that of another request. So this follows requests
with a Content-Length, or without a body, that come one at a time. At the first sign of anything
else it is `lost`, and stays so: the parser decides.
"""

import re
from typing import Final

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length: "
_CONNECTION: Final = b"\r\nconnection:"
_KEEP: Final = b"\r\nconnection: keep-alive\r\n"
_FIRST: Final = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n")
_MOST_DIGITS: Final = 15


class Framing:
    """The requests of one connection."""

    __slots__ = ("_head", "body", "left", "lost")

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the body that are still to come; 0: whole, or none has begun."""
        self.body = 0
        """Bytes of the body of the last request."""
        self.lost = False
        """Whether what follows is not known."""
        self._head = b""
        """Of the last request, with the empty line: a client often sends the same one again."""

    def begin(self, data: bytes) -> bool:
        """Take the first bytes of a request, while nothing is `left`; False where it is `lost`."""
        known = self._head
        if known and data.startswith(known):
            self.left = self.body - len(data) + len(known)
            return self.left >= 0 or self._lose()
        end = data.find(_END)
        if end < 0:
            return self._lose()
        head = data[: end + 2].lower()
        length = _length(head)
        if length < 0 or not _FIRST.match(data) or _is_odd(head):
            return self._lose()
        self.body = length
        self._head = data[: end + len(_END)]
        self.left = length - len(data) + len(self._head)
        return self.left >= 0 or self._lose()

    def go_on(self, data: bytes) -> bool:
        """Take bytes of the body that was `left`; False where it is `lost`."""
        self.left -= len(data)
        return self.left >= 0 or self._lose()

    def _lose(self) -> bool:
        self.lost = True
        return False


def _length(head: bytes) -> int:
    """Give the Content-Length of a head in lower case, 0 where it has none; -1 for an odd one."""
    count = head.count(b"\r\ncontent-length")
    if not count:
        return 0
    at = head.find(_LENGTH) + len(_LENGTH)
    digits = head[at : head.find(b"\r\n", at)]
    if count > 1 or at < len(_LENGTH) or not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return -1
    return int(digits)


def _is_odd(head: bytes) -> bool:
    """Tell whether the body may end elsewhere than where its length says, or the connection."""
    return (
        b"\r\ntransfer-encoding" in head
        or b"\r\nexpect" in head
        or b"\r\nupgrade" in head
        or (_CONNECTION in head and (head.count(_CONNECTION) > 1 or _KEEP not in head))
        or head.count(b"\n") != head.count(b"\r\n")
    )
