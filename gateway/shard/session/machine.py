"""The life of a session: frames, answers of the store and hints come in, actions go out.

Before: `gateway.shard.registry`, which feeds it hints and answers of the store, and
`gateway.shard.connection`, which feeds it the device's frames. After: whoever carries out the
actions.
"""

import sys
from collections.abc import Sequence
from typing import Final, cast

import msgspec

from gateway.shard.dialect import (
    AckFrame,
    BadFrameError,
    Connect,
    DeviceFrame,
    Dialect,
    Error,
    EventFrame,
    Goaway,
    NackFrame,
    Ok,
    Ping,
    Pong,
    SendFrame,
    SubscribeFrame,
    TokenFrame,
    UnsubscribeFrame,
    Welcome,
    WrongTypeError,
)
from gateway.shard.events import (
    MAX_FETCH,
    Action,
    Attach,
    ChangeTopics,
    Close,
    Detach,
    Engaged,
    Input,
    Nacked,
    ReadSubscriptions,
    Send,
    Sent,
    SessionError,
    SessionLimits,
    State,
    TopicEngaged,
    Upstream,
)
from gateway.shard.session.delivery import Read
from gateway.shard.session.topics import TopicDelivery
from router.model.errors import CloseCode
from router.model.hint import Deliver, Displace, Hint, Readdress, Resubscribe, Unregister
from router.model.ids import (
    DeviceId,
    MessageId,
    ProjectId,
    Token,
    TopicName,
    is_topic_message,
    parse_credential,
    parse_message_id,
    parse_token,
    parse_topic,
    partition_of,
    secret_hash,
)
from router.model.mailbox import Ack, Attached, AttachResult, Window
from router.model.receipt import Event
from router.policy.limits import app_version_violation

MIN_HEARTBEAT_MS: Final = 30_000
MAX_HEARTBEAT_MS: Final = 900_000
DEFAULT_RETRY_AFTER_S: Final = 5.0
MIN_RETRY_AFTER_S: Final = 1.0
MAX_RETRY_AFTER_S: Final = 86_400.0
_MAX_TEXT: Final = 200
_NOT_JSON: Final = "`data` holds what JSON cannot."
_NO_TOPIC: Final = "A topic takes 1 to 900 characters of a-z, A-Z, 0-9, -, _, ., ~ and %."

_HARMLESS: Final = frozenset({"UNIMPLEMENTED", "RESOURCE_EXHAUSTED"})
"""A client newer than the server, or one that is fast, is not a broken one."""

_NOTHING: Final[tuple[Action, ...]] = ()
_ATTACHING: Final = State.ATTACHING
_LIVE: Final = State.LIVE
_CLOSED: Final = State.CLOSED


class Session(TopicDelivery):
    """One connection's protocol; every input returns the actions to carry out, in order.

    Args:
        dialect: how this device writes frames.
        limits: what all sessions of the shard share.
        now_ms: the time, epoch milliseconds, as in every input.

    Inputs raise SessionError where `TRANSITIONS` does not know them in the current state.
    """

    __slots__ = ("_alive_ms", "_errors", "_idle_ms", "_token", "_upstream", "epoch")

    def __init__(self, dialect: Dialect, limits: SessionLimits, now_ms: int) -> None:
        super().__init__(dialect, limits)
        self.epoch = 0
        self.deadline_ms = now_ms + limits.connect_timeout_ms
        self._alive_ms = now_ms
        self._idle_ms = limits.heartbeat_ms * 3 // 2
        self._token: Token | None = None
        """The address that the device knows, until it is attached."""
        self._errors = 0
        self._upstream: set[str] | None = None

    def on_alive(self, now_ms: int) -> None:
        """Take any sign of life: a frame, a ping, a pong."""
        self._alive_ms = now_ms

    def on_clock(self, jump_ms: int) -> None:
        """Take it that the clock was set: what is measured in time passed moves with it."""
        self._alive_ms += jump_ms
        self._move_deadlines(jump_ms)

    def on_message(self, payload: bytes | str, now_ms: int) -> Sequence[Action]:
        """Take one whole WebSocket message: str for text, bytes for binary."""
        if self.state is _CLOSED:
            return _NOTHING
        self._alive_ms = now_ms
        try:
            frame = self._dialect.decode(payload)
        except BadFrameError as error:
            return self._refuse(error)
        except WrongTypeError as error:
            return self._close(CloseCode.UNSUPPORTED_DATA, str(error))
        if type(frame) is AckFrame and self.state >= _LIVE:
            return self._on_ack(frame.ids, now_ms)
        return self._on_frame(frame, now_ms)

    def on_attached(self, attached: Attached, now_ms: int) -> Sequence[Action]:
        """Take the answer to `Attach`."""
        if self._ignores(Input.ATTACHED):
            return _NOTHING
        if attached.result is AttachResult.BAD_CREDENTIAL:
            return self._close(CloseCode.BAD_CREDENTIAL, "bad credential")
        if attached.result is AttachResult.UNREGISTERED:
            return self._close(CloseCode.UNREGISTERED, "not registered")
        self.state = _LIVE
        self.epoch = attached.epoch
        # Shared, as every session of a project has it.
        self.project = ProjectId(sys.intern(attached.project))
        self.deadline_ms = self._alive_ms + self._idle_ms
        device = cast("DeviceId", self.device)
        welcome = Welcome(
            session=f"{self._limits.shard}-{attached.epoch}",
            device_id=device,
            heartbeat=self._idle_ms * 2 // 3 / 1000,
            pending=attached.pending,
            time=now_ms,
        )
        actions: list[Action] = [Send(self._dialect.encode(welcome))]
        known, self._token = self._token, None
        if known is not None and known.nonce != attached.token_nonce:
            token = Token(known.region, partition_of(device), device, attached.token_nonce)
            actions.append(Send(self._dialect.encode(TokenFrame(str(token)))))
        self._drops = attached.drops_known
        return self._take(attached.window, Read(0, 0), now_ms, actions)

    def on_unavailable(self, now_ms: int) -> Sequence[Action]:
        """Take it that the store did not answer `Attach` or `Fetch`."""
        if self._ignores(Input.UNAVAILABLE):
            return _NOTHING
        if self.state is _ATTACHING:
            return self._close(CloseCode.TRY_AGAIN_LATER, "store away, try again later")
        read, self._read = self._read, None
        if read is not None:
            self._want_from(read.after_seq)
        self._retry_ms = now_ms + self._limits.retry_ms
        self._arm(self._retry_ms)
        return _NOTHING

    def on_fetched(self, window: Window | None, now_ms: int) -> Sequence[Action]:
        """Take the answer to `Fetch`; None: the epoch is stale or the device gone."""
        if self._ignores(Input.FETCHED):
            return _NOTHING
        read, self._read = self._read, None
        if read is None:
            raise SessionError("nothing was fetched")
        return self.on_stale() if window is None else self._take(window, read, now_ms, [])

    def on_stale(self) -> Sequence[Action]:
        """Take it that the store knows another epoch: after a failover that may be an older one."""
        self.epoch = 0
        return self._close(CloseCode.TRY_AGAIN_LATER, "the session is over, connect again")

    def on_hint(self, hint: Hint, now_ms: int) -> Sequence[Action]:
        """Take a hint from the shard's inbox; one of another epoch changes nothing."""
        if not self._is_live():
            return _NOTHING
        if type(hint) is Deliver:
            return self._on_deliver(hint, now_ms) if hint.epoch == self.epoch else _NOTHING
        if type(hint) is Displace and self.epoch <= hint.epoch:
            return self._close(CloseCode.DISPLACED, "displaced by a newer session")
        return self._on_news(hint, now_ms) if hint.epoch == self.epoch else _NOTHING

    def _on_news(self, hint: Hint, now_ms: int) -> Sequence[Action]:
        if type(hint) is Unregister:
            return self._close(CloseCode.UNREGISTERED, "no longer registered")
        if type(hint) is Readdress:
            return (Send(self._dialect.encode(TokenFrame(hint.token))),)
        if type(hint) is Resubscribe:
            return (ReadSubscriptions(),)
        # A Wake: a Displace of this epoch has ended the session.
        self._rescan = 0
        return self._pump([], now_ms)

    def on_done(
        self, ref: str, error: str | None, now_ms: int, code: str = "UNAVAILABLE"
    ) -> Sequence[Action]:
        """Take the answer to `Upstream` or `ChangeTopics`: None once it is stored, or an error."""
        del now_ms
        if self._ignores(Input.DONE):
            return _NOTHING
        if self._upstream is not None:
            self._upstream.discard(ref)
            self._upstream = self._upstream or None
        frame = Ok(ref) if error is None else Error(code, error, ref)
        return (Send(self._dialect.encode(frame)),)

    def on_timer(self, now_ms: int) -> Sequence[Action]:
        """Take it that `deadline_ms` has come."""
        if self.state is _CLOSED or now_ms < self.deadline_ms:
            return _NOTHING
        if self.state < _LIVE:
            return self._too_late()
        idle_ms = self._alive_ms + self._idle_ms
        if now_ms >= idle_ms:
            return self._close(CloseCode.SHUTDOWN, "idle")
        self.deadline_ms = idle_ms
        if self._retry_ms > now_ms:
            self._arm(self._retry_ms)
        self._forget_settled(now_ms)
        marks = self._review(now_ms)
        return self._pump([Sent(tuple(marks))] if marks else [], now_ms)

    def _too_late(self) -> Sequence[Action]:
        if self.state is State.CONNECTING:
            return self._close(CloseCode.CONNECT_TIMEOUT, "no connect frame in time")
        return self._close(CloseCode.TRY_AGAIN_LATER, "store away, try again later")

    def on_goaway(self, reason: str, reconnect_after_s: float, now_ms: int) -> Sequence[Action]:
        """Ask the device to connect elsewhere after so many seconds."""
        del now_ms
        if self.state is _LIVE:
            self.state = State.DRAINING
            return (Send(self._dialect.encode(Goaway(reason, reconnect_after_s))),)
        if self.state < _LIVE:
            return self._close(CloseCode.SHUTDOWN, reason)
        return _NOTHING

    def on_closed(self, now_ms: int) -> Sequence[Action]:
        """Take it that the socket is gone, or that our `Close` was carried out."""
        del now_ms
        saved = self._save() if self.epoch else _NOTHING
        self.state = _CLOSED
        self._flights = self._held = self._settled = self._upstream = self._notice = None
        # An epoch of 0 was never attached, or its route is another session's by now.
        return (*saved, Detach()) if self.epoch else _NOTHING

    # Frames of the device.

    def _on_frame(self, frame: DeviceFrame, now_ms: int) -> Sequence[Action]:
        if type(frame) is Connect:
            return self._on_connect(frame, now_ms)
        if self.state is State.CONNECTING:
            return self._close(CloseCode.POLICY, "the first frame must be connect")
        if type(frame) is Ping:
            return (Send(self._dialect.encode(Pong())),)
        if self.state is _ATTACHING:
            return self._refuse(BadFrameError("FAILED_PRECONDITION", "Wait for the welcome."))
        return self._on_request(frame, now_ms)

    def _on_request(self, frame: DeviceFrame, now_ms: int) -> Sequence[Action]:
        if type(frame) is NackFrame:
            return self._on_nack(frame, now_ms)
        if type(frame) is EventFrame:
            return self._on_event(frame, now_ms)
        if isinstance(frame, SubscribeFrame | UnsubscribeFrame):
            return self._on_topics(frame)
        return self._on_send(cast("SendFrame", frame))

    def _on_connect(self, frame: Connect, now_ms: int) -> Sequence[Action]:
        if self.state is not State.CONNECTING:
            return self._close(CloseCode.POLICY, "connect was sent twice")
        credential = parse_credential(frame.credential)
        if credential is None:
            return self._close(CloseCode.BAD_CREDENTIAL, "bad credential")
        limits = self._limits
        self.state = _ATTACHING
        self.device = credential.device
        self.deadline_ms = now_ms + limits.connect_timeout_ms
        if frame.heartbeat > 0:
            asked_ms = int(min(frame.heartbeat * 1000, MAX_HEARTBEAT_MS))
            self._idle_ms = max(asked_ms, MIN_HEARTBEAT_MS) * 3 // 2
        if frame.token:
            self._token = parse_token(frame.token)
        limit = min(limits.window, MAX_FETCH)
        hashed = secret_hash(frame.credential)
        # What a registration would not take does not replace what it holds.
        version = frame.app_version if app_version_violation(frame.app_version) is None else ""
        return (Attach(credential.device, hashed, limit, frame.sdk, version),)

    def _on_nack(self, frame: NackFrame, now_ms: int) -> Sequence[Action]:
        message = MessageId(frame.id)
        if self._settled is not None and message in self._settled:
            return _NOTHING
        asked_s = DEFAULT_RETRY_AFTER_S if frame.retry_after is None else frame.retry_after
        # Below a second a device that refuses all would be sent everything without a pause.
        # In this order NaN, which msgpack can carry, counts as the least.
        wait_s = min(max(MIN_RETRY_AFTER_S, asked_s), MAX_RETRY_AFTER_S)
        due_ms = now_ms + int(wait_s * 1000)
        if parse_message_id(message) is not None and is_topic_message(message):
            return self._topic_nack(message, due_ms, now_ms)
        flight = self._refused(message, due_ms)
        if flight is None:
            return self._refuse(BadFrameError("INVALID_ARGUMENT", "No such message.", frame.id))
        actions: list[Action] = []
        if flight.sent_ms and not flight.told:
            actions.append(Sent((Ack(message, flight.seq, flight.sent_ms),)))
            flight.told = True
        actions.append(Nacked(message, flight.seq, frame.reason[:_MAX_TEXT], due_ms))
        return self._pump(actions, now_ms)

    def _on_event(self, frame: EventFrame, now_ms: int) -> Sequence[Action]:
        message = MessageId(frame.id)
        at_ms = now_ms if frame.at is None or not 0 < frame.at <= now_ms else frame.at
        if parse_message_id(message) is not None and is_topic_message(message):
            detail, sent = frame.action[:_MAX_TEXT], self._was_sent(message)
            return (TopicEngaged(message, Event(frame.event), at_ms, detail, sent),)
        if not self._owns(message):
            return self._refuse(BadFrameError("INVALID_ARGUMENT", "No such message.", frame.id))
        return (Engaged(message, Event(frame.event), at_ms, frame.action[:_MAX_TEXT]),)

    def _on_topics(self, frame: SubscribeFrame | UnsubscribeFrame) -> Sequence[Action]:
        topics: dict[TopicName, None] = {}
        for text in frame.topics:
            if (topic := parse_topic(text)) is None:
                return self._refuse(BadFrameError("INVALID_ARGUMENT", _NO_TOPIC, frame.ref))
            topics[topic] = None
        change = ChangeTopics(frame.ref, tuple(topics), type(frame) is SubscribeFrame)
        return self._await(frame.ref, change)

    def _on_send(self, frame: SendFrame) -> Sequence[Action]:
        try:
            data = msgspec.json.encode(frame.data)
        except (TypeError, ValueError, RecursionError):
            return self._refuse(BadFrameError("INVALID_ARGUMENT", _NOT_JSON, frame.id))
        return self._await(frame.id, Upstream(frame.id, data))

    def _await(self, ref: str, action: Action) -> Sequence[Action]:
        """Ask for what is answered by `on_done`, unless it is under way or too much is."""
        waiting = self._upstream
        if waiting is None:
            waiting = self._upstream = set()
        if ref in waiting:
            return _NOTHING
        if len(waiting) >= self._limits.max_upstream:
            text = "Too many requests wait to be stored; wait for their ok."
            return self._refuse(BadFrameError("RESOURCE_EXHAUSTED", text, ref))
        waiting.add(ref)
        return (action,)

    def _refuse(self, error: BadFrameError) -> Sequence[Action]:
        if self.state is State.CONNECTING:
            return self._close(CloseCode.POLICY, "the first frame must be connect")
        answer = Send(self._dialect.encode(Error(error.code, error.message, error.ref)))
        if error.code in _HARMLESS:
            return (answer,)
        self._errors += 1
        if self._errors > self._limits.max_errors:
            return (answer, *self._close(CloseCode.POLICY, "too many bad frames"))
        return (answer,)

    def _close(self, code: CloseCode, reason: str) -> Sequence[Action]:
        self.state = _CLOSED
        if code in {CloseCode.DISPLACED, CloseCode.UNREGISTERED}:
            self.epoch = 0
        return (Close(code, reason),)
