"""The store: a server in memory, what becomes of it, and the connections of the processes to it.

The processes have the real `router.store`, down to the bytes on the connection, and the server runs
the real functions (`tests.support.small_valkey`).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from hiredis import Reader, ReplyError

from router.store.link import Link
from tests.simulation.clock import OWNER
from tests.simulation.context import EPOCH_MS, Context, Line
from tests.simulation.guards import Guards
from tests.simulation.process import Process
from tests.support.small_valkey.resp import encode
from tests.support.small_valkey.server import SmallValkey

_WAIT: Final = b"WAIT"
_SILENT_S: Final = (0.2, 2.0, 12.0)
"""How long it may take until a process notices that its connection is gone."""
_Command = list[bytes]


class StoreServer:
    """What the processes share. Each command of it happens at once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.valkey = SmallValkey(self._now_us, self._appended)
        self.skew_ms = 0
        """How far its clock is ahead of the true time."""
        self.stalled_until = 0.0
        self.still_until = 0.0
        """What was sent into a standstill may be carried out up to here."""
        self.down = False
        self.failed_over = False
        self.full = False
        """Whether its memory is at the limit."""
        self._replica: SmallValkey | None = None
        """What the replica has, while it lags."""
        self._connections: dict[Connection, None] = {}
        self._waiting: dict[bytes, list[Connection]] = {}
        self._guards = Guards(context)
        context.loop.connect = self.connect
        context.view.look_at(lambda: self.valkey)

    def connect(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """Open a connection for the process that runs."""
        owner = cast("Process", OWNER.get())
        context = self.context
        if self.down or context.happens(min(0.5, 5 * context.faults.store_cuts)):
            raise ConnectionRefusedError
        connection = Connection(self, owner, cast("Link", protocol))
        self._connections[connection] = None
        protocol.connection_made(cast("asyncio.Transport", connection))
        return cast("asyncio.Transport", connection)

    def forget(self, connection: "Connection") -> None:
        self._connections.pop(connection, None)

    def execute(self, command: _Command) -> Any:
        """Carry out one command."""
        guard = self._guards.before(command)
        reply = self.valkey.execute(command)
        self.context.checks.on_store()
        if guard is not None:
            guard(reply)
        return reply

    def lagging(self) -> bool:
        """Tell whether the replica has not what was done last."""
        return self._replica is not None

    def wait_for(self, key: bytes, connection: "Connection") -> None:
        """Have a connection that reads a stream look again once there is news."""
        self._waiting.setdefault(key, []).append(connection)

    # What becomes of it.

    def cut(self, chosen: Callable[[str], bool]) -> None:
        """Lose the connections of some processes."""
        for connection in list(self._connections):
            if chosen(connection.process.name):
                connection.lose()

    def stall(self, stall_s: float) -> None:
        """Stand still for a while; what is sent meanwhile is carried out later."""
        self.stalled_until = self.context.now() + stall_s
        self.still_until = max(self.still_until, self.stalled_until + 1)

    def begin_lag(self) -> None:
        """Let the replica fall behind from here on."""
        self._replica = self.valkey.copy()
        self.context.checks.mark()

    def fail_over(self, outage_s: float, skew_ms: int) -> None:
        """Lose the primary; the replica takes over, with what it has and a clock of its own."""
        context = self.context
        context.note("store", f"dies; another one takes over in {outage_s:.1f} s")
        if self._replica is not None:
            self.valkey, self._replica = self._replica, None
            self.failed_over = True
            self._waiting.clear()
            context.checks.go_back()
        self.skew_ms = skew_ms
        self.go_down(outage_s)

    def end_lag(self) -> None:
        """Let the replica catch up."""
        self._replica = None
        for connection in list(self._connections):
            connection.serve()

    def go_down(self, outage_s: float) -> None:
        """Be away for a while, with all connections lost."""
        self.down = True
        self.cut(lambda _: True)
        self.context.loop.call_later(outage_s, self._come_back, context=self.context.nobody)

    def _come_back(self) -> None:
        self.down = False

    def _now_us(self) -> int:
        return EPOCH_MS * 1000 + int(self.context.loop.time() * 1_000_000) + self.skew_ms * 1000

    def _appended(self, key: bytes, fields: Sequence[bytes]) -> None:
        context = self.context
        if key.endswith(b":outbox"):
            context.checks.on_event(list(fields))
        elif key.startswith(b"shard:") and context.happens(context.faults.hint_lost):
            context.note("store", f"a hint to {key.decode()[6:]} is lost")
            self.valkey.drop_newest(key)
        for connection in self._waiting.pop(key, ()):
            connection.news()


class Connection:
    """The server's end of a connection, and the transport of the process's end.

    Commands arrive in order, and so do their answers. A dead process hears no answers; what it sent
    before is carried out all the same.
    """

    def __init__(self, server: StoreServer, process: Process, link: Link) -> None:
        self.process = process
        self._server = server
        self._context = server.context
        self._link = link
        self._reader = Reader()
        self._there = Line(server.context)
        self._back = Line(server.context)
        self._commands: list[_Command] = []
        self._open = True
        self._waits_until: float | None = None

    # The process's end: asyncio.Transport, as far as a link goes.

    def write(self, data: bytes) -> None:
        """Send; sometimes the connection is lost, before it arrives or behind it."""
        context = self._context
        if context.happens(context.faults.store_cuts):
            self.lose()
            if context.happens(0.5):
                return
        stalled_until = max(self._server.stalled_until, self.process.store_stalled_until)
        self._there.after(self._delay(), lambda: self._arrive(data), not_before=stalled_until)

    def abort(self) -> None:
        """Drop it; what was sent is carried out all the same."""
        self._close()
        self._context.loop.call_soon(self._link.connection_lost, None)

    close = abort

    def is_closing(self) -> bool:
        return not self._open

    # In between.

    def lose(self) -> None:
        """Lose it midway; the process learns of it at once, or later."""
        if not self._open:
            return
        context = self._context
        self._close()
        after_s = 0.0 if context.happens(0.6) else context.rng.choice(_SILENT_S)
        context.note(self.process.name, f"loses its store, and learns it after {after_s:g} s")
        learn = self._link.connection_lost
        context.loop.call_later(
            after_s, lambda: self.process.enter(lambda: learn(None)), context=context.nobody
        )

    def _close(self) -> None:
        self._open = False
        self._server.forget(self)

    def _delay(self) -> float:
        return self._context.rng.uniform(0, self._context.faults.store_delay_s)

    # The server's end.

    def news(self) -> None:
        """Look again at a stream that was waited for."""
        delay_s = self._context.rng.uniform(0, self._context.faults.inbox_delay_s)
        self._there.after(delay_s, self.serve, not_before=self._server.stalled_until)

    def serve(self) -> None:
        """Carry out what has arrived, up to a command that waits for something."""
        replies: list[object] = []
        while self._commands and not self._server.down:
            command = self._commands[0]
            reply = self._reply(command)
            if reply is None and self._waits(command):
                break
            self._waits_until = None
            # `WAIT` that nobody answered in time has been heard by nobody.
            replies.append(0 if reply is None and command[0] == _WAIT else reply)
            del self._commands[0]
        if replies and self._open:
            data = b"".join(map(encode, replies))
            self._back.after(self._delay(), lambda: self._answer(data))

    def _arrive(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            self._commands.append(cast("_Command", command))
        self.serve()

    def _reply(self, command: _Command) -> object:
        """Give what a command is answered at once; None, too, for what may have to wait."""
        server = self._server
        if command[0] == _WAIT:
            return None if server.lagging() else int(command[1])
        if server.full and server.valkey.needs_memory(command):
            return ReplyError("OOM command not allowed when used memory > 'maxmemory'.")
        return server.execute(command)

    def _waits(self, command: _Command) -> bool:
        """Tell whether a command waits for news, and its time is not over yet."""
        loop = self._context.loop
        if self._waits_until is not None:
            return loop.time() < self._waits_until
        if command[0] == _WAIT:
            patience_ms = int(command[2])
        elif command[0] == b"XREAD" and b"BLOCK" in command:
            patience_ms = int(command[command.index(b"BLOCK") + 1])
            self._server.wait_for(command[-2], self)
        else:
            return False
        self._waits_until = loop.time() + patience_ms / 1000
        loop.call_at(self._waits_until, self.serve, context=self._context.nobody)
        return True

    def _answer(self, data: bytes) -> None:
        if self._open:
            self.process.enter(lambda: self._link.data_received(data))
