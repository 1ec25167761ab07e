"""Token buckets, kept as one number each: GCRA (ITU-T I.371, the virtual scheduling algorithm).

The number is the theoretical arrival time: when the bucket is full again. `charge` in
`router/store/lua/prelude.lua` is this very code by the store's clock; tests hold the two together.
"""

import math
from typing import Final

import msgspec

from router.model.limits import UNLIMITED, Limit, ProjectLimits, Rate

SECOND_US: Final = 1_000_000
MINUTE_S: Final = 60
SLOWEST_PER_S: Final = 1 / 86_400
"""A rate below one token a day counts as that: its waits would be past what a number can hold."""
BURST_S: Final = 2.0
"""So many seconds' worth of a project's rate may come at once."""
SLACK: Final = 0.001
"""Tokens that rounding may have eaten: a double holds today's microseconds to a quarter."""


class Charged(msgspec.Struct, frozen=True, gc=False):
    """What a charge gave; times in microseconds."""

    granted: int
    full_us: float
    """When the bucket is full again: what is to be kept of it."""
    left: int
    """Tokens that are there still."""
    wait_us: float
    """From now until one token is there, 0 where there is one."""


def charge(full_us: float, now_us: int, rate: Rate, most: int) -> Charged:
    """Take as many of `most` tokens as there are.

    A bucket that seems emptier than empty (the clock was set back, a slow rate lifted) counts as
    empty: nobody waits longer than a bucket takes to fill. Where nothing was taken of such a one,
    what came of it has to be kept all the same, or it would never fill.

    Args:
        full_us: what was kept of the bucket; 0 for a new one, which is full.
        now_us: the time.
        rate: tokens a second, above 0, and the bucket's size, at least 1.
        most: tokens wanted.
    """
    emptiest_us = now_us + rate.burst * SECOND_US / rate.per_s
    start_us = min(max(full_us, now_us), emptiest_us)
    room = math.floor(rate.burst - (start_us - now_us) * rate.per_s / SECOND_US + SLACK)
    granted = max(min(room, most), 0)
    after_us = start_us + granted * SECOND_US / rate.per_s
    wait_us = max(after_us - now_us + (1 - rate.burst) * SECOND_US / rate.per_s, 0.0)
    left = max(room, 0) - granted
    return Charged(granted, after_us, left, 0.0 if left else wait_us)


class Limits(msgspec.Struct, frozen=True):
    """The rates that hold for a project."""

    sends: Rate = UNLIMITED
    key_sends: Rate = UNLIMITED
    publishes: Rate = UNLIMITED
    device: Rate = UNLIMITED
    topic: Rate = UNLIMITED


def rate(per_s: float, burst: float) -> Rate:
    """Make a rate: 0 a second is no limit, and a bucket has room for one token at least."""
    return Rate(max(float(per_s), SLOWEST_PER_S), max(float(burst), 1.0)) if per_s else UNLIMITED


def effective(defaults: Limits, overrides: ProjectLimits) -> Limits:
    """Put what is set for a project in the place of the defaults; bursts grow with their rates."""

    def chosen(default: Rate, given: float | None, window_s: float) -> Rate:
        if given is None:
            return default
        per_s = given / window_s
        seconds = default.burst / default.per_s if default.per_s else BURST_S * window_s
        return rate(per_s, per_s * seconds)

    return Limits(
        chosen(defaults.sends, overrides.sends_per_second, 1),
        chosen(defaults.key_sends, overrides.key_sends_per_second, 1),
        chosen(defaults.publishes, overrides.publishes_per_second, 1),
        chosen(defaults.device, overrides.device_sends_per_minute, MINUTE_S),
        chosen(defaults.topic, overrides.topic_publishes_per_minute, MINUTE_S),
    )


def policy(limit: Limit, rate: Rate) -> str:
    """Write a rate as an item of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-09, 3).

    The quota is the burst, the window the time in which an empty bucket fills.
    """
    window_s = max(1, round(rate.burst / rate.per_s))
    return f'"{limit.value}";q={max(1, int(rate.per_s * window_s))};w={window_s}'
