"""A device's side of the protocol over all of its connections: a state machine without I/O.

The signature, for whoever drives it (`sdk_client.connection`, the simulation):

    session = Session(Identity(credential, token), uniform, seen=ids, options=Options())
    actions = session.start(now)                        # once
    actions = session.on_open(now)                      # the socket of `Connect` is open
    actions = session.on_message(payload, now)          # one WebSocket message: bytes or str
    actions = session.on_lost(code, reason, now)        # it is gone; None: no close frame
    actions = session.on_timer(now)                     # `session.deadline` has come
    actions = session.on_handled(message_id, now)       # the handler is done: ack it
    actions = session.on_nacked(message_id, now, reason=…, retry_after_s=…)
    session.on_pushed(message_id)                       # it came another way
    actions = session.on_event(message_id, event, now, at_ms=…, action=…)
    actions = session.request(ref, frame, now)          # answered by Settle(ref, error)
    actions = session.close(now)

`now` is seconds on a monotonic clock. Every input returns the actions to carry out, in order
(`sdk_client.events`; arguments: `sdk_client.options`). After each one look at `deadline`.

Ids must be on disk BEFORE `on_handled` or `on_pushed` is called: the session acks them, and after a
crash only `seen` keeps a repeat from the handler.

Promises, as long as the driver keeps to this:
- A message is delivered to the handler once. A repeat of what the handler has is ignored; a repeat
  of what it is done with is acked again. Only a nack brings a message back.
- An ack leaves only after `on_handled`; after `on_pushed`, when the message comes.
- Messages are delivered in the order in which the gateway sends them.
- Nothing grows without a bound (`Options`).
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sdk_client.backoff import Backoff, Uniform
from sdk_client.errors import (
    BadCredentialError,
    ClosedError,
    DisconnectedError,
    DisplacedError,
    UnregisteredError,
)
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
from sdk_client.inbox import Inbox, event_frame, nack_frame
from sdk_client.options import Identity, Options
from sdk_client.requests import Requests
from sdk_client.wire import (
    Dropped,
    Error,
    Goaway,
    MessageFrame,
    Ok,
    Op,
    ServerFrame,
    TokenFrame,
    Welcome,
    WireError,
    decode,
    encode,
    encode_json,
    parse,
)

MAX_PAUSE_S: Final = 3_600.0
"""A server may ask for no longer pause than this."""

_NORMAL: Final = 1000
_FATAL: Final[Mapping[int, tuple[type[DisconnectedError], str]]] = {
    4001: (BadCredentialError, "the gateway does not know this credential: register again"),
    4002: (DisplacedError, "the same device connected elsewhere"),
    4003: (UnregisteredError, "the device is not registered any more: register again"),
}
_OUR_FAULT: Final = frozenset({1002, 1003, 1007, 1008, 1009})
"""Close codes that blame what the device sent."""

_IDLE: Final = ConnectionState.IDLE
_CONNECTING: Final = ConnectionState.CONNECTING
_CONNECTED: Final = ConnectionState.CONNECTED
_WAITING: Final = ConnectionState.WAITING
_STOPPED: Final = ConnectionState.STOPPED


class Session:
    """The state machine; see the module's text.

    Args:
        identity: who connects.
        uniform: the random source of the backoff.
        seen: ids that the handler was done with before, the oldest first.
        options: bounds and times.
    """

    def __init__(
        self,
        identity: Identity,
        uniform: Uniform,
        *,
        seen: Iterable[str] = (),
        options: Options | None = None,
    ) -> None:
        self.options = options = options or Options()
        self.state = _IDLE
        self._identity = identity
        self._encode = encode_json if options.dialect == "json" else encode
        self._backoff = Backoff(uniform, options.backoff_base_s, options.backoff_cap_s)
        self._inbox = Inbox(options.seen_limit, options.max_unhandled, seen)
        self._requests = Requests(
            options.max_requests, options.max_requests_in_flight, options.request_retry_s
        )
        self._outbox: deque[Mapping[str, object]] = deque(maxlen=options.max_outbox)
        self._ended: DisconnectedError | None = None
        self._open = False
        self._connected_at = 0.0
        self._wake_at = math.inf
        self._welcome_by = math.inf
        self._ping_at = math.inf
        self._pong_by = math.inf
        self._heartbeat_s = 0.0

    @property
    def deadline(self) -> float:
        """When `on_timer` next wants a call; infinity for never."""
        if self.state is _STOPPED or self.state is _IDLE:
            return math.inf
        if self.state is _CONNECTED:
            if self._inbox.owes_acks:
                return 0.0
            return min(self._ping_at, self._pong_by, self._requests.retry_at)
        return min(self._wake_at, self._welcome_by)

    @property
    def unhandled(self) -> int:
        """How many messages the handler has, or waits to get."""
        return len(self._inbox)

    def holds(self, message_id: str) -> bool:
        """Tell whether the handler has this message, or waits to get it."""
        return message_id in self._inbox

    # The connection.

    def start(self, now: float) -> Sequence[Action]:
        """Ask for the first connection. Repeats do nothing."""
        return self._connect(now) if self.state is _IDLE else ()

    def on_open(self, now: float) -> Sequence[Action]:
        """Take it that the socket is open: say who connects."""
        if self.state is not _CONNECTING:
            return ()
        self._open = True
        self._welcome_by = now + self.options.welcome_timeout_s
        frame: dict[str, object] = {
            "op": Op.CONNECT.value,
            "credential": self._identity.credential,
            "sdk": self._identity.sdk,
        }
        if self._identity.app_version:
            frame["app_version"] = self._identity.app_version
        if self._identity.token:
            frame["token"] = self._identity.token
        if self.options.heartbeat_s:
            frame["heartbeat"] = self.options.heartbeat_s
        return (self._transmit(frame),)

    def on_lost(
        self, code: int | None, reason: str, now: float, *, retry_after_s: float | None = None
    ) -> Sequence[Action]:
        """Take it that the socket is gone, or could not be opened.

        Args:
            code: of the close frame; None where there was none.
            reason: for people.
            now: the time.
            retry_after_s: seconds that a refused handshake asks to wait.
        """
        if self.state is not _CONNECTING and self.state is not _CONNECTED:
            return ()
        detail = f"closed with {code} {reason}".rstrip() if code is not None else reason
        self._open = False
        if code is not None and code in _FATAL:
            kind, text = _FATAL[code]
            return self._stop(kind(text), detail)
        blamed = self._requests.blame(detail) if code in _OUR_FAULT else []
        return [*blamed, *self._wait(detail, now, at_least_s=retry_after_s or 0.0)]

    def on_timer(self, now: float) -> Sequence[Action]:
        """Take it that `deadline` has come; too early a call does nothing."""
        if self.state is _WAITING and self._wake_at <= now:
            return self._connect(now)
        if self.state is _CONNECTING and self._welcome_by <= now:
            return self._give_up("no welcome in time", now)
        if self.state is not _CONNECTED:
            return ()
        if self._pong_by <= now:
            return self._give_up("no sign of life", now)
        actions = self._flush()
        if self._ping_at <= now:
            self._ping_at = now + self._heartbeat_s
            self._pong_by = min(self._pong_by, now + self.options.pong_timeout_s)
            actions.append(self._transmit({"op": Op.PING.value}))
        actions += map(self._transmit, self._requests.take(now))
        return actions

    def close(self, now: float) -> Sequence[Action]:
        """End it: what is to be said is said, requests fail with ClosedError."""
        del now
        if self.state is _STOPPED:
            return ()
        return [
            *self._flush(),
            *self._stop(ClosedError("the device was closed"), "closed by the app"),
        ]

    # Frames of the gateway.

    def on_message(self, payload: bytes | str, now: float) -> Sequence[Action]:
        """Take one whole WebSocket message."""
        if self.state is not _CONNECTING and self.state is not _CONNECTED:
            return ()
        self._pong_by = math.inf
        try:
            frame = parse(decode(payload))
        except WireError as error:
            return (Complain("frame.bad", str(error)),)
        if type(frame) is MessageFrame:
            return self._on_push(frame, now)
        if type(frame) is Welcome:
            return self._on_welcome(frame, now)
        return self._on_news(frame, now)

    def _on_news(self, frame: ServerFrame | None, now: float) -> Sequence[Action]:
        match frame:
            case Ok(ref):
                return [*self._requests.done(ref), *map(self._transmit, self._requests.take(now))]
            case Error():
                return self._on_error(frame, now)
            case Goaway(reason, pause_s):
                actions = self._flush()
                actions.append(Disconnect(_NORMAL, "going elsewhere"))
                return [*actions, *self._pause(f"goaway: {reason}", pause_s, now)]
            case TokenFrame(token):
                self._identity.token = token
                return (Readdress(token),)
            case Dropped(count):
                return (Lost(count),)
            case _:
                return ()

    def _on_welcome(self, frame: Welcome, now: float) -> Sequence[Action]:
        if self.state is _CONNECTED:
            return ()
        self.state = _CONNECTED
        self._connected_at = now
        self._welcome_by = math.inf
        self._heartbeat_s = max(frame.heartbeat, 1.0)
        self._ping_at = now + self._heartbeat_s
        detail = f"session {frame.session}, {frame.pending} pending"
        actions: list[Action] = [Report(_CONNECTED, detail), *self._flush()]
        actions += map(self._transmit, self._outbox)
        self._outbox.clear()
        actions += map(self._transmit, self._requests.take(now))
        return actions

    def _on_error(self, frame: Error, now: float) -> Sequence[Action]:
        settled = self._requests.refused(frame, now)
        if settled is None:
            return (Complain("gateway.error", f"{frame.code} {frame.message} {frame.ref}"),)
        return [*settled, *map(self._transmit, self._requests.take(now))]

    def _on_push(self, frame: MessageFrame, now: float) -> Sequence[Action]:
        if self.state is not _CONNECTED:
            return ()
        taken = self._inbox.take(frame, now)
        if taken is None:
            return ()
        return (Deliver(taken) if isinstance(taken, MessageFrame) else self._transmit(taken),)

    # The app.

    def on_handled(self, message_id: str, now: float) -> Sequence[Action]:
        """Ack a message that the handler is done with, and whose id is on disk."""
        return self._resume(now) if self._inbox.handled(message_id) else ()

    def on_pushed(self, message_id: str) -> None:
        """Take a message that came by a push of the platform, and whose id is on disk."""
        self._inbox.pushed(message_id)

    def on_nacked(
        self, message_id: str, now: float, *, reason: str = "", retry_after_s: float | None = None
    ) -> Sequence[Action]:
        """Ask for a message again, after so many seconds; None: the gateway's choice."""
        until = None if retry_after_s is None else now + retry_after_s
        if not self._inbox.nacked(message_id, reason, until):
            return ()
        actions: list[Action] = []
        if self.state is _CONNECTED:
            actions.append(self._transmit(nack_frame(message_id, reason, retry_after_s)))
        return [*actions, *self._resume(now)]

    def on_event(
        self, message_id: str, event: str, now: float, *, at_ms: int, action: str = ""
    ) -> Sequence[Action]:
        """Tell what a person did with a message; kept while there is no connection."""
        del now
        frame = event_frame(message_id, event, at_ms, action)
        if self.state is _CONNECTED:
            return (self._transmit(frame),)
        if self.state is not _STOPPED:
            self._outbox.append(frame)
        return ()

    def request(self, ref: str, frame: Mapping[str, object], now: float) -> Sequence[Action]:
        """Send a frame that the gateway answers; again over reconnects, until it does.

        Raises:
            QueueFullError: too many wait already.
        """
        if self.state is _STOPPED:
            return (Settle(ref, self._ended or ClosedError("the device was closed")),)
        self._requests.add(ref, frame)
        if self.state is not _CONNECTED:
            return ()
        return [self._transmit(each) for each in self._requests.take(now)]

    def forget(self, ref: str) -> None:
        """Wait no longer for the answer to a request. It may have been carried out."""
        self._requests.forget(ref)

    # Inside.

    def _connect(self, now: float) -> list[Action]:
        del now
        self.state = _CONNECTING
        self._wake_at = math.inf
        return [Report(_CONNECTING, "opening a socket"), Connect()]

    def _give_up(self, detail: str, now: float) -> list[Action]:
        return [Disconnect(_NORMAL, detail, abort=True), *self._wait(detail, now)]

    def _wait(self, detail: str, now: float, *, at_least_s: float = 0.0) -> list[Action]:
        """Try again after a failure."""
        lasted = self.state is _CONNECTED and now - self._connected_at >= self.options.lasting_s
        if lasted:
            self._backoff.reset()
        return self._pause(detail, at_least_s + self._backoff.wait_s(), now)

    def _pause(self, detail: str, pause_s: float, now: float) -> list[Action]:
        pause_s = min(max(pause_s, 0.0), MAX_PAUSE_S)
        self.state = _WAITING
        self._off()
        self._wake_at = now + pause_s
        return [Report(_WAITING, f"{detail}; next try in {pause_s:.1f} s")]

    def _off(self) -> None:
        self._open = False
        self._inbox.on_lost()
        self._welcome_by = self._ping_at = self._pong_by = self._wake_at = math.inf
        self._requests.on_lost()

    def _stop(self, error: DisconnectedError, detail: str) -> list[Action]:
        had_socket = self._open
        self.state = _STOPPED
        self._ended = error
        self._off()
        self._outbox.clear()
        actions: list[Action] = [Disconnect(_NORMAL, "bye")] if had_socket else []
        actions += self._requests.fail_all(error)
        return [*actions, Report(_STOPPED, detail), Stop(error)]

    def _resume(self, now: float) -> list[Action]:
        """Once half of the room is free, have the messages that found none sent again."""
        if not self._inbox.has_room_again or self.state is not _CONNECTED:
            return []
        actions = self._flush()
        actions.append(Disconnect(_NORMAL, "room again"))
        return [*actions, *self._pause("messages found no room", 0.0, now)]

    def _flush(self) -> list[Action]:
        """Ack what is done."""
        if self.state is not _CONNECTED:
            return []
        return list(map(self._transmit, self._inbox.acks()))

    def _transmit(self, frame: Mapping[str, object]) -> Transmit:
        return Transmit(self._encode(frame))
