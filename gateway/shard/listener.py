"""Accept devices: the port, admission, TLS, and the tick that drives the timer wheel."""

import asyncio
import contextlib
import math
import resource
import ssl
from collections.abc import Mapping
from typing import Final

import structlog

from gateway.acceptors import Acceptors, open_port
from gateway.limit_settings import per_minute
from gateway.process import Clock, opening
from gateway.settings import Settings, clients_of
from gateway.shard.connection import Connection
from gateway.shard.dialect import Dialect
from gateway.shard.doorkeeper import Doorkeeper
from gateway.shard.environment import FULL_RETRY_S, Environment, Services
from gateway.shard.events import SessionLimits
from gateway.shard.handshake import Refusal, make_terms
from gateway.shard.secure_port import SecurePort
from gateway.shard.timer_wheel import TICK_MS, TimerWheel
from router.model.limits import Limit
from router.telemetry.metrics import Metrics

BACKLOG: Final = 4096
"""Connections that the kernel accepts ahead of us; it has its own limit, net.core.somaxconn."""
_ACCEPTED: Final = 32
"""Connections in a turn of the loop; sessions wait meanwhile."""
RESERVED_DESCRIPTORS: Final = 256
"""For the store, logs, metrics and what else a process opens."""
RECEIVE_BUFFER: Final = 16_384
"""Bytes that the kernel is asked to hold of a device, which says little; it takes twice that.

The loop reads a socket until it is empty: with the kernel's default a device that floods the shard
with small frames would have it to itself for seconds.
"""
REFUSED_EXTRA: Final = 64
"""Sockets above the limit that are held for a moment to be refused politely."""
BURST_S: Final = 1.0
"""Seconds' worth of handshakes that may come at once."""
FRAMES_BURST_S: Final = 10.0
"""Seconds' worth of frames that a device may send at once."""
_LIMITS: Final = {"address": Limit.CONNECTIONS.value, "frames": Limit.FRAMES.value}
CLOCK_JUMP_MS: Final = 5_000
"""So far apart the two clocks go when somebody has set the wall clock, or the machine slept."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger("shard.listener")


def socket_limit(configured: int) -> int:
    """Give how many devices this process takes: as configured, and no more than descriptors allow.

    Args:
        configured: `settings.max_connections`; 0 for as many as descriptors allow.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return configured or 1_000_000
    reserve = min(RESERVED_DESCRIPTORS, soft // 4) + min(REFUSED_EXTRA, soft // 8)
    return min(configured, soft - reserve) if configured else soft - reserve


class TokenBucket:
    """A rate with a burst. Times in seconds on a clock that never goes back.

    Args:
        rate: tokens a second.
        burst: tokens that may be saved up, at least 1.
        now_s: the time.
    """

    __slots__ = ("_burst", "_rate", "_seen_s", "_tokens")

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1.0)
        self._tokens = self._burst
        self._seen_s = now_s

    def take(self, now_s: float) -> float:
        """Take one token and give 0, or give the seconds until there is one."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Make the TLS context of the settings; None where they name no certificate.

    Raises:
        OSError: a file cannot be read, or is not what it should be (`ssl.SSLError`).
    """
    if not settings.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Listener:
    """The device port of one shard.

    Args:
        settings: host, limits, origins, TLS.
        services: what the shard does for its connections.
        dialects: by subprotocol, the preferred one first.
        limits: what all sessions share.
        clock: wall and monotonic time.
        metrics: where refused handshakes are counted.
    """

    def __init__(
        self,
        settings: Settings,
        services: Services[Connection],
        dialects: Mapping[str, Dialect],
        limits: SessionLimits,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._services = services
        self._clock = clock
        self._metrics = metrics
        self._limit = socket_limit(settings.max_connections)
        rate = settings.handshake_rate
        self._bucket = TokenBucket(rate, rate * BURST_S, clock.monotonic())
        self._wheel: TimerWheel[Connection] = TimerWheel(clock.now_ms())
        self._wall_ahead_ms = self._ahead_ms(clock.now_ms())
        self._plain: Acceptors | None = None
        self._secure: SecurePort | None = None
        self._timer: asyncio.TimerHandle | None = None
        connections = per_minute(settings.address_connections_per_min)
        self._doorkeeper = Doorkeeper(clients_of(settings), connections, clock.monotonic)
        self._emptied = asyncio.Event()
        self._environment = Environment(
            services=services,
            admit=self._admit,
            refused=self._count_refused,
            wheel=self._wheel,
            now_ms=clock.now_ms,
            terms=make_terms(tuple(dialects), settings.allowed_origins),
            dialects=dialects,
            limits=limits,
            max_frame_bytes=settings.max_frame_bytes,
            handshake_ms=round(settings.connect_timeout_s * 1000),
            slow_consumer_ms=round(settings.slow_consumer_s * 1000),
            max_sockets=self._limit + REFUSED_EXTRA,
            emptied=self._emptied.set,
            doorkeeper=self._doorkeeper,
            entered=bool(settings.tls_cert),
            frame_ms=1000 / frames if (frames := settings.device_frames_per_s) else 0.0,
            frames_ms=FRAMES_BURST_S * 1000,
        )

    @property
    def sockets(self) -> int:
        """Sockets held, sessions or not."""
        return self._environment.sockets

    async def start(self) -> int:
        """Listen on `settings.device_port`; give the port, which the kernel picks for 0.

        Raises:
            PushError: the port cannot be had.
            OSError: a TLS file cannot be read.
        """
        host, device_port = self._settings.host, self._settings.device_port
        tls = tls_context(self._settings)
        with opening("device_port", host, device_port):
            port = await self._open(host, device_port, tls)
        self._tick()
        return port

    def stop_accepting(self) -> None:
        """Close the port; connections stay. May be called again."""
        if self._plain is not None:
            self._plain.close()
        if self._secure is not None:
            self._secure.stop_accepting()

    async def close(self, timeout_s: float = 1.0) -> None:
        """Close the port, drop every socket, and wait for their ends, for a while."""
        self.stop_accepting()
        if self._secure is not None:
            await self._secure.close()
        for connection in self._wheel:
            connection.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self._environment.sockets:
                    self._emptied.clear()
                    await self._emptied.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _accepted(self) -> Connection:
        return Connection(self._environment)

    async def _open(self, host: str, device_port: int, tls: ssl.SSLContext | None) -> int:
        if tls is not None:
            self._secure = SecurePort(self._environment, tls, self._settings.connect_timeout_s)
            return await self._secure.open(host, device_port, BACKLOG, RECEIVE_BUFFER)
        self._plain = await open_port(
            self._accepted, host, device_port, BACKLOG, _ACCEPTED, RECEIVE_BUFFER
        )
        return self._plain.address[1]

    def _admit(self) -> Refusal | None:
        if self._environment.sockets > self._limit:
            return Refusal("full", FULL_RETRY_S)
        if (refusal := self._services.admit()) is not None:
            return refusal
        if wait_s := self._bucket.take(self._clock.monotonic()):
            return Refusal("rate", max(1, math.ceil(wait_s)))
        return None

    def _count_refused(self, reason: str) -> None:
        if reason in _LIMITS:
            self._metrics.limit_refusals.labels(_LIMITS[reason]).inc()
            if reason == "frames":
                return
        self._metrics.connects.labels(reason).inc()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_MS / 1000, self._tick)
        now_ms = self._clock.now_ms()
        self._metrics.limit_addresses.labels("shard").set(len(self._doorkeeper))
        self._bear_jump(now_ms)
        for connection in self._wheel.advance(now_ms):
            try:
                connection.tick(now_ms)
            except Exception:  # noqa: BLE001 - one broken session must not stop the others' clock
                _log.exception("connection.tick_failed")
                connection.abort()

    def _ahead_ms(self, now_ms: int) -> int:
        return now_ms - round(self._clock.monotonic() * 1000)

    def _bear_jump(self, now_ms: int) -> None:
        """Spare the sessions a jump of the wall clock: they would all seem silent at once."""
        ahead_ms = self._ahead_ms(now_ms)
        jump_ms = ahead_ms - self._wall_ahead_ms
        self._wall_ahead_ms = ahead_ms
        if abs(jump_ms) < CLOCK_JUMP_MS:
            return
        _log.warning("clock.jumped", by_ms=jump_ms)
        for connection in self._wheel:
            if connection.open:
                connection.session.on_clock(jump_ms)
