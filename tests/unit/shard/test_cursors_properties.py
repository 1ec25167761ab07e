"""Cursors against a model that stores every copy per subscriber, whatever happens in between."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.unit.shard.topic_world import Device, Log

_logs = st.integers(0, 1)
_numbers = st.integers(0, 9)


class CursorsMachine(RuleBasedStateMachine):
    """Publish, lose hints, ack in any order, come and go; at the end everything has arrived."""

    @initialize(window=st.integers(1, 4))
    def begin(self, window: int) -> None:
        self.logs = [Log("a"), Log("b")]
        self.device = Device(self.logs, window)
        self.device.subscribe(self.logs[0])

    @rule(
        at=_logs,
        step=st.integers(1, 3),
        ttl_ms=st.sampled_from([1, 2_000, 1 << 40]),
        key=st.sampled_from(["", "", "k"]),
        heard=st.sampled_from([True, True, False]),
    )
    def publish(self, at: int, step: int, ttl_ms: int, key: str, heard: bool) -> None:
        self.device.publish(self.logs[at], step, ttl_ms, key, heard)

    @rule(number=_numbers)
    def ack(self, number: int) -> None:
        self.device.ack(number)

    @rule(number=_numbers)
    def nack(self, number: int) -> None:
        self.device.nack(number)

    @rule()
    def pump(self) -> None:
        self.device.pump()

    @rule(duration_ms=st.sampled_from([1, 600, 1_500, 20_000]))
    def later(self, duration_ms: int) -> None:
        self.device.later(duration_ms)

    @rule()
    def save(self) -> None:
        self.device.save()

    @rule(at=_logs)
    def look(self, at: int) -> None:
        self.logs[at].look()
        self.device.cursors.look(self.logs[at].topic)

    @rule(at=_logs)
    def subscribe(self, at: int) -> None:
        self.device.subscribe(self.logs[at])

    @rule(at=_logs)
    def unsubscribe(self, at: int) -> None:
        self.device.unsubscribe(self.logs[at])

    @rule()
    def reconnect(self) -> None:
        self.device.reconnect()

    def teardown(self) -> None:
        if hasattr(self, "device"):
            self.device.settle()


TestCursors = pytest.mark.slow(CursorsMachine.TestCase)
TestCursors.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
