"""The verdict on a run: the account, with what the gateway itself says of what is missing."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from typing import Final

import msgspec

from loadtest.fleet import each_of, http_pool
from loadtest.http import HttpConnection, encode_request
from loadtest.run.account import Fault, Reckoning, Verdict, named
from loadtest.run.layout import Layout
from loadtest.run.member import Member
from loadtest.run.protocol import Done, Ids, Place
from loadtest.run.receiver import Receiver
from loadtest.run.spec import Spec
from loadtest.run.tally import Tally

_LOOKED_UP: Final = 5_000
"""So many missing messages are asked for at the most."""
_AT_ONCE: Final = 8
_OK: Final = 200
_GIVEN_WAY: Final = frozenset({"dropped", "collapsed", "cancelled"})


class _Delivery(msgspec.Struct):
    device_id: str = ""
    state: str = ""


class _Status(msgspec.Struct):
    state: str = ""
    expires_at: dt.datetime | None = None
    deliveries: list[_Delivery] = []


class Judge:
    """Judges one run.

    Args:
        spec: what it did.
        place: the gateway, which is asked about messages that are missing.
        layout: which devices get which stream.
        device_ids: of the devices by their numbers.
        senders: knows the ids of messages.
        receiver: what callbacks told; None where there were none.
    """

    def __init__(
        self,
        spec: Spec,
        place: Place,
        layout: Layout,
        device_ids: Sequence[str],
        senders: Member,
        receiver: Receiver | None,
    ) -> None:
        self._spec = spec
        self._place = place
        self._layout = layout
        self._device_ids = device_ids
        self._senders = senders
        self._receiver = receiver

    async def judge(
        self,
        done: Done,
        reckoning: Reckoning,
        tally: Tally,
        *,
        acked: bool,
        failed: Sequence[str],
    ) -> Verdict:
        """Give the verdict.

        Args:
            done: what was sent.
            reckoning: what the devices made of it.
            tally: sums and latencies.
            acked: whether all mailboxes are empty.
            failed: what else went wrong.
        """
        missing = await self._with_ids(reckoning.missing)
        lost, expired, dropped = await self._look_up(missing)
        doubled = [*reckoning.doubled, *(Fault(-1, *one) for one in done.conflicts)]
        excused = {(fault.device, fault.stream, fault.number) for fault in missing}
        refused = sum(len(sent.refused) for sent in done.sent.values())
        late, overtaken = out_of_promised_order(reckoning.late, self._spec)
        return Verdict(
            accepted=tally.accepted,
            expected=tally.expected,
            delivered=tally.delivered,
            repeats=tally.repeats,
            acked=acked,
            called_back=len(self._receiver.delivered) if self._receiver else 0,
            expired=expired,
            dropped=dropped,
            unknown=sum(len(sent.unknown) for sent in done.sent.values()),
            refused=refused,
            lost=tuple(sorted(lost)),
            out_of_order=named(late, {}),
            overtaken=overtaken,
            doubled=named(doubled, {}),
            strange=named(reckoning.strange, {}),
            not_called_back=await self._not_called_back(done, excused),
            exceeded=(*failed, *self._exceeded(tally, refused)),
        )

    async def _with_ids(self, faults: Sequence[Fault]) -> tuple[Fault, ...]:
        wanted = sorted({(fault.stream, fault.number) for fault in faults})
        if not wanted:
            return ()
        answer = await self._senders.ask(Ids(wanted))
        return named(faults, dict(zip(wanted, answer.ids, strict=True)))

    async def _look_up(self, missing: Sequence[Fault]) -> tuple[list[Fault], int, int]:
        """Ask the gateway about missing messages: those lost, and how many expired or gave way."""
        counts = {"expired": 0, "dropped": 0}
        excused: set[Fault] = set()
        waiting = iter(missing[:_LOOKED_UP])

        async def one(connection: HttpConnection) -> None:
            fault = next(waiting)
            end = await self._end_of(connection, fault)
            if end in counts:
                counts[end] += 1
                excused.add(fault)

        try:
            if missing:
                async with http_pool(self._place.api, _AT_ONCE) as pool:
                    await each_of(min(len(missing), _LOOKED_UP), pool, one)
        except* OSError:
            pass  # a gateway that is gone excuses nothing
        lost = [fault for fault in missing if fault not in excused]
        return lost, counts["expired"], counts["dropped"]

    async def _end_of(self, connection: HttpConnection, fault: Fault) -> str:
        """Say how a delivery ended that did not happen, empty where there is no excuse."""
        path = f"/v1/projects/{self._place.project}/messages/{fault.message}"
        authorization = f"Bearer {self._place.api_key}"
        answer = await connection.request(
            encode_request("GET", self._place.api, path, b"", Authorization=authorization)
        )
        if answer.status != _OK:
            return ""
        status = msgspec.json.decode(answer.body, type=_Status)
        device_id = self._device_ids[fault.device]
        own = [one.state for one in status.deliveries if one.device_id == device_id]
        state = own[0] if own else status.state
        if state in _GIVEN_WAY:
            return "dropped"
        over = status.expires_at is not None and status.expires_at <= dt.datetime.now(dt.UTC)
        one_device = fault.stream.startswith(("token", "user"))
        return "expired" if over and (state == "expired" or not one_device) else ""

    async def _not_called_back(
        self, done: Done, excused: set[tuple[int, str, int]]
    ) -> tuple[Fault, ...]:
        """Give the deliveries that no callback told of."""
        receiver = self._receiver
        if receiver is None:
            return ()
        audience: dict[str, list[int]] = {}
        for device in range(self._spec.devices):
            for stream in self._layout.streams_of(device):
                audience.setdefault(stream, []).append(device)
        faults: list[Fault] = []
        for stream, sent in done.sent.items():
            numbers = list(range(1, sent.last + 1))
            answer = await self._senders.ask(Ids([(stream, number) for number in numbers]))
            for number, message in zip(numbers, answer.ids, strict=True):
                faults += [
                    Fault(device, stream, number, message)
                    for device in audience.get(stream, ())
                    if message
                    and (device, stream, number) not in excused
                    and (message, self._device_ids[device]) not in receiver.delivered
                ]
            await asyncio.sleep(0)
        return tuple(faults)

    def _exceeded(self, tally: Tally, refused: int) -> list[str]:
        """Say which bounds were not kept."""
        bounds, delivery = self._spec.bounds, tally.histograms["delivery"]
        found: list[str] = []
        for name, share, bound in (("p50", 0.5, bounds.p50_ms), ("p99", 0.99, bounds.p99_ms)):
            value = delivery.quantile_ms(share)
            if bound and value > bound:
                found.append(f"{name} of deliveries is {value:.1f} ms; the bound is {bound:g} ms")
        if 0 <= bounds.errors < tally.failed:
            found.append(f"{tally.failed} answers were not 200; the bound is {bounds.errors}")
        if refused:
            codes = ", ".join(f"{number} x {code}" for code, number in tally.errors.items())
            found.append(f"{refused} messages were refused for good ({codes})")
        if self._spec.rate and not tally.accepted:
            found.append("no message was accepted")
        if self._receiver is not None and self._receiver.forged:
            found.append(f"{self._receiver.forged} callbacks did not have the webhook's signature")
        return found


def out_of_promised_order(late: Sequence[Fault], spec: Spec) -> tuple[list[Fault], int]:
    """Give what came late and must not, and how many were free to.

    A copy of a message to a user that a worker had to finish comes when it comes (docs/users.md),
    which happens where processes die.
    """
    free = "user" if spec.needs_own_gateway else None
    kept = [fault for fault in late if fault.stream.partition(" ")[0] != free]
    return kept, len(late) - len(kept)
