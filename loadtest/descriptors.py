"""How many files and sockets a process may have open (getrlimit(2))."""

import resource
from typing import Final

_MOST: Final = 1_048_576
"""What Linux allows at the most unless told otherwise (fs.nr_open)."""


def allow_descriptors(needed: int) -> int:
    """Allow this process and its children as many descriptors as the hard limit does.

    Returns:
        The hard limit, where it is less than `needed` and nothing was changed; else 0.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        return hard
    if soft != resource.RLIM_INFINITY:
        top = hard if hard != resource.RLIM_INFINITY else max(needed, _MOST)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
    return 0
