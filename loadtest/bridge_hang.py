"""A provider that takes pushes and never answers: the worker's memory stays flat.

A case of the bench: `python -m loadtest.bench bridge-hang`.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from loadtest import senders
from loadtest.bridges import FLAGS, SETTLE_S, Way, apns_setup, put, register
from loadtest.cases import BATCH_SIZE, Say, Scale
from loadtest.gateway import Gateway, create_project, serve
from loadtest.processes import memory_bytes
from loadtest.push_providers import Counts, Http2, tls_context
from loadtest.recorder import Figure
from loadtest.senders import Account

GROWTH_MIB: Final = 1.0
"""What minutes of time-outs may cost a worker, once all pushes wait."""
_SAMPLE_S: Final = 5.0
_MIB: Final = 2**20


async def bridge_hang(scale: Scale, say: Say) -> list[Figure]:
    """Let pushes wait for a provider that hangs, and look at the worker's memory for a while."""
    async with _hanging() as (gateway, way):
        tokens = await register(way, scale.devices)
        few = min(len(tokens), BATCH_SIZE)
        await senders.send_batches(way.account, tokens[:few], few, BATCH_SIZE, 1)
        await asyncio.sleep(_SAMPLE_S)  # connections stand, pushes are under way
        (worker,) = gateway.pids()["worker"]
        before = memory_bytes(worker)
        await senders.send_batches(way.account, tokens, scale.messages, BATCH_SIZE, 1)
        samples = []
        for _ in range(round(scale.hang_s / _SAMPLE_S)):
            await asyncio.sleep(_SAMPLE_S)
            samples.append(memory_bytes(worker) - before)
            say(f"{way.counts.most} pushes heard, {samples[-1] / _MIB:+.1f} MiB")
    note = (
        f"{scale.messages} pushes wait, {scale.hang_s:.0f} s, {before / _MIB:.0f} MiB before them; "
        f"{samples[0] / _MIB:+.1f} with them, {samples[-1] / _MIB:+.1f} at the end; "
        f"{way.counts.most} pushes heard, none answered"
    )
    return [
        Figure(
            name="growth of worker memory beside a provider that hangs",
            unit="MiB",
            runs=((max(samples) - samples[0]) / _MIB,),
            target=GROWTH_MIB,
            note=note,
        )
    ]


@contextlib.asynccontextmanager
async def _hanging() -> AsyncIterator[tuple[Gateway, Way]]:
    counts = Counts()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-")))
        gateway = await stack.enter_async_context(serve(folder / "data", flags=FLAGS))
        project = await create_project(gateway.data_dir, "bench")
        context, ca = tls_context(folder)
        server = await asyncio.get_running_loop().create_server(
            lambda: Http2(counts, None), "127.0.0.1", 0, ssl=context
        )
        await stack.enter_async_context(server)
        account = Account(gateway.api, project.project, project.api_key)
        endpoint = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        await put(account, "apns", apns_setup(endpoint, ca))
        await asyncio.sleep(SETTLE_S)
        yield gateway, Way("APNS", "apns", 0.0, project, account, counts)
