"""The mailbox model and the real functions go through the same lives and must agree."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)
from typing_extensions import override

from router.model.device import Device
from router.model.ids import (
    DeviceId,
    MessageId,
    Partition,
    ProjectId,
    ShardId,
    kept_as,
    new_cast_id,
    new_message_id,
    partition_of,
    partition_of_message,
    told_as,
)
from router.model.mailbox import Ack, Attached, Envelope
from router.model.receipt import ENGAGEMENT, Event, Receipt
from router.policy.delivery import replay
from router.store import keys
from router.store.bridge_jobs import BridgeJobs
from router.store.connection import Store, StoreOptions
from router.store.leases import Leases
from router.store.mailbox import Mailboxes
from router.store.messages import Messages
from router.store.outbox import Outbox
from tests.store.bridge_rules import POLICIES, TERMS, WORKER, BridgeRules, bridges
from tests.support.mailbox_model import MailboxModel
from tests.support.valkey import make_store

T = TypeVar("T")
DEVICES = [DeviceId(f"device-of-machine-{name}") for name in ("a", "b", "c160")]  # a, c160: as one
PARTITIONS = sorted({partition_of(device) for device in DEVICES})
PROJECT, STRANGER = ProjectId("machine"), ProjectId("stranger")
CAP, ACK_TIMEOUT_MS = 4, 1000

devices = st.sampled_from(DEVICES)
strays = st.sampled_from([None, None, None, *DEVICES])
"""A device that speaks of a message that need not be its own; None for the one that has it."""
recent = st.integers(0, 11)
"""A message by how long ago it was offered: those of late matter most."""
session_age = st.sampled_from([0, 0, 0, 0, 1])
"""How many sessions ago the caller's session began."""
Both = Mailboxes | MailboxModel


def _timeless(result: object) -> object:
    """Leave out what is by the store's own clock."""
    if isinstance(result, Attached):
        standing = msgspec.structs.replace(result.standing, broadcast=0)
        return msgspec.structs.replace(result, standing=standing)
    return result


class Machine(BridgeRules):
    """Three devices, one project, one clock."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.store = self.runner.run(self._open(url))
        self.real, self.jobs = Mailboxes(self.store), BridgeJobs(self.store)
        self.project, self.devices, self.held = PROJECT, DEVICES, []
        self.messages = Messages(self.store)
        self.model = MailboxModel(max_pending=CAP, ack_timeout_ms=ACK_TIMEOUT_MS)
        self.events: dict[str, list[Receipt]] = {partition: [] for partition in PARTITIONS}
        self.now, self.made = 1_800_000_000_000, 0
        self.nonces = dict.fromkeys(DEVICES, "n" * 16)
        self.epochs = dict.fromkeys(DEVICES, 0)
        self.envelopes: list[Envelope] = []
        self.seqs: dict[MessageId, int] = {}
        for device in DEVICES:
            self.register(device)

    async def _open(self, url: str) -> Store:
        options = StoreOptions(url=f"{url}?db=1", max_pending=CAP, ack_timeout_ms=ACK_TIMEOUT_MS)
        store = await self.stack.enter_async_context(make_store(options))
        await store.batch.call("FLUSHDB")
        self.outbox = Outbox(store)
        for partition in PARTITIONS:
            await self.outbox.take_over(partition, "machine")
            assert await Leases(store).partition_acquire(partition, WORKER, 3_600_000)
        return store

    @override
    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()

    @override
    def both(self, step: Callable[[Any], Awaitable[T]]) -> T:
        return self._on(self.real, step)

    @override
    def on_both(self, step: Callable[[Any], Awaitable[T]]) -> T:
        return self._on(self.jobs, step)

    def _on(self, functions: Mailboxes | BridgeJobs, step: Callable[[Any], Awaitable[T]]) -> T:
        """Do one step on the real functions and on the model; the results must agree."""

        async def run() -> tuple[T, T]:
            return await step(functions), await step(self.model)

        real, model = self.runner.run(run())
        assert _timeless(real) == _timeless(model)
        return real

    def message(self, back: int) -> Envelope | None:
        return self.envelopes[-1 - back] if back < len(self.envelopes) else None

    def epoch(self, device: DeviceId, age: int) -> int:
        return self.epochs[device] - age

    @rule(ms=st.sampled_from([1, 60, 500, 1500]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(device=devices, bridge=bridges)
    def register(self, device: DeviceId, bridge: str = "") -> None:
        new = Device(device, PROJECT, "python", attributes={"a": "b"}, user="u")
        nonce, contact = self.nonces[device], self.contact(bridge)
        self.both(lambda m: m.register(new, nonce, "h" * 64, self.now, contact))
        self.both(lambda m: m.device(device))

    @rule(device=devices, project=st.sampled_from([PROJECT, PROJECT, STRANGER]))
    def unregister(self, device: DeviceId, project: ProjectId) -> None:
        self.both(lambda m: m.unregister(device, project, self.now))

    @rule(device=devices, digit=st.sampled_from("abc"))
    def rotate(self, device: DeviceId, digit: str) -> None:
        changed, _ = self.both(lambda m: m.rotate(device, PROJECT, digit * 16, self.now))
        if changed:
            self.nonces[device] = digit * 16

    @rule(device=devices, language=st.sampled_from(["de", "fr"]))
    def update(self, device: DeviceId, language: str) -> None:
        changes = {"language": language, "attributes": '{"x":"y"}'}
        self.both(lambda m: m.update(device, PROJECT, changes, self.now))

    @rule(
        device=devices,
        ttl=st.sampled_from([0, 50, 1000, 100_000, 100_000]),
        collapse=st.sampled_from(["", "", "", "k", "l|m", "l|"]),
        delay=st.sampled_from([0, 0, 0, 80]),
        key=st.sampled_from(["", "", "", "i", "j"]),
        digest=st.sampled_from("de"),
        wrong=st.sampled_from(["", "", "", "", "", "nonce", "project"]),
        terms=TERMS,
    )
    def enqueue(  # noqa: PLR0917 - what a message may have
        self,
        device: DeviceId,
        ttl: int,
        collapse: str,
        delay: int,
        key: str,
        digest: str,
        wrong: str,
        terms: dict[str, Any],
    ) -> None:
        self.made += 1
        partition = partition_of(device)
        envelope = Envelope(
            project=STRANGER if wrong == "project" else PROJECT,
            partition=partition,
            device=device,
            nonce="z" * 16 if wrong == "nonce" else self.nonces[device],
            message=new_message_id(partition, self.now, self.made.to_bytes(10, "big")),
            frame=b"frame %d" % self.made,
            now_ms=self.now,
            expires_ms=self.now + ttl,
            collapse_key=collapse,
            send_at_ms=self.now + delay if delay else 0,
            idempotency_key=key,
            idempotency_digest=digest,
            **terms,
        )
        self.envelopes.append(envelope)
        self.offer(envelope)

    @rule(
        ttl=st.sampled_from([0, 50, 100_000, 100_000]),
        collapse=st.sampled_from(["", "", "k"]),
        proof=st.sampled_from(["u:u", "u:u", "u:u", "ca", "ca:1", "u:other", "n:u", "z" * 16]),
        policy=st.sampled_from(POLICIES),
    )
    def cast(self, ttl: int, collapse: str, proof: str, policy: str) -> None:
        """Offer the copies of a message to a user, or to a group, to each device."""
        self.made += 1
        message = new_cast_id(Partition("07"), self.now, self.made.to_bytes(10, "big"))
        for device in DEVICES:
            envelope = Envelope(
                project=PROJECT,
                partition=partition_of(device),
                device=device,
                nonce=f"ca:{self.registered(device)}" if proof == "ca" else proof,
                message=kept_as(message, device),
                frame=b"frame %d" % self.made,
                now_ms=self.now,
                expires_ms=self.now + ttl,
                collapse_key=collapse,
                bridge=policy,
            )
            self.envelopes.append(envelope)
            self.offer(envelope)

    def registered(self, device: DeviceId) -> int:
        found = self.runner.run(self.model.device(device))
        return 0 if found is None else found.created_ms

    @rule(back=recent)
    def enqueue_again(self, back: int) -> None:
        if (envelope := self.message(back)) is not None:
            self.offer(envelope)

    def offer(self, envelope: Envelope) -> None:
        enqueued = self.both(lambda m: m.enqueue(envelope))
        if enqueued.seq:
            self.seqs[envelope.message] = enqueued.seq

    @rule(
        device=devices,
        right=st.sampled_from([True, True, True, False]),
        limit=st.integers(1, 5),
        late=st.sampled_from([0, 0, 0, 0, 100, 100_000]),
    )
    def attach(self, device: DeviceId, right: bool, limit: int, late: int) -> None:
        credential, asked = ("h" if right else "x") * 64, self.now - late
        attached = self.both(lambda m: m.attach(device, credential, ShardId("s1"), asked, limit))
        if attached.epoch:
            self.epochs[device] = attached.epoch

    @rule(device=devices, age=session_age)
    def detach(self, device: DeviceId, age: int) -> None:
        self.both(lambda m: m.detach(device, self.epoch(device, age), self.now))

    @rule(device=devices, age=session_age, after=st.integers(0, 8), limit=st.integers(1, 5))
    def fetch(self, device: DeviceId, age: int, after: int, limit: int) -> None:
        self.both(lambda m: m.fetch(device, self.epoch(device, age), after, self.now, limit))

    @rule(
        device=devices,
        backs=st.lists(recent, min_size=1, max_size=4),
        age=session_age,
        told=st.booleans(),
        known=st.booleans(),
        drops=st.sampled_from([0, 0, 1, 3]),
    )
    def ack(
        self, device: DeviceId, backs: list[int], age: int, told: bool, known: bool, drops: int
    ) -> None:
        acks = self.acks(backs, known=known, sent_ms=0 if told else self.now - 1)
        self.both(lambda m: m.ack(device, self.epoch(device, age), acks, self.now, drops))

    @rule(device=devices, backs=st.lists(recent, min_size=1, max_size=3), age=session_age)
    def mark_sent(self, device: DeviceId, backs: list[int], age: int) -> None:
        acks = self.acks(backs, known=True, sent_ms=self.now)
        self.both(lambda m: m.mark_sent(device, self.epoch(device, age), acks, self.now))

    def acks(self, backs: list[int], *, known: bool, sent_ms: int) -> list[Ack]:
        found = [self.message(back) for back in backs]
        return [
            Ack(told_as(e.message), self.seqs.get(e.message, 0) if known else 0, sent_ms)
            for e in found
            if e is not None
        ]

    @rule(
        stray=strays,
        back=recent,
        age=session_age,
        known=st.booleans(),
        reason=st.sampled_from(["", "busy|x"]),
        after=st.sampled_from([0, 300, 3000]),
    )
    def nack(
        self, stray: DeviceId | None, back: int, age: int, known: bool, reason: str, after: int
    ) -> None:
        if (envelope := self.message(back)) is not None:
            device = stray or envelope.device
            message, epoch = envelope.message, self.epoch(device, age)
            seq = self.seqs.get(message, 0) if known else 0
            until = self.now + after
            told = told_as(message)
            self.both(lambda m: m.nack(device, epoch, told, seq, reason, until, self.now))

    @rule(stray=strays, back=recent, event=st.sampled_from(sorted(ENGAGEMENT)))
    def engage(self, stray: DeviceId | None, back: int, event: Event) -> None:
        if (envelope := self.message(back)) is not None:
            device, told = stray or envelope.device, told_as(envelope.message)
            self.both(lambda m: m.engage(device, told, event, self.now - 1, "b|1", self.now))

    @rule(device=devices, age=session_age, identifier=st.sampled_from(["u|1", "u2"]))
    def upstream(self, device: DeviceId, age: int, identifier: str) -> None:
        epoch = self.epoch(device, age)
        self.both(lambda m: m.upstream(device, epoch, identifier, b"\x00|\xff", self.now))

    @rule(back=recent, project=st.sampled_from([PROJECT, PROJECT, STRANGER]))
    def cancel(self, back: int, project: ProjectId) -> None:
        if (envelope := self.message(back)) is None:
            return
        message = envelope.message
        if message == told_as(message):
            self.both(lambda m: m.cancel(message, project, self.now))
            return

        async def copy() -> None:
            # Of a message to many the caller knows the devices.
            told, device = told_as(message), envelope.device
            await self.real.begin_cancel(told, device, project, self.now)
            await self.model.cancel(message, project, self.now)

        self.runner.run(copy())

    @rule()
    def timers_run(self) -> None:
        for kind, subject in self.model.due(self.now):
            self.timer_runs(kind, subject)

    def timer_runs(self, kind: str, subject: str) -> None:
        device, message = DeviceId(subject), MessageId(subject)
        if kind == "redeliver":
            self.both(lambda m: m.redeliver(device, self.now))
        elif kind == "expire":
            self.both(lambda m: m.expire(device, self.now))
        elif kind == "topics":
            self.both(lambda m: m.remind(device, self.now))
        elif kind == "bridge":
            self.bridge_timer(subject)
        elif kind == "lapse":
            self.both(lambda m: m.lapse(message, self.now))
        else:
            released = self.both(lambda m: m.release(message, self.now))
            if released is not None and released.seq:
                self.seqs[message] = released.seq

    @invariant()
    def agree(self) -> None:
        self.runner.run(self._agree())

    async def _agree(self) -> None:
        for partition in PARTITIONS:
            read = await self.outbox.read(partition, "machine", 1000)
            self.events[partition] += [receipt for _, receipt in read]
            if read:
                await self.outbox.advance(partition, "machine", read[-1][0])
            expected = [r for r in self.model.outbox if partition_of(r.device) == partition]
            assert self.events[partition] == expected
            assert await self._timers(partition) == {
                f"{kind}:{subject}": at
                for (kind, subject), at in self.model.timers.items()
                if self._partition(kind, subject) == partition
            }
        for envelope in self.envelopes[-12:]:
            message = envelope.message
            assert await self.messages.status(message) == await self.model.status(message)
            told, device = told_as(message), envelope.device
            mine = [r for r in self.model.outbox if (r.message, r.device) == (told, device)]
            replay([r.event for r in mine])

    async def _timers(self, partition: Any) -> dict[str, int]:
        reply: Any = await self.store.batch.call(
            "ZRANGE", keys.timers(partition), 0, -1, "WITHSCORES"
        )
        found = zip(map(bytes.decode, reply[::2]), map(int, reply[1::2]), strict=True)
        # What topics are to be told is by the store's own clock.
        return {name: at for name, at in found if not name.startswith("reach:")}

    @staticmethod
    def _partition(kind: str, subject: str) -> str:
        if kind in {"send", "lapse", "bridge"}:
            return partition_of_message(MessageId(subject))
        return partition_of(DeviceId(subject))


@pytest.mark.slow
def test_the_functions_live_as_the_model_does(store_url: str) -> None:
    class OnThisServer(Machine):
        def __init__(self) -> None:
            super().__init__(store_url)

    run_state_machine_as_test(OnThisServer, settings=settings(stateful_step_count=50))
