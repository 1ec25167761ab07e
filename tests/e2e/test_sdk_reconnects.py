"""The SDK while shards come and go: it says so, comes back, loses and repeats nothing."""

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from sdk_client import ConnectionState, Device
from tests.e2e.conftest import kept_running, seen_from_here
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.statuses import events_of, until_state
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

MAX_PENDING = 4
CONNECTING, CONNECTED = ConnectionState.CONNECTING, ConnectionState.CONNECTED
WAITING, STOPPED = ConnectionState.WAITING, ConnectionState.STOPPED


@pytest.fixture(scope="module")
def restless_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    context = running_gateway(tmp_path_factory.mktemp("restless"), max_pending=MAX_PENDING)
    with kept_running(context) as found:
        yield found


@pytest_asyncio.fixture
async def restless(restless_process: RunningGateway) -> AsyncIterator[RunningGateway]:
    """A gateway whose shard may be ended: another one follows."""
    async with seen_from_here(restless_process) as here:
        yield here


class Diary:
    """What a device tells of its connection."""

    def __init__(self) -> None:
        self.states: list[ConnectionState] = []
        self.details: list[str] = []
        self.lost: list[int] = []

    def on_state(self, state: ConnectionState, detail: str) -> None:
        self.states.append(state)
        self.details.append(detail)

    @property
    def connections(self) -> int:
        return self.states.count(CONNECTED)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest_asyncio.fixture
async def device(restless: RunningGateway, diary: Diary) -> AsyncIterator[Device]:
    registered = await Device.register(
        restless.api,
        project=restless.project,
        client_key=restless.client_key,
        on_state=diary.on_state,
        on_dropped=diary.lost.append,
    )
    async with registered as found:
        yield found


async def test_a_drained_shard_sends_its_devices_to_the_next_one(
    restless: RunningGateway, device: Device, diary: Diary
) -> None:
    messages = device.messages()
    first = await restless.send(device.token)
    assert (await anext(messages)).id == first
    ended = restless.kill("shard", number=signal.SIGTERM)
    await eventually(lambda: diary.connections == 2, 30)
    assert diary.states[:3] == [CONNECTING, CONNECTED, WAITING]
    assert diary.details[2].startswith("goaway: shutdown; next try in 0.")
    await restless.replaced("shard", ended)
    second = await restless.send(device.token)
    assert (await anext(messages)).id == second
    await until_state(restless, first, "delivered")
    await device.close()
    assert diary.states[-2:] == [CONNECTED, STOPPED]


async def test_a_device_comes_back_after_its_shard_was_killed(
    restless: RunningGateway, device: Device, diary: Diary
) -> None:
    messages = device.messages(auto_ack=False)
    sent = await restless.send(device.token)
    message = await anext(messages)
    assert message.id == sent
    frozen = restless.kill("shard", number=signal.SIGSTOP)
    await message.ack()
    restless.kill("shard", number=signal.SIGKILL)
    await eventually(lambda: diary.states[2:3] == [WAITING])
    await message.opened("reply")
    await device.send({"n": 1})
    assert diary.connections == 2
    assert set(diary.states[2:-1]) == {WAITING, CONNECTING}
    await restless.replaced("shard", frozen)
    assert events_of(await until_state(restless, sent, "opened")).count("delivered") == 1
    again = await restless.send(device.token)
    assert (await anext(messages)).id == again


async def test_a_device_that_was_away_too_long_hears_what_it_lost(
    restless: RunningGateway, device: Device, diary: Diary
) -> None:
    sent = [await restless.send(device.token) for _ in range(MAX_PENDING + 3)]
    messages = device.messages()
    assert [(await anext(messages)).id for _ in range(MAX_PENDING)] == sent[3:]
    assert diary.lost == [3]
    assert diary.states == [CONNECTING, CONNECTED]
