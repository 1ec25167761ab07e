"""What messages to topics cost those that are connected: cases of `make bench-topics`."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Final

from loadtest.beside.side import Side, beside
from loadtest.cases import Say, Scale
from loadtest.fleet import Close, Connect, FleetProcess, Gather, Register, fleet_process
from loadtest.gateway import Gateway, create_project, serve
from loadtest.peers import discover
from loadtest.processes import CpuMeter, cpu_split_s
from loadtest.publishers import Publisher, subscribe
from loadtest.recorder import Figure, percentile
from loadtest.senders import Account
from loadtest.turns import Parts, cpu_figure, in_turns, ratio_figure

PAYLOAD_BYTES: Final = 200
_TOPIC: Final = "news"
_PROJECT: Final = "bench"
_EACH: Final = 20
"""Topics of a device that attaches."""
_TOPICS: Final = 100
_SETTLE_S: Final = 1.5
"""After the last ack: counts and what else is stored once a second."""

Publish = Callable[[], Coroutine[object, object, None]]


async def fan_out(
    fleets: Sequence[FleetProcess], per_fleet: int, publish: Publish
) -> tuple[int, int]:
    """Publish and wait for all acks; gives the times of the first and the last, ns.

    Raises:
        ConnectionError: not every device got it, or one got it twice.
    """
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(fleet.ask(Gather(per_fleet))) for fleet in fleets]
        group.create_task(publish())
    answers = [task.result() for task in asked]
    received = sum(answer.received for answer in answers)
    if received != per_fleet * len(fleets):
        raise ConnectionError(f"{received} of {per_fleet * len(fleets)} messages arrived")
    return min(answer.first_ns for answer in answers), max(answer.last_ns for answer in answers)


async def topic_delivery(scale: Scale, say: Say) -> list[Figure]:
    """Deliver to connected devices, in turns with mosquitto: CPU per topic delivery with ack."""
    devices, messages = scale.topic_devices, scale.topic_messages
    note = f"{PAYLOAD_BYTES} bytes, {devices} devices, {messages} messages a run, each"
    note += " acked by all before the next"
    return await _beside_mosquitto(scale.runs, devices, 1, messages, note, say)


async def topic_burst(scale: Scale, say: Say) -> list[Figure]:
    """Publish many messages at once, in turns with mosquitto: CPU per topic delivery with ack."""
    devices, burst, bursts = scale.burst_devices, scale.burst, scale.bursts
    note = f"{PAYLOAD_BYTES} bytes, {devices} devices, {burst} messages at once, {bursts} times a"
    note += " run, each burst acked by all before the next"
    return await _beside_mosquitto(scale.runs, devices, burst, bursts, note, say)


async def _beside_mosquitto(
    runs: int, count: int, burst: int, bursts: int, note: str, say: Say
) -> list[Figure]:
    """Measure both sides in turns, with `count` devices each.

    Raises:
        FileNotFoundError: there is no mosquitto.
    """
    what = "topic delivery with ack" if burst == 1 else f"delivery of {burst} at once"
    peers = discover()
    if missing := peers["mosquitto"].missing():
        raise FileNotFoundError(f"mosquitto: {missing}")
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-")))
        sides: dict[str, Side] = {}
        for number, name in enumerate(("mosquitto", "pushwire")):
            source = f"127.0.0.{3 + number}"
            sides[name] = await stack.enter_async_context(beside(peers[name], folder, source))
            await sides[name].connect(count)
        measured = await in_turns(
            list(sides),
            runs,
            lambda name: sides[name].fan_out(bursts, burst, PAYLOAD_BYTES),
            lambda this: _tell(say, this),
        )
        version = sides["mosquitto"].server.version
    theirs, ours = measured["mosquitto"], measured["pushwire"]
    shard = [{"shard": run["shard"]} for run in ours]
    name = f"shard CPU per {what}"
    how = f"mosquitto {version}, QoS 1, sessions that persist; in turns"
    return [
        ratio_figure(f"{name}, of mosquitto's", shard, theirs, 1.0, how),
        cpu_figure(name, shard, note),
        cpu_figure(f"CPU of all processes per {what}", ours, note),
        cpu_figure(f"mosquitto's CPU per {what}", theirs, note),
    ]


def _tell(say: Say, this: Mapping[str, Parts]) -> None:
    for name, parts in this.items():
        say(f"{name}: µs each: " + ", ".join(f"{key} {value:.1f}" for key, value in parts.items()))


async def fan_outs(scale: Scale, say: Say) -> list[Figure]:
    """Publish one message to many devices in two shards: first to last ack."""
    per_fleet = scale.fan_out_devices // 2
    times_ms: list[float] = []
    spent_s = [0.0, 0.0]
    async with subscribed(2, 2, per_fleet) as (gateway, fleets, publisher):
        shards = gateway.pids()["shard"]
        for run in range(scale.fan_outs + 1):
            before = [cpu_split_s(pid) for pid in shards]
            first_ns, last_ns = await fan_out(fleets, per_fleet, lambda: publisher.publish(_TOPIC))
            await asyncio.sleep(_SETTLE_S)
            after = [cpu_split_s(pid) for pid in shards]
            user, system = (
                sum(late[part] - early[part] for early, late in zip(before, after, strict=True))
                for part in (0, 1)
            )
            took_ms = (last_ns - first_ns) / 1e6
            say(f"{took_ms:.0f} ms, shards {user:.2f} s of their own and {system:.2f} s in calls")
            if run > 0:
                times_ms.append(took_ms)
                # All rounds together: one of them is a few ticks of the kernel's clock.
                spent_s = [spent_s[0] + user, spent_s[1] + system]
    note = f"{2 * per_fleet} devices in 2 shards, {PAYLOAD_BYTES} bytes, the fleets beside them"
    return [
        Figure(name="fan-out, first to last ack", unit="ms", runs=tuple(times_ms), note=note),
        Figure(
            name="system calls' share of the shards' CPU in it",
            unit="%",
            runs=(100 * spent_s[1] / max(sum(spent_s), 1e-9),),
            note=note,
        ),
        Figure(
            name="devices a second and shard in a fan-out",
            unit="",
            runs=(1000 * per_fleet / percentile(times_ms, 0.5),),
            note=note,
        ),
    ]


async def attaches(scale: Scale, say: Say) -> list[Figure]:
    """Connect devices with twenty topics of which nothing is new, and with none, in turns."""
    count = scale.attaches
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-"))
        flags = {"shards": 1, "apis": 1, "workers": 1}
        gateway = await stack.enter_async_context(serve(Path(folder, "data"), flags=flags))
        project = await create_project(gateway.data_dir, _PROJECT)
        account = Account(gateway.api, project.project, project.api_key)
        command = Register(gateway.api, project.project, project.client_key, count)
        fleets = {
            name: await stack.enter_async_context(fleet_process()) for name in ("none", "topics")
        }
        for name, fleet in fleets.items():
            tokens = (await fleet.ask(command)).tokens
            if name == "topics":
                await _subscribe_each(account, tokens)
        spent = await in_turns(
            list(fleets),
            scale.attach_rounds,
            lambda name: _attach(gateway, fleets[name], count),
            lambda this: _tell(say, this),
        )
    note = f"{count} devices at once, 1 shard, in turns"
    ratio = f"CPU per attach with {_EACH} topics, of that with none"
    return [
        ratio_figure(ratio, spent["topics"], spent["none"], 1.5, note),
        cpu_figure(f"CPU per attach with {_EACH} topics", spent["topics"], note),
        cpu_figure("CPU per attach with 0 topics", spent["none"], note),
    ]


async def _subscribe_each(account: Account, tokens: Sequence[str]) -> None:
    """Subscribe each device to twenty of a hundred topics; one message lies in each log."""
    publisher = Publisher(account, PAYLOAD_BYTES)
    for number in range(_TOPICS):
        await publisher.publish(f"topic-{number}")
        chosen = [
            token for at, token in enumerate(tokens) if (number - at * _EACH) % _TOPICS < _EACH
        ]
        await subscribe(account, f"topic-{number}", chosen)
    publisher.close()


async def _attach(gateway: Gateway, fleet: FleetProcess, count: int) -> dict[str, float]:
    """Connect all, then drop them; gives the CPU µs of each role per device of the former."""
    meter = CpuMeter(gateway.pids())
    await fleet.ask(Connect(gateway.devices, count, source="127.0.0.8"))
    await asyncio.sleep(_SETTLE_S)
    spent = {role: 1e6 * value / count for role, value in meter.spent_s().items()}
    await fleet.ask(Close())
    await asyncio.sleep(_SETTLE_S)
    return spent


@contextlib.asynccontextmanager
async def subscribed(
    shards: int, fleets: int, per_fleet: int
) -> AsyncIterator[tuple[Gateway, list[FleetProcess], Publisher]]:
    """Run a gateway with connected devices that all subscribe to one topic."""
    flags = {"shards": shards, "apis": 1, "workers": 1}
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushwire-bench-"))
        gateway = await stack.enter_async_context(serve(Path(folder, "data"), flags=flags))
        running = [await stack.enter_async_context(fleet_process()) for _ in range(fleets)]
        project = await create_project(gateway.data_dir, _PROJECT)
        account = Account(gateway.api, project.project, project.api_key)
        async with asyncio.TaskGroup() as group:
            for number, fleet in enumerate(running):
                command = Register(gateway.api, project.project, project.client_key, per_fleet)
                source = f"127.0.0.{4 + number}"
                group.create_task(_join(gateway, account, fleet, command, source))
        publisher = Publisher(account, PAYLOAD_BYTES)
        stack.callback(publisher.close)
        yield gateway, running, publisher


async def _join(
    gateway: Gateway, account: Account, fleet: FleetProcess, command: Register, source: str
) -> None:
    """Register, subscribe, connect."""
    registered = await fleet.ask(command)
    await subscribe(account, _TOPIC, registered.tokens)
    connect = Connect(gateway.devices, command.count, source=source, counting=True)
    await fleet.ask(connect)
