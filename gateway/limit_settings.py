"""The settings of limits by rate; 0 lifts each. `Settings` holds them with all others."""

from typing import Annotated

import msgspec
from msgspec import Meta

from router.model.limits import UNLIMITED, PerMinute, PerSecond, Rate
from router.policy.rates import BURST_S, MINUTE_S, Limits, rate


class LimitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is accepted of whom, and how fast."""

    project_sends_per_s: Annotated[
        PerSecond, Meta(description="Messages that a project may send; two seconds' worth at once.")
    ] = 5000.0
    key_sends_per_s: Annotated[
        PerSecond, Meta(description="Messages that one API key may send; 0: no limit of its own.")
    ] = 0.0
    project_publishes_per_s: Annotated[
        PerSecond, Meta(description="Of a project's messages, those to many devices at once.")
    ] = 500.0
    device_sends_per_min: Annotated[
        PerMinute, Meta(description="Messages that one device is sent, beyond device_sends_burst.")
    ] = 240.0
    device_sends_burst: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Messages that one device may be sent at once.")
    ] = 1000
    topic_publishes_per_min: Annotated[
        PerMinute, Meta(description="Messages to one topic; a minute's worth at once.")
    ] = 6000.0
    address_registrations_per_min: Annotated[
        PerMinute,
        Meta(description="Registrations with a client key from one address (of IPv6: /64)."),
    ] = 600.0
    address_connections_per_min: Annotated[
        PerMinute,
        Meta(
            description="Connections from one address (of IPv6: /64) to the device port, a shard."
        ),
    ] = 600.0
    device_frames_per_s: Annotated[
        PerSecond,
        Meta(description="Frames that one device may send; ten seconds' worth at once."),
    ] = 1000.0
    api_max_connections: Annotated[
        int,
        Meta(ge=0, description="Connections to the API, a process; 0: as descriptors allow."),
    ] = 4000
    api_queue_s: Annotated[
        float,
        Meta(ge=0, le=60, description="Seconds that requests may take on average; 0: any."),
    ] = 0.1
    address_limits_on_loopback: Annotated[
        bool, Meta(description="Whether the limits by address hold for loopback addresses too.")
    ] = False
    trusted_proxies: Annotated[
        str,
        Meta(
            description="Comma-separated addresses and networks (CIDR) of proxies whose "
            "X-Forwarded-For or Forwarded counts; empty for none."
        ),
    ] = ""

    def project_limits(self) -> Limits:
        """Give what holds for a project that sets nothing."""
        return Limits(
            rate(self.project_sends_per_s, self.project_sends_per_s * BURST_S),
            rate(self.key_sends_per_s, self.key_sends_per_s * BURST_S),
            rate(self.project_publishes_per_s, self.project_publishes_per_s * BURST_S),
            rate(self.device_sends_per_min / MINUTE_S, self.device_sends_burst),
            per_minute(self.topic_publishes_per_min),
        )


def per_minute(number: float) -> Rate:
    """Give a rate of which a minute's worth may come at once."""
    return rate(number / MINUTE_S, number) if number else UNLIMITED
