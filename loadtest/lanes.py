"""How long a critical message takes while a large topic is written to everybody.

Some hundred thousand deliveries are queued, then a million: in the inbox of the shard, and behind
its turns. Beside them, at a steady rate, critical messages go to devices that have nothing to do
with the topic.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from loadtest import senders
from loadtest.cases import Say, Scale
from loadtest.fleet import (
    Connect,
    Expect,
    FleetProcess,
    Register,
    each_of,
    fleet_process,
    http_pool,
)
from loadtest.gateway import Gateway, create_project, serve
from loadtest.http import HttpConnection, encode_request
from loadtest.processes import CpuMeter
from loadtest.recorder import Figure, percentile
from loadtest.senders import Account

_PROJECT: Final = "lanes"
_TOPIC: Final = "everybody"
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_BATCH: Final = 100
_TOKENS_A_CALL: Final = 1000
_RATE: Final = 20.0
"""Critical messages a second."""
_ROUND: Final = 40
"""Critical messages of one round: the fan-out is looked at after each."""
_PATIENCE_S: Final = 500.0
_SMALLER: Final = 5
"""The first backlog is so much smaller than the second."""
_NOTE: Final = f"{_RATE:.0f} critical messages/s, open loop"
_SHARES: Final = {"p50": 0.5, "p99": 0.99, "max": 1.0}


async def lanes(scale: Scale, say: Say) -> list[Figure]:
    """Critical messages beside an idle gateway, and beside a fan-out to everybody."""
    with tempfile.TemporaryDirectory(prefix="pushwire-bench-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(serve(Path(folder, "data"), flags=_FLAGS))
            bulk = await stack.enter_async_context(fleet_process())
            urgent = await stack.enter_async_context(fleet_process())
            project = await create_project(gateway.data_dir, _PROJECT)
            account = Account(gateway.api, project.project, project.api_key)
            register = Register(gateway.api, project.project, project.client_key, 0)
            everybody = await _join(gateway, bulk, register, scale.subscribers)
            few = await _join(gateway, urgent, register, 20)
            await _subscribe(account, everybody)
            await _round(urgent, account, few)  # warms up
            idle = [value for _ in range(5) for value in await _round(urgent, account, few)]
            figures = _figures("critical message, idle gateway", idle, _NOTE)
            for published in (scale.published // _SMALLER, scale.published):
                meter = CpuMeter(gateway.pids())
                loaded, seconds = await _loaded(bulk, urgent, account, few, scale, published)
                spent_s = meter.spent_s()
                deliveries = scale.subscribers * published
                say(f"{deliveries} deliveries in {seconds:.1f} s, {len(loaded)} critical messages")
                figures += _beside(deliveries, seconds, loaded, spent_s)
    return figures


def _beside(
    deliveries: int, seconds: float, latencies_ms: list[float], spent_s: dict[str, float]
) -> list[Figure]:
    """Give the figures of a fan-out and the critical messages beside it."""
    beside = f"{_NOTE}, {deliveries / seconds:.0f} deliveries/s of a topic"
    return [
        *_figures(f"critical message beside {deliveries} deliveries", latencies_ms, beside),
        Figure(
            name=f"CPU per delivery of a topic, {deliveries} of them",
            unit="µs",
            runs=(1e6 * sum(spent_s.values()) / deliveries,),
            parts={role: 1e6 * value / deliveries for role, value in spent_s.items()},
            note="all devices ack; with the critical messages",
        ),
    ]


async def _join(gateway: Gateway, fleet: FleetProcess, register: Register, count: int) -> list[str]:
    """Register and connect so many devices; gives their tokens."""
    answer = await fleet.ask(Register(register.api, register.project, register.client_key, count))
    await fleet.ask(Connect(gateway.devices, count))
    return answer.tokens


async def _subscribe(account: Account, tokens: list[str]) -> None:
    path = f"/v1/projects/{account.project}/topics/{_TOPIC}:subscribe"
    async with http_pool(account.api, 1) as (connection,):
        for start in range(0, len(tokens), _TOKENS_A_CALL):
            request = encode_request(
                "POST",
                account.api,
                path,
                msgspec.json.encode({"tokens": tokens[start : start + _TOKENS_A_CALL]}),
                Authorization=f"Bearer {account.api_key}",
            )
            answer = await connection.request(request)
            if answer.status != senders.OK:
                raise ConnectionError(f"subscribe: {answer.status} {answer.body[:300]!r}")


async def _loaded(
    bulk: FleetProcess,
    urgent: FleetProcess,
    account: Account,
    few: list[str],
    scale: Scale,
    published: int,
) -> tuple[list[float], float]:
    """Publish, and send critical messages until everybody has everything."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    latencies: list[float] = []
    deliveries = scale.subscribers * published
    async with asyncio.TaskGroup() as group:
        expect = Expect(deliveries, timeout_s=_PATIENCE_S, every=True)
        arriving = group.create_task(bulk.ask(expect))
        publishing = group.create_task(_publish(account, published))
        while not arriving.done():
            latencies += await _round(urgent, account, few)
        await publishing
    answer = arriving.result()
    if answer.received < deliveries:
        raise ConnectionError(f"{answer.received} of {deliveries} deliveries arrived")
    return latencies, loop.time() - begun_s


async def _publish(account: Account, count: int) -> None:
    one = {"topic": _TOPIC, "data": senders.message("")["data"]}
    body = account.request("sendBatch", {"messages": [one] * min(_BATCH, count)})

    async def publish(connection: HttpConnection) -> None:
        senders.check_batch(await connection.request(body))

    async with http_pool(account.api, 2) as pool:
        await each_of(-(-count // _BATCH), pool, publish)


async def _round(fleet: FleetProcess, account: Account, tokens: list[str]) -> list[float]:
    """Send some critical messages, one after another; gives their latencies in milliseconds."""
    async with asyncio.TaskGroup() as group:
        arriving = group.create_task(fleet.ask(Expect(_ROUND)))
        sending = senders.send_steadily(
            account, tokens, _ROUND, _RATE, at_once=8, priority="critical"
        )
        group.create_task(sending)
    answer = arriving.result()
    if answer.received != _ROUND:
        raise ConnectionError(f"{answer.received} of {_ROUND} critical messages arrived")
    return [latency / 1000 for latency in answer.latencies_us]


def _figures(name: str, latencies_ms: list[float], note: str) -> list[Figure]:
    return [
        Figure(
            name=f"{name}, {key}",
            unit="ms",
            runs=(percentile(latencies_ms, share),),
            target=None,
            note=f"{note}, {len(latencies_ms)} of them",
        )
        for key, share in _SHARES.items()
    ]
