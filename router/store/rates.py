"""Token buckets of many processes: charged in one function, by the store's clock.

Before: `router.quotas`. After: `lua/charge.lua`.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Final, cast

from router.model.limits import Bucket, Level
from router.policy.rates import SECOND_US
from router.store.connection import Store
from router.store.link import Reply, fields

_REMEMBERED: Final = 1024


@functools.lru_cache(maxsize=_REMEMBERED)
def number(value: float) -> str:
    """Write a number for a function of the store; `0` alone means no limit."""
    return repr(value) if value else "0"


class Rates:
    """Takes tokens."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._charge = store.library.function("charge")

    def begin_charge(self, buckets: Sequence[Bucket], most: int) -> asyncio.Future[Reply]:
        """Begin to take `most` tokens from all buckets, which have one hash tag.

        A repeat after an unknown outcome takes again: it errs to the safe side.
        """
        settings = [number(part) for one in buckets for part in (one.rate.per_s, one.rate.burst)]
        return self._store.batch.fcall(
            self._charge, tuple(bucket.key for bucket in buckets), (most, *settings)
        )

    @staticmethod
    def charged(reply: Reply) -> tuple[int, list[Level]]:
        """Read how many were taken, and how each bucket stands after it."""
        taken, *levels = cast("list[int]", fields(reply))
        return taken, [
            Level(left, wait_us / SECOND_US)
            for left, wait_us in zip(levels[::2], levels[1::2], strict=True)
        ]
