"""What subscribers that are away cost: cases of `make bench-topics`."""

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

import loadtest
from loadtest.cases import Say, Scale
from loadtest.fleet import each_of
from loadtest.gateway import Gateway, create_project, serve
from loadtest.processes import CpuMeter
from loadtest.publishers import Publisher
from loadtest.recorder import Figure
from loadtest.senders import Account
from loadtest.turns import cpu_figure, in_turns, ratio_figure, total

_PROJECT: Final = "bench"
_FLAGS: Final = {"shards": 1, "apis": 1, "workers": 1}
_FEW: Final = 10
_AT_ONCE: Final = 16
_PAYLOAD_BYTES: Final = 200
_SETTLE_S: Final = 1.5
_PER_DEVICE: Final = 20


class Loaded(msgspec.Struct):
    """What `tests.support.preload` prints: bytes of the store's memory."""

    before: int
    registered: int
    subscribed: int
    mailbox: float
    mailbox_subscribed: float
    member: float


async def publish_ratio(scale: Scale, say: Say) -> list[Figure]:
    """Publish to many that are away and to ten, in turns: CPU of all processes, the ratio."""
    topics = {"few-0": _FEW, "many-0": scale.away}
    async with _gateway() as (gateway, account):
        for topic, devices in topics.items():
            loaded = await _preload(gateway, account, devices, 1, 1, topic.removesuffix("0"))
            taken = (loaded.subscribed - loaded.before) / 2**20
            say(f"{devices} devices subscribe to {topic}: {taken:.0f} MiB")
        spent = await in_turns(
            list(topics),
            scale.publish_rounds,
            lambda topic: _publish(gateway, account, topic, scale.publishes),
            lambda this: say(", ".join(f"{key} {total(run):.0f} µs" for key, run in this.items())),
        )
    note = f"{scale.publishes} messages a round, one a request, in turns"
    ratio = f"publish to {scale.away} that are away, of the CPU of {_FEW}"
    return [
        ratio_figure(ratio, spent["many-0"], spent["few-0"], 1.2, note),
        cpu_figure(f"CPU per publish to {scale.away} that are away", spent["many-0"], note),
        cpu_figure(f"CPU per publish to {_FEW} that are away", spent["few-0"], note),
    ]


async def _publish(gateway: Gateway, account: Account, topic: str, count: int) -> dict[str, float]:
    """Publish so many messages; gives the CPU µs of each role per message."""
    publishers = [Publisher(account, _PAYLOAD_BYTES) for _ in range(_AT_ONCE)]

    async def one(publisher: Publisher) -> None:
        await publisher.publish(topic)

    meter = CpuMeter(gateway.pids())
    await each_of(count, publishers, one)
    await asyncio.sleep(_SETTLE_S)
    for publisher in publishers:
        publisher.close()
    return {role: 1e6 * value / count for role, value in meter.spent_s().items()}


async def subscription_memory(scale: Scale, say: Say) -> list[Figure]:
    """Subscribe devices that are away: bytes of the store per subscription."""
    figures: list[Figure] = []
    mixes = (
        # Topics, and topics of each device.
        (1, 1),
        (100, _PER_DEVICE),
        (10_000, _PER_DEVICE),
    )
    for topics, each in mixes:
        devices = scale.away // each
        async with _gateway() as (gateway, account):
            loaded = await _preload(gateway, account, devices, topics, each, "topic-")
        per_one = (loaded.subscribed - loaded.registered) / (devices * each)
        parts = {
            "mailbox": (loaded.mailbox_subscribed - loaded.mailbox) / each,
            "member": loaded.member,
        }
        of_device = (loaded.registered - loaded.before) / devices
        say(f"{topics} topics, {each} a device: {per_one:.0f} bytes, {of_device:.0f} a device")
        figures.append(
            Figure(
                name=f"store memory per subscription, {each} of {topics} topics a device",
                unit="bytes",
                runs=(per_one,),
                target=150.0,
                parts=parts,
                note=f"{devices * each} subscriptions of {devices} devices, "
                f"{of_device:.0f} bytes each without them",
            )
        )
    return figures


@contextlib.asynccontextmanager
async def _gateway() -> AsyncIterator[tuple[Gateway, Account]]:
    with tempfile.TemporaryDirectory(prefix="pushwire-bench-") as folder:
        async with serve(Path(folder, "data"), flags=_FLAGS) as gateway:
            project = await create_project(gateway.data_dir, _PROJECT)
            yield gateway, Account(gateway.api, project.project, project.api_key)


async def _preload(
    gateway: Gateway, account: Account, devices: int, topics: int, each: int, prefix: str
) -> Loaded:
    """Register devices and subscribe each to `each` of the topics, in the store itself.

    Raises:
        ConnectionError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.preload"),
        *(f"unix://{gateway.data_dir / 'store.sock'}", account.project),
        *("--devices", str(devices), "--topics", str(topics), "--per-device", str(each)),
        *("--prefix", prefix),
        cwd=Path(loadtest.__path__[0]).parent,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise ConnectionError(f"the preloader ended with {process.returncode}")
    return msgspec.json.decode(printed, type=Loaded)
