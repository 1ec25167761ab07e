"""Cursors against a model that stores every copy per subscriber, whatever happens in between."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from typing_extensions import override

from router.model.ids import BROADCAST
from tests.unit.shard.topic_world import CHOICES, Choice, Device, Log

_names = st.sampled_from("ab")
_logs = st.sampled_from(["a", "b", BROADCAST])
_numbers = st.integers(0, 9)


class CursorsMachine(RuleBasedStateMachine):
    """Publish, lose hints, ack in any order, come and go; at the end everything has arrived."""

    device: Device | None = None

    @initialize(window=st.integers(1, 4))
    def begin(self, window: int) -> None:
        self.device = Device([Log("a"), Log("b"), Log(BROADCAST)], window)
        self.device.subscribe("a")
        self.device.subscribe(BROADCAST)

    def _device(self) -> Device:
        assert self.device is not None
        return self.device

    @rule(
        name=_logs,
        step=st.integers(1, 3),
        ttl_ms=st.sampled_from([1, 2_000, 1 << 40]),
        key=st.sampled_from(["", "", "k"]),
        heard=st.sampled_from([True, True, False]),
        choice=st.sampled_from(CHOICES),
    )
    def publish(
        self, name: str, step: int, ttl_ms: int, key: str, heard: bool, choice: Choice
    ) -> None:
        self._device().publish(name, step, ttl_ms, key, heard=heard, choice=choice)

    @rule(
        name=_logs,
        messages=st.lists(
            st.tuples(st.sampled_from(["", "", "k"]), st.sampled_from([1, 1 << 40, 1 << 40])),
            min_size=2,
            max_size=5,
        ),
        choice=st.sampled_from([CHOICES[0], *CHOICES]),
    )
    def burst(self, name: str, messages: list[tuple[str, int]], choice: Choice) -> None:
        keys, ttls_ms = [key for key, _ in messages], [ttl_ms for _, ttl_ms in messages]
        self._device().burst(name, keys, ttls_ms, choice)

    @rule(platform=st.sampled_from(["ios", "web"]))
    def become(self, platform: str) -> None:
        self._device().become(platform)

    @rule(number=_numbers)
    def ack(self, number: int) -> None:
        self._device().ack(number)

    @rule()
    def ack_all(self) -> None:
        self._device().ack_all()

    @rule(number=_numbers)
    def nack(self, number: int) -> None:
        self._device().nack(number)

    @rule()
    def pump(self) -> None:
        self._device().pump()

    @rule(duration_ms=st.sampled_from([1, 600, 1_500, 20_000]))
    def later(self, duration_ms: int) -> None:
        self._device().later(duration_ms)

    @rule()
    def save(self) -> None:
        self._device().save()

    @rule(name=_logs)
    def look(self, name: str) -> None:
        log = self._device().logs[name]
        log.look()
        self._device().cursors.look(log.topic)

    @rule(name=_names)
    def subscribe(self, name: str) -> None:
        self._device().subscribe(name)

    @rule(name=_names)
    def unsubscribe(self, name: str) -> None:
        self._device().unsubscribe(name)

    @rule(name=_names)
    def resubscribe(self, name: str) -> None:
        self._device().resubscribe(name)

    @rule()
    def reconnect(self) -> None:
        self._device().reconnect()

    @override
    def teardown(self) -> None:
        if self.device is not None:
            self.device.settle()


TestCursors = pytest.mark.slow(CursorsMachine.TestCase)
