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
from loadtest.push_providers import Apns, Counts, Fcm, apns_key, service_account, tls_context
from loadtest.recorder import Figure
from loadtest.senders import Account

APNS_US: Final = 250.0
FCM_US: Final = 350.0
ANSWER_S: Final = 0.1
"""What a provider takes to answer."""
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_AT_ONCE: Final = 16
_LIMIT_S: Final = 120.0
_SETTLE_S: Final = 1.5
"""Every process knows of a new bridge after this."""
_OK: Final = (200, 201)


class Bench(msgspec.Struct, frozen=True):
    """A gateway whose project has bridges to providers that count."""

    gateway: Gateway
    project: Project
    account: Account
    counts: dict[str, Counts]


async def bridges(scale: Scale, say: Say) -> list[Figure]:
    """Push to devices that are away: the worker's CPU for each push to APNs and to FCM."""
    figures, pushes = [], scale.messages // 2
    async with _bench() as bench:
        for bridge, target_us in (("apns", APNS_US), ("fcm", FCM_US)):
            tokens = await _register(bench, bridge, scale.devices)
            runs, counts = [], bench.counts[bridge]
            for run in range(scale.runs + 1):
                cpu_us, seconds = await _run(bench, counts, tokens, pushes)
                say(
                    f"{bridge}: {pushes / seconds:.0f} pushes/s, {counts.most} under way "
                    f"over {counts.connections} connections, {cpu_us:.0f} µs of the worker each"
                )
                if run > 0:  # the first one warms up
                    runs.append(cpu_us)
            note = (
                f"all that a worker does, {pushes} pushes, {scale.devices} devices, answers after "
                f"{ANSWER_S * 1000:.0f} ms, {counts.most} under way over {counts.connections} "
                "connections"
            )
            figures.append(
                Figure(
                    name=f"worker CPU per push to {bridge.upper()}",
                    unit="µs",
                    runs=tuple(runs),
                    target=target_us,
                    note=note,
                )
            )
    return figures


async def _run(
    bench: Bench, counts: Counts, tokens: list[str], messages: int
) -> tuple[float, float]:
    """Give the worker's CPU for each push in microseconds, and the seconds that all took."""
    meter = CpuMeter(bench.gateway.pids())
    loop = asyncio.get_running_loop()
    begun_s, before = loop.time(), counts.taken
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(counts.until(before + messages, _LIMIT_S))
        sending = senders.send_batches(bench.account, tokens, messages, BATCH_SIZE, BATCHES_AT_ONCE)
        tasks.create_task(sending)
    seconds = loop.time() - begun_s
    await asyncio.sleep(_SETTLE_S)  # its receipts belong to it
    return 1e6 * meter.spent_s()["worker"] / messages, seconds


@contextlib.asynccontextmanager
async def _bench() -> AsyncIterator[Bench]:
    apns, fcm = Counts(), Counts()
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-")))
        gateway = await stack.enter_async_context(serve(folder / "data", flags=_FLAGS))
        project = await create_project(gateway.data_dir, "bench")
        account = Account(gateway.api, project.project, project.api_key)
        context, ca = tls_context(folder)
        apple = await stack.enter_async_context(
            await loop.create_server(lambda: Apns(apns, ANSWER_S), "127.0.0.1", 0, ssl=context)
        )
        google = await stack.enter_async_context(
            await asyncio.start_server(Fcm(fcm, ANSWER_S).serve, "127.0.0.1", 0)
        )
        await _put(
            account,
            "apns",
            {
                "key": apns_key(),
                "key_id": "BENCH12345",
                "team_id": "BENCH12345",
                "topic": "com.example.bench",
                "endpoint": f"https://localhost:{apple.sockets[0].getsockname()[1]}",
                "ca": ca,
            },
        )
        origin = f"http://127.0.0.1:{google.sockets[0].getsockname()[1]}"
        await _put(account, "fcm", {"service_account": service_account(origin), "endpoint": origin})
        await asyncio.sleep(_SETTLE_S)
        yield Bench(gateway, project, account, {"apns": apns, "fcm": fcm})


async def _put(account: Account, bridge: str, credentials: dict[str, object]) -> None:
    path = f"/v1/projects/{account.project}/bridges/{bridge}"
    await _call("PUT", account.api, path, credentials, Authorization=f"Bearer {account.api_key}")


async def _register(bench: Bench, bridge: str, count: int) -> list[str]:
    """Register devices that never connect, and give their tokens."""
    path = f"/v1/projects/{bench.account.project}/devices"
    numbers = iter(range(count))
    tokens: list[str] = []

    async def some() -> None:
        for number in numbers:
            token = f"{number:064x}" if bridge == "apns" else f"fcm-token-of-device-{number:08d}"
            body = {"platform": "bench", "bridge": {"type": bridge, "token": token}}
            key = {"X-Client-Key": bench.project.client_key}
            answer = await _call("POST", bench.account.api, path, body, **key)
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
