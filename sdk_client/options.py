"""Who connects, and the bounds and times of a session."""

from dataclasses import dataclass

from sdk_client.backoff import BASE_S, CAP_S


@dataclass(slots=True)
class Identity:
    """Who connects. `token` is kept up to date by the gateway's word."""

    credential: str
    token: str = ""
    app_version: str = ""
    sdk: str = "pushwire-python"


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds and times, seconds."""

    dialect: str = "msgpack"
    """`msgpack` or `json`."""
    heartbeat_s: float = 60.0
    """Between pings, as asked for; the gateway has the last word. 0: the gateway's choice."""
    pong_timeout_s: float = 10.0
    """How long after a ping the connection may stay silent."""
    welcome_timeout_s: float = 15.0
    lasting_s: float = 5.0
    """A connection that lived so long resets the backoff."""
    backoff_base_s: float = BASE_S
    backoff_cap_s: float = CAP_S
    seen_limit: int = 4_096
    """Ids that are remembered. The gateway can repeat at most what is pending, 1,000 by default."""
    max_unhandled: int = 1_024
    """Messages that wait for the handler; the gateway's window keeps them far below."""
    max_requests: int = 1_000
    max_requests_in_flight: int = 8
    request_retry_s: float = 1.0
    max_outbox: int = 1_000
    """Engagement events kept while there is no connection; the oldest give way."""
