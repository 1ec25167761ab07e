"""What must hold of single calls of the store, whoever makes them: fences and leases."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from router.model.ids import DeviceId, MessageId, told_as
from tests.simulation.context import Context
from tests.support.small_valkey.values import Hash, Text

_FENCED: Final = {"nack", "mark_sent", "detach", "upstream"}
"""Functions of sessions: first a device, then its epoch."""
_OWNED: Final = {"timers_due", "bridge_take"}
"""Functions that give work to who holds the lease: the first key, the first argument."""
_JOB: Final = 9
"""Parts of a job."""
Guard = Callable[[Any], None]


class Guards:
    """Looks at calls before and after they are carried out."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def before(self, command: Sequence[bytes]) -> Guard | None:
        """Give what is to look at the reply of a command; None where there is nothing to see."""
        if command[0] != b"FCALL":
            return None
        function, count = command[1].decode().rpartition("_")[0], int(command[2])
        keys, args = command[3 : 3 + count], command[3 + count :]
        if function in _FENCED:
            return self._fence(function, keys[0], args)
        if function == "ack":
            return self._acks(keys, args)
        if function == "save_cursors":
            return self._cursors(keys, args)
        if function in _OWNED:
            return lambda reply: self._lease(function, keys[0], args[0], reply)
        return None

    def _fence(self, function: str, mailbox: bytes, args: Sequence[bytes]) -> Guard | None:
        """See to it that a session changes nothing once another one took its place."""
        found = self._context.view.valkey.keys.find(mailbox, Hash)
        if found is None or found.get(b"ep") == args[1]:
            return None
        before, told = dict(found), self._context.checks.told_so_far

        def guard(_reply: object) -> None:
            if dict(found) != before or self._context.checks.told_so_far != told:
                self._context.fail(f"{function} of a session that was displaced is carried out")

        return guard

    def _acks(self, keys: Sequence[bytes], args: Sequence[bytes]) -> Guard:
        """See to it that of several sessions those that were displaced change nothing."""
        checks, held = self._context.checks, self._context.view.valkey.keys
        stale: list[tuple[str, Hash, dict[bytes, bytes]]] = []
        fresh: set[str] = set()
        key, at = 2, 1
        while at < len(args):
            device, epoch, count = args[at].decode(), args[at + 1], int(args[at + 4])
            found = held.find(keys[key], Hash)
            if found is None or found.get(b"ep") == epoch:
                fresh.add(device)
            else:
                stale.append((device, found, dict(found)))
            key, at = key + 3 + count, at + 5 + 3 * count
        told = checks.told_so_far

        def guard(_reply: object) -> None:
            heard = checks.devices_since(told)
            for device, now, then in stale:
                if device not in fresh and (dict(now) != then or device in heard):
                    self._context.fail("ack of a session that was displaced is carried out")

        return guard

    def _cursors(self, mailboxes: Sequence[bytes], args: Sequence[bytes]) -> Guard:
        """See to it that a session moves no cursor once another one took its place."""
        held = self._context.view.valkey.keys
        fresh = {
            mailbox
            for at, mailbox in enumerate(mailboxes)
            if (found := held.find(mailbox, Hash)) is None or found.get(b"ep") == args[3 * at]
        }
        stale = [held.make(mailbox, Hash) for mailbox in mailboxes if mailbox not in fresh]
        before = [(found, dict(found)) for found in stale]

        def guard(_reply: object) -> None:
            if any(dict(found) != then for found, then in before):
                self._context.fail("a session that was displaced moves a cursor")

        return guard

    def _lease(self, function: str, lease: bytes, worker: bytes, reply: Any) -> None:
        """See to it that one worker alone gets the work of a partition."""
        if not reply:
            return
        holder = self._context.view.valkey.keys.find(lease, Text)
        if holder != worker:
            self._context.fail(f"{worker.decode()} gets work of a partition that is not its own")
        if function == "bridge_take":
            for at in range(1, len(reply), _JOB):
                kept, device = MessageId(reply[at].decode()), DeviceId(reply[at + 1].decode())
                self._context.checks.on_job(told_as(kept), device)
