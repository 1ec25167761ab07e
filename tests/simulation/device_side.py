"""Devices: the real SDK session and mail, an app that handles, and what is on disk."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from copy import copy
from typing import Final, assert_never

from router.model.ids import DeviceId, MessageId
from sdk_client import wire
from sdk_client.errors import ClosedError, DisconnectedError, DisplacedError
from sdk_client.events import (
    Action,
    Complain,
    Connect,
    ConnectionState,
    Deliver,
    Disconnect,
    Lost,
    Readdress,
    Report,
    Settle,
    Stop,
    Transmit,
)
from sdk_client.messages import Mail, Message
from sdk_client.options import Identity, Options
from sdk_client.seen import Seen
from sdk_client.state import Registration, StateFile
from tests.simulation.checks import Given
from tests.simulation.context import Context
from tests.simulation.network import ABNORMAL, Closing, Ear, Item, Network, Socket
from tests.simulation.topic_checks import Change
from tests.simulation.view import StreamPlace

SEEN_LIMIT: Final = 1_000
"""More than any run sends: within it the SDK promises each message once."""
_HEARTBEAT_S: Final = 30.0
_STUCK_S: Final = 12.0
_PUSHED: Final = StreamPlace("", 0)
"""Pushes of the platform come in no order."""


class Installation:
    """One device: its registration, its disk, and the processes of its app."""

    def __init__(self, context: Context, network: Network, registration: Registration) -> None:
        rng = context.rng
        self.context = context
        self.network = network
        self.name = registration.device_id
        self.dialect = rng.choice(["msgpack", "json"])
        self.max_unhandled = rng.choice([2, 4, 64])
        self.auto_ack = rng.random() < 0.5
        self.pace_s = rng.choice([0.001, 0.05, 0.3])
        self.state = self._fresh(registration)
        self.copies = 0
        """How many states there were before this one."""
        self.processes: list[AppProcess] = []
        self.drops_heard = 0
        """Messages that the app was told to have lost to the pending cap."""

    @property
    def running(self) -> "AppProcess | None":
        """The newest process that is not over."""
        return next((each for each in reversed(self.processes) if each.alive), None)

    def on_push(self, frame: bytes) -> None:
        """Take a push of the platform; one that finds no app running is lost."""
        if (process := self.running) is not None:
            process.on_push(frame)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start the app, with what is on disk."""
        self.processes.append(AppProcess(self, self.state, len(self.processes)))
        self.processes[-1].start(tasks)

    def restart(self, tasks: asyncio.TaskGroup) -> None:
        """Kill the app and start it again."""
        for process in self.processes:
            process.kill()
        self.start(tasks)

    def lose_state(self, tasks: asyncio.TaskGroup) -> None:
        """Start again without the ids that are on disk."""
        registration = self.state.registration
        assert registration is not None
        self.state = self._fresh(registration)
        self.copies += 1
        self.restart(tasks)

    def start_second(self, tasks: asyncio.TaskGroup) -> None:
        """Start the app on a copy of its disk, while it runs."""
        clone = copy(self.state)
        clone.seen = Seen(SEEN_LIMIT, self.state.seen)
        self.state = clone
        self.copies += 1
        self.start(tasks)
        for process in self.processes:
            process.alone = process.alone and not process.alive

    @staticmethod
    def _fresh(registration: Registration) -> StateFile:
        return StateFile(None, registration, Seen(SEEN_LIMIT))


class AppProcess:
    """One life of the app: does what `sdk_client.connection` and `sdk_client.core` do."""

    def __init__(self, installation: Installation, state: StateFile, number: int) -> None:
        context = installation.context
        registration = state.registration
        assert registration is not None
        self.alive = True
        self.alone = True
        """No other process of the device ran beside this one."""
        self.name = f"{installation.name[:4]}/{number}"
        self.mail = Mail(self)
        self.requests: dict[str, Change | None] = {}
        """Not answered yet, with the change of a subscription that they ask for."""
        self._installation = installation
        self._context = context
        self._state = state
        self.handed_again = 0
        """Messages that this process gave to its handler, and another one had before."""
        self._saved_as = f"{installation.name}#{installation.copies}"
        self._nacks: Counter[str] = Counter()
        self._identity = Identity(registration.credential, registration.token)
        options = Options(
            dialect=installation.dialect,
            heartbeat_s=_HEARTBEAT_S,
            backoff_cap_s=1.5,
            seen_limit=SEEN_LIMIT,
            max_unhandled=installation.max_unhandled,
        )
        self.session = context.parts.sdk_session(
            self._identity, context.rng.uniform, seen=state.seen, options=options
        )
        self._socket: Socket | None = None
        self._attempt = 0
        self._timer: asyncio.TimerHandle | None = None
        self._app: asyncio.Task[None] | None = None

    @property
    def token(self) -> str:
        """The address, as far as the device knows."""
        return self._identity.token

    @property
    def connected(self) -> bool:
        return self.alive and self.session.state is ConnectionState.CONNECTED

    def start(self, tasks: asyncio.TaskGroup) -> None:
        self._context.note(self.name, "starts")
        self._app = tasks.create_task(self._handle())

    def kill(self) -> None:
        """Die without a word; the kernel closes the socket."""
        if self.alive:
            self._context.note(self.name, "is killed")
            self._end()

    def lose_socket(self) -> None:
        """Lose the socket, of which the shard does not learn."""
        socket = self._socket
        if socket is not None:
            socket.cut(device_learns=False, shard_learns=False)
            self.on_gone(socket)

    def request(self, ref: str) -> None:
        """Send a message to the app server."""
        self._ask(ref, {"op": wire.Op.SEND.value, "id": ref, "data": {"n": ref}}, None)

    def subscribe(self, ref: str, topic: str, *, subscribe: bool) -> None:
        """Subscribe to a topic, or leave it."""
        op = wire.Op.SUBSCRIBE if subscribe else wire.Op.UNSUBSCRIBE
        device = DeviceId(self._installation.name)
        change = self._context.checks.topics.change(
            device, topic, subscribe=subscribe, asker=self.name
        )
        self._ask(ref, {"op": op.value, "ref": ref, "topics": [topic]}, change)

    def _ask(self, ref: str, frame: dict[str, object], change: Change | None) -> None:
        self.requests[ref] = change
        self.carry_out(self.session.request(ref, frame, self._context.now()))

    # The network's side.

    def on_open(self, socket: Socket, attempt: int) -> None:
        """Take it that a socket is open."""
        if not self.alive or attempt != self._attempt:
            socket.cut()
            return
        self._socket = socket
        socket.down.end = Ear(self, socket)
        self.carry_out(self.session.on_open(self._context.now()))

    def on_refused(self, attempt: int, reason: str, retry_after_s: float | None = None) -> None:
        """Take it that no socket could be opened."""
        if self.alive and attempt == self._attempt:
            now = self._context.now()
            self.carry_out(self.session.on_lost(None, reason, now, retry_after_s=retry_after_s))

    def on_item(self, socket: Socket, item: Item) -> None:
        """Take a frame of the current socket; those of others are not heard."""
        if not self.alive or socket is not self._socket:
            return
        if isinstance(item, Closing):
            self._socket = None
            socket.up.send(Closing(item.code, ""))
            self._lost(item.code, item.reason)
        else:
            self._inspect(item)
            self.carry_out(self.session.on_message(item, self._context.now()))

    def _inspect(self, item: bytes | str) -> None:
        frame = wire.parse(wire.decode(item))
        if isinstance(frame, wire.MessageFrame) and frame.topic:
            device = DeviceId(self._installation.name)
            self._context.checks.topics.on_arrival(device, self.name, frame.id, frame.topic)

    def on_gone(self, socket: Socket) -> None:
        """Take it that the current socket is lost."""
        if self.alive and socket is self._socket:
            self._socket = None
            self._lost(ABNORMAL, "")

    def _lost(self, code: int, reason: str) -> None:
        self._context.note(self.name, f"lost its socket: {code} {reason}".rstrip())
        self.carry_out(self.session.on_lost(code, reason, self._context.now()))

    def on_push(self, frame: bytes) -> None:
        """Do what `Device.take_push` does, and handle what is news."""
        message = wire.parse(wire.decode(frame))
        assert isinstance(message, wire.MessageFrame)
        if self.session.holds(message.id) or message.id in self._state.seen:
            return
        context, name = self._context, self._installation.name
        self._state.add(message.id)
        context.note(self.name, f"handles the push of {message.id}")
        context.checks.on_handler(
            Given(name, self.name, self.alone, _PUSHED, self._nacks[message.id]), message
        )
        context.checks.on_done(name, self._saved_as, message.id)
        self.session.on_pushed(message.id)

    # What the session asks.

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(payload):
                    self._send(payload)
                case Deliver(message):
                    self.mail.put(message)
                case Connect():
                    self._drop()
                    self._attempt += 1
                    self._installation.network.connect(self, self._attempt)
                case Disconnect():
                    self._disconnect(action)
                case _:
                    self._tell(action)
        if self.alive:
            limit = self._installation.max_unhandled
            self._context.checks.on_unhandled(self.name, self.session.unhandled, limit)
            self._arm()

    def _tell(self, action: Settle | Readdress | Lost | Report | Complain | Stop) -> None:
        match action:
            case Stop(error):
                self._stop(error)
            case Settle(ref, problem):
                self._settle_request(ref, problem)
            case Readdress(token):
                self._state.replace(token=token)
            case Report(state, detail):
                self._context.note(self.name, f"{state.value}: {detail}")
                if state is ConnectionState.CONNECTED:
                    self._context.checks.on_session(self._installation.name)
            case Complain(event, detail):
                self._context.fail(f"{self.name} complains: {event} {detail}")
            case Lost(count):
                self._context.note(self.name, f"lost {count} messages to the pending cap")
                self._installation.drops_heard += count
            case _:
                assert_never(action)

    def _send(self, payload: bytes | str) -> None:
        if self._socket is not None:
            frame = wire.decode(payload)
            what = frame.get("ids") or frame.get("id", "")
            self._context.note(self.name, f"→ {frame['op']} {what}".rstrip())
            self._socket.up.send(payload)

    def _disconnect(self, action: Disconnect) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            if action.abort:
                socket.cut(device_learns=False)
            else:
                socket.up.send(Closing(action.code, action.reason))

    def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.cut(device_learns=False)

    def _stop(self, error: DisconnectedError) -> None:
        self.mail.end(error)
        if self.alone or not isinstance(error, DisplacedError):
            self._context.fail(f"{self.name} was stopped: {error}")
        self._end()

    def _settle_request(self, ref: str, problem: Exception | None) -> None:
        if (change := self.requests.pop(ref, None)) is not None:
            change.end(done=problem is None)
        if problem is not None and not isinstance(problem, DisplacedError | ClosedError):
            self._context.fail(f"{self.name}: request {ref} failed: {problem}")

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.session.deadline
        if deadline != float("inf"):
            at = max(deadline, self._context.now())
            self._timer = self._context.loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.alive:
            self.carry_out(self.session.on_timer(self._context.now()))

    def _end(self) -> None:
        self.alive = False
        self._context.checks.topics.leave(self._installation.name, self.requests.values())
        self.requests.clear()
        self._drop()
        if self._timer is not None:
            self._timer.cancel()
        if self._app is not None:
            self._app.cancel()

    # The app.

    async def _handle(self) -> None:
        context, installation = self._context, self._installation

        def begin() -> None:
            self.carry_out(self.session.start(context.now()))

        try:
            async for message in self.mail.stream(auto_ack=installation.auto_ack, begin=begin):
                self._enter(message)
                stuck = context.happens(context.faults.handler_stuck)
                await asyncio.sleep(
                    _STUCK_S if stuck else context.rng.uniform(0, installation.pace_s)
                )
                if context.happens(0.1):
                    await message.displayed()
                if context.happens(context.faults.handler_nacks):
                    await message.nack("busy", context.rng.choice([None, 0.0, 1.0, 4.0]))
                elif not installation.auto_ack:
                    await message.ack()
        except DisconnectedError:
            context.note(self.name, "its app ends")

    def _enter(self, message: Message) -> None:
        context, name = self._context, self._installation.name
        place = context.view.place(DeviceId(name), MessageId(message.id))
        context.note(self.name, f"handles {message.id} (number {place.seq})")
        given = Given(name, self.name, self.alone, place, self._nacks[message.id])
        self.handed_again += context.checks.on_handler(given, message)

    # The desk of the app's messages.

    def holds(self, message_id: str) -> bool:
        return self.session.holds(message_id)

    def settle(self, message_id: str) -> None:
        if self.session.holds(message_id):
            self._state.add(message_id)
            checks = self._context.checks
            checks.on_done(self._installation.name, self._saved_as, message_id)
            self.carry_out(self.session.on_handled(message_id, self._context.now()))

    def refuse(self, message_id: str, reason: str, retry_after_s: float | None) -> None:
        self._nacks[message_id] += 1
        now = self._context.now()
        self.carry_out(
            self.session.on_nacked(message_id, now, reason=reason, retry_after_s=retry_after_s)
        )

    async def engage(self, message_id: str, event: str, action: str) -> None:
        at_ms, now = self._context.now_ms(), self._context.now()
        self.carry_out(self.session.on_event(message_id, event, now, at_ms=at_ms, action=action))
