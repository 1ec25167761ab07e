"""What the machine of mailboxes does with bridges, on the real functions and on the model."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from router.model.device import NO_CONTACT, Contact
from router.model.ids import DeviceId, MessageId, Partition, ProjectId, partition_of
from router.store.bridge_jobs import Bridged, BridgeJobs, Failed, Job, Lane, Later, Taken
from tests.support.mailbox_model import MailboxModel

T = TypeVar("T")
WORKER = "machine"
POLICIES = ["", "", "2|500", "1|0", "2|3000", "0|o"]
TERMS = st.sampled_from(
    [{}, {}]
    + [{"bridge": policy, "part": part} for policy in POLICIES[2:] for part in (b"", b"part")]
    + [{"bridge": "2|500", "unfit": unfit} for unfit in ("fcm", "fcm apns")]
)
bridges = st.sampled_from(["", "apns", "apns", "fcm"])


class BridgeRules(RuleBasedStateMachine):
    """Devices get and lose bridges, which take jobs and say what became of them."""

    jobs: BridgeJobs
    model: MailboxModel
    now: int
    project: ProjectId
    devices: list[DeviceId]
    held: list[Job]

    def on_both(self, step: Callable[[Any], Awaitable[T]]) -> T:
        """Do one step on the real jobs and on the model; the results must agree."""
        raise NotImplementedError

    def both(self, step: Callable[[Any], Awaitable[T]]) -> T:
        """Do one step on the real mailboxes and on the model; the results must agree."""
        raise NotImplementedError

    def contact(self, bridge: str) -> Contact | None:
        return Contact(bridge, '{"a":"|"}', self.now, self.now + 10**9) if bridge else None

    @rule(number=st.integers(0, 2), bridge=bridges)
    def the_bridge_changes(self, number: int, bridge: str) -> None:
        device, contact = self.devices[number], self.contact(bridge) or NO_CONTACT
        self.both(lambda m: m.update(device, self.project, {}, self.now, contact))

    @rule(number=st.integers(0, 2), right=st.booleans(), reason=st.sampled_from(["", "a|b"]))
    def the_bridge_is_dropped(self, number: int, right: bool, reason: str) -> None:
        device = self.devices[number]
        br = self.both(lambda m: m.bridge_of(device)) if right else b"apns|1|{}"
        self.on_both(lambda m: m.drop_address(device, br, reason, self.now))

    def take(self, partition: Partition, lane: Lane, most: int, hold_ms: int) -> None:
        def told(taken: Taken) -> Taken:
            for job in taken.jobs:
                # The model keeps the tries; the real functions give them with the job.
                assert not job.tries or job.history == self.model.tries_of(job.kept)
            jobs = [msgspec.structs.replace(job, tries=b"") for job in taken.jobs]
            return Taken(jobs, taken.head)

        async def step(jobs: Any) -> Taken:
            return told(await jobs.take(partition, lane, WORKER, most, self.now, hold_ms))

        self.held += self.on_both(step).jobs

    @rule(
        number=st.integers(0, 2),
        bridge=st.sampled_from(["apns", "fcm"]),
        most=st.integers(1, 4),
        hold_ms=st.sampled_from([100, 5000]),
    )
    def jobs_are_taken(self, number: int, bridge: str, most: int, hold_ms: int) -> None:
        lane = Lane(self.project, bridge)
        self.take(partition_of(self.devices[number]), lane, most, hold_ms)

    def some(self, back: int) -> Job | None:
        return self.held[-1 - back] if back < len(self.held) else None

    @rule(back=st.integers(0, 3), ident=st.sampled_from(["", "id|1"]))
    def a_provider_took_it(self, back: int, ident: str) -> None:
        if (job := self.some(back)) is not None:
            done = [Bridged(job.kept, ident, self.now)]
            self.on_both(lambda m: m.bridged(partition_of(job.device), done))

    @rule(back=st.integers(0, 3), counts=st.booleans(), wait=st.sampled_from([0, 60, 5000]))
    def it_is_tried_again_later(self, back: int, counts: bool, wait: int) -> None:
        if (job := self.some(back)) is not None:
            again = [Later(job.kept, self.now + wait, '"503|', counts)]
            self.on_both(lambda m: m.later(partition_of(job.device), again, self.now))

    @rule(back=st.integers(0, 3), buried=st.booleans())
    def it_is_given_up(self, back: int, buried: bool) -> None:
        if (job := self.some(back)) is not None:
            given_up = [Failed(job.kept, "no|more", self.now, buried)]
            self.on_both(lambda m: m.failed(partition_of(job.device), given_up))

    @rule(back=st.integers(0, 3))
    def it_is_tried_anew(self, back: int) -> None:
        if (job := self.some(back)) is not None:
            self.on_both(lambda m: m.again(job.kept, self.now))

    def bridge_timer(self, subject: str) -> None:
        self.on_both(lambda m: m.ready(MessageId(subject), self.now))
