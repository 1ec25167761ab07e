"""What pushes through bridges cost: a case of `make bench`."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loadtest import senders
from loadtest.cases import BATCH_SIZE, BATCHES_AT_ONCE, Say, Scale
from loadtest.gateway import Gateway, Project, create_project, serve
from loadtest.http import encode_request, open_connection
from loadtest.processes import CpuMeter
from loadtest.push_providers import (
    NAME,
    Counts,
    Fcm,
    Http2,
    apns_key,
    service_account,
    tls_context,
)
from loadtest.recorder import Figure
from loadtest.senders import Account

APNS_US: Final = 250.0
FCM_US: Final = 350.0
ANSWER_S: Final = 0.1
"""What a provider takes to answer."""
FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
SETTLE_S: Final = 1.5
"""Every process knows of a new bridge after this."""
_AT_ONCE: Final = 16
_LIMIT_S: Final = 120.0
_OK: Final = (200, 201)


class Way(msgspec.Struct, frozen=True):
    """A project's bridge to a provider that counts."""

    says: str
    bridge: str
    target_us: float
    project: Project
    account: Account
    counts: Counts


async def bridges(scale: Scale, say: Say) -> list[Figure]:
    """Push to devices that are away: the worker's CPU for each push to APNs and to FCM."""
    pushes = scale.messages // 2
    async with _bench() as (gateway, ways):
        tokens = {way.says: await register(way, scale.devices) for way in ways}
        runs: dict[str, list[float]] = {way.says: [] for way in ways}
        for run in range(scale.runs + 1):
            for way in ways:
                cpu_us, seconds = await _run(gateway, way, tokens[way.says], pushes)
                say(
                    f"{way.says}: {pushes / seconds:.0f} pushes/s, {way.counts.most} under way "
                    f"over {way.counts.connections} connections, {cpu_us:.0f} µs of the worker each"
                )
                if run > 0:  # the first one warms up
                    runs[way.says].append(cpu_us)
        return [_figure(way, runs[way.says], pushes, scale.devices) for way in ways]


def _figure(way: Way, runs: list[float], pushes: int, devices: int) -> Figure:
    note = (
        f"all that a worker does, {pushes} pushes, {devices} devices, answers after "
        f"{ANSWER_S * 1000:.0f} ms, {way.counts.most} under way over {way.counts.connections} "
        "connections"
    )
    return Figure(
        name=f"worker CPU per push to {way.says}",
        unit="µs",
        runs=tuple(runs),
        target=way.target_us,
        note=note,
    )


async def _run(gateway: Gateway, way: Way, tokens: list[str], messages: int) -> tuple[float, float]:
    """Give the worker's CPU for each push in microseconds, and the seconds that all took."""
    meter = CpuMeter(gateway.pids())
    loop = asyncio.get_running_loop()
    begun_s, before = loop.time(), way.counts.taken
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(way.counts.until(before + messages, _LIMIT_S))
        sending = senders.send_batches(way.account, tokens, messages, BATCH_SIZE, BATCHES_AT_ONCE)
        tasks.create_task(sending)
    seconds = loop.time() - begun_s
    await asyncio.sleep(SETTLE_S)  # its receipts belong to it
    return 1e6 * meter.spent_s()["worker"] / messages, seconds


@contextlib.asynccontextmanager
async def _bench() -> AsyncIterator[tuple[Gateway, list[Way]]]:
    """Run a gateway; FCM over HTTP/1.1 has a project of its own."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-")))
        gateway = await stack.enter_async_context(serve(folder / "data", flags=FLAGS))
        both = await create_project(gateway.data_dir, "bench")
        plain = await create_project(gateway.data_dir, "bench-plain")
        context, ca = tls_context(folder)

        async def http2(counts: Counts, body: bytes) -> str:
            server = await loop.create_server(
                lambda: Http2(counts, ANSWER_S, body), "127.0.0.1", 0, ssl=context
            )
            await stack.enter_async_context(server)
            return f"https://localhost:{server.sockets[0].getsockname()[1]}"

        def way(says: str, bridge: str, target_us: float, project: Project) -> Way:
            account = Account(gateway.api, project.project, project.api_key)
            return Way(says, bridge, target_us, project, account, Counts())

        apns = way("APNS", "apns", APNS_US, both)
        fcm = way("FCM", "fcm", FCM_US, both)
        fcm1 = way("FCM over HTTP/1.1", "fcm", FCM_US, plain)
        await put(apns.account, "apns", apns_setup(await http2(apns.counts, b""), ca))
        google = await stack.enter_async_context(
            await asyncio.start_server(Fcm(fcm1.counts, ANSWER_S).serve, "127.0.0.1", 0)
        )
        origin = f"http://127.0.0.1:{google.sockets[0].getsockname()[1]}"
        given = {"service_account": service_account(origin)}
        endpoint = await http2(fcm.counts, NAME)
        await put(fcm.account, "fcm", {**given, "endpoint": endpoint, "ca": ca})
        await put(fcm1.account, "fcm", {**given, "endpoint": origin})
        await asyncio.sleep(SETTLE_S)
        yield gateway, [apns, fcm, fcm1]


def apns_setup(endpoint: str, ca: str) -> dict[str, object]:
    """Give what a project sets up of APNs."""
    ids = {"key_id": "BENCH12345", "team_id": "BENCH12345", "topic": "com.example.bench"}
    return {**ids, "key": apns_key(), "endpoint": endpoint, "ca": ca}


async def put(account: Account, bridge: str, credentials: Mapping[str, object]) -> None:
    """Set a bridge up."""
    path = f"/v1/projects/{account.project}/bridges/{bridge}"
    await _call("PUT", account.api, path, credentials, Authorization=f"Bearer {account.api_key}")


async def register(way: Way, count: int) -> list[str]:
    """Register devices that never connect, and give their tokens."""
    path = f"/v1/projects/{way.account.project}/devices"
    numbers = iter(range(count))
    tokens: list[str] = []

    async def some() -> None:
        for number in numbers:
            apns = way.bridge == "apns"
            token = f"{number:064x}" if apns else f"fcm-token-of-device-{number:08d}"
            body = {"platform": "bench", "bridge": {"type": way.bridge, "token": token}}
            key = {"X-Client-Key": way.project.client_key}
            answer = await _call("POST", way.account.api, path, body, **key)
            tokens.append(msgspec.json.decode(answer, type=dict[str, str])["token"])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(some())
    return tokens


async def _call(
    method: str, api: str, path: str, body: Mapping[str, object], **headers: str
) -> bytes:
    """Call the API.

    Raises:
        ConnectionError: the gateway refused.
    """
    connection = await open_connection(api)
    request = encode_request(method, api, path, msgspec.json.encode(body), **headers)
    response = await connection.request(request)
    connection.close()
    if response.status not in _OK:
        raise ConnectionError(f"{path}: {response.body.decode()}")
    return response.body
