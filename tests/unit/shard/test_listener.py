"""The listener: admission, limits, TLS, its end; on asyncio's loop (conformance has uvloop)."""

import asyncio
import contextlib
import json
import resource
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typing_extensions import override

from gateway.process import Clock
from gateway.shard import listener as module
from gateway.shard.listener import RECEIVE_BUFFER, TokenBucket, socket_limit
from tests.conformance.door import Client, open_door
from tests.conformance.wire import TEXT, close, frame, opening_request
from tests.support.certificate import make_certificate
from tests.support.waiting import eventually


class SetClock(Clock):
    """A wall clock that somebody may set."""

    ahead_ms = 0

    @override
    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


async def refused(client: Client) -> bytes:
    client.send(opening_request())
    return await client.raw_to_end()


# Admission.


@given(
    st.floats(0.5, 1000),
    st.floats(0, 50),
    st.lists(st.floats(0, 3), min_size=1, max_size=60),
)
def test_the_bucket_never_gives_more_than_rate_and_burst(
    rate: float, burst: float, gaps: list[float]
) -> None:
    bucket = TokenBucket(rate, burst, 0.0)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        taken += not wait
        assert taken <= max(burst, 1) + rate * now + 1e-6
        if wait:
            assert wait <= 1 / rate + 1e-9
            assert TokenBucket.take(bucket, now + wait + 1e-6) == 0
            now += wait + 1e-6
            taken += 1


def test_the_limit_of_sockets_leaves_descriptors_for_the_rest() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1000, hard), hard))
        assert socket_limit(0) == 1000 - 250 - 64
        assert socket_limit(100) == 100
        assert socket_limit(100_000) == socket_limit(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_full_shard_refuses_politely_and_serves_again_when_one_leaves() -> None:
    async with open_door(max_connections=2) as door:
        first, second = await door.client(), await door.client()
        await first.open()
        await second.open()
        third = await door.client()
        answer = await refused(third)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5\r\n" in answer
        third.close()
        first.send(close(1000))
        await first.to_end()
        first.close()
        await eventually(lambda: door.listener.sockets == 1)
        fourth = await door.client()
        await fourth.open()
        assert door.metrics.connects.labels("full")._value.get() == 1


async def test_a_storm_of_handshakes_is_told_to_wait() -> None:
    async with open_door(handshake_rate=1.0) as door:
        first, second = await door.client(), await door.client()
        await first.open()
        answer = await refused(second)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert door.metrics.connects.labels("rate")._value.get() == 1


async def test_the_socket_sends_at_once() -> None:
    async with open_door() as door:
        client = await door.client()
        await client.open()
        transport = door.shard.opened_ones[0]._transport
        assert transport is not None
        accepted = transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_the_kernel_holds_little_of_a_device_so_that_none_has_the_loop_to_itself() -> None:
    async with open_door() as door:
        client = await door.client()
        await client.open()
        transport = door.shard.opened_ones[0]._transport
        assert transport is not None
        accepted = transport.get_extra_info("socket")
        held = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        assert held <= 2 * RECEIVE_BUFFER


async def test_two_shards_share_one_port() -> None:
    async with open_door() as door, open_door(device_port=door.port) as other:
        assert other.port == door.port
        for _ in range(20):
            await (await door.client()).open()
        assert len(door.shard.opened_ones) + len(other.shard.opened_ones) == 20


# The end.


async def test_stopping_leaves_connections_alone_and_closing_drops_them() -> None:
    async with open_door() as door:
        client = await door.device()
        idle = await door.client()
        door.listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", door.port)
        assert door.shard.opened_ones[0].open
        await door.listener.close()
        assert door.listener.sockets == 0
        assert door.shard.reasons == ["lost"]
        assert await client.raw_to_end() == b""
        assert await idle.raw_to_end() == b""
        await door.listener.close()


@pytest.mark.slow
async def test_a_session_that_breaks_is_dropped_and_the_others_go_on() -> None:
    async with open_door(connect_timeout_s=0.2) as door:
        first, second = await door.client(), await door.client()
        await first.open()
        await second.open()
        del door.shard.opened_ones[0].session
        with capture_logs() as logs:
            assert [answer.code for answer in await second.frames(1)] == [4008]
            await first.raw_to_end()
        assert [entry["event"] for entry in logs] == ["connection.tick_failed"]
        door.shard.opened_ones[0].session = door.shard.opened_ones[1].session


# TLS.


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return make_certificate(tmp_path)


async def test_speaks_tls_where_a_certificate_is_set(certificate: tuple[Path, Path]) -> None:
    cert_file, key_file = map(str, certificate)
    context = ssl.create_default_context(cafile=cert_file)
    async with open_door(tls_cert=cert_file, tls_key=key_file) as door:
        streams = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=context, server_hostname="localhost"
        )
        client = Client(*streams)
        await client.connect_device()
        client.send(close(1000))
        assert [answer.code for answer in await client.to_end()] == [1000]
        assert door.shard.reasons == ["client_close"]
        client.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await client.writer.wait_closed()


async def test_a_socket_without_its_tls_counts_until_the_handshake_takes_too_long(
    certificate: tuple[Path, Path],
) -> None:
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    async with open_door(None, **tls, connect_timeout_s=1.0) as door:
        silent, stray = await door.client(), await door.client()
        await eventually(lambda: door.listener.sockets == 2)
        stray.send(opening_request())
        assert b"HTTP" not in await stray.raw_to_end()
        await eventually(lambda: door.listener.sockets == 1)
        assert await silent.raw_to_end() == b""
        await eventually(lambda: door.listener.sockets == 0)


async def test_half_open_sockets_take_the_places_of_a_shard_under_tls(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFUSED_EXTRA", 0)
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    context = ssl.create_default_context(cafile=str(certificate[0]))

    async def secured() -> Client:
        return Client(
            *await asyncio.open_connection(
                "127.0.0.1", door.port, ssl=context, server_hostname="localhost"
            )
        )

    async with open_door(None, **tls, max_connections=2) as door:
        first = await secured()
        await first.connect_device()
        silent = await door.client()
        await eventually(lambda: door.listener.sockets == 2)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await secured()
        assert door.metrics.connects.labels("full")._value.get() == 1
        silent.close()
        await eventually(lambda: door.listener.sockets == 1)
        second = await secured()
        await second.connect_device()
        assert door.listener.sockets == 2
        for client in (first, second):
            client.close()
        await eventually(lambda: door.listener.sockets == 0)


async def test_an_address_is_judged_before_its_tls_and_once(
    certificate: tuple[Path, Path],
) -> None:
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    limits = {"address_connections_per_min": 2.0, "address_limits_on_loopback": True}
    context = ssl.create_default_context(cafile=str(certificate[0]))
    async with open_door(None, **tls, **limits) as door:
        await door.client()
        await eventually(lambda: door.listener.sockets == 1)
        streams = await asyncio.open_connection(
            "127.0.0.1", door.port, ssl=context, server_hostname="localhost"
        )
        await Client(*streams).connect_device()
        third = await door.client()
        assert await third.raw_to_end() == b""
        assert door.metrics.connects.labels("address")._value.get() == 1
        streams[1].close()


async def test_under_tls_closing_drops_half_open_sockets_too(
    certificate: tuple[Path, Path],
) -> None:
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    async with open_door(None, **tls) as door:
        silent = await door.client()
        await eventually(lambda: door.listener.sockets == 1)
        await door.listener.close()
        assert door.listener.sockets == 0
        assert await silent.raw_to_end() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", door.port)


async def test_under_tls_two_shards_share_one_port(certificate: tuple[Path, Path]) -> None:
    tls = {"tls_cert": str(certificate[0]), "tls_key": str(certificate[1])}
    async with (
        open_door(None, **tls) as door,
        open_door(None, **tls, device_port=door.port) as other,
    ):
        assert other.port == door.port


async def test_a_bad_certificate_stops_the_start(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(ssl.SSLError):
        async with open_door(tls_cert=str(bad), tls_key=str(bad)):
            pass


# Descriptors.

STARVED = """
import asyncio, json, os, resource, socket, sys, time
import uvloop
from gateway.shard import listener
from tests.conformance.door import open_door

async def main():
    listener.RESERVED_DESCRIPTORS = listener.REFUSED_EXTRA = 0
    async with open_door() as door:
        with open(os.devnull) as spare:
            used = spare.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, used + 10))
        crowd = await asyncio.create_subprocess_exec(
            sys.executable, "-c", sys.argv[1], str(door.port), stdout=-1, stdin=-1)
        await crowd.stdout.readline()
        await asyncio.sleep(0.2)
        before = time.process_time()
        await asyncio.sleep(0.5)
        spent = time.process_time() - before
        held = door.listener.sockets
        crowd.stdin.close()
        await crowd.wait()
        while door.listener.sockets:
            await asyncio.sleep(0.01)
        client = await door.client()
        await client.open()
        print(json.dumps({"held": held, "spent_s": spent}))

uvloop.run(main())
"""
CROWD = """
import socket, sys
crowd = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(40)]
print("here", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def starved() -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", STARVED, CROWD], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


@pytest.mark.slow
def test_without_descriptors_it_neither_spins_nor_stops_for_good(
    starved: dict[str, float],
) -> None:
    assert starved["held"] <= 10
    assert starved["spent_s"] < 0.25


async def test_a_wall_clock_that_is_set_ends_no_session() -> None:
    clock = SetClock()
    async with open_door(clock) as door:
        device = await door.device()
        with capture_logs() as logs:
            clock.ahead_ms = 3_600_000
            await eventually(lambda: [line["event"] for line in logs] == ["clock.jumped"])
            device.send(frame(TEXT, b'{"op":"ping"}'))
            (pong,) = await device.frames(1)
        assert pong.payload == b'{"op":"pong"}'
        assert not door.shard.reasons
