"""HTTP/2 of a client, without a socket: all that touches the library jh2, which has no types.

Source: RFC 9113.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import jh2.config
import jh2.connection
import jh2.errors
import jh2.events
import jh2.exceptions
import jh2.settings

Headers = Iterable[tuple[bytes, bytes]]
_REFUSED: Final = int(jh2.errors.ErrorCodes.REFUSED_STREAM)
_CANCEL: Final = int(jh2.errors.ErrorCodes.CANCEL)
_WINDOW_BYTES: Final = 65_535
_MAX_HEADERS_BYTES: Final = 65_536


class BrokenError(Exception):
    """The peer does not keep to the protocol: the connection is of no more use."""


class Handler(Protocol):
    """What hears of a connection."""

    def on_headers(self, stream: int, headers: Headers) -> None:
        """Take the head of an answer."""

    def on_data(self, stream: int, data: bytes) -> None:
        """Take a part of its body."""

    def on_end(self, stream: int) -> None:
        """Take it that an answer is whole."""

    def on_reset(self, stream: int, *, refused: bool) -> None:
        """Take it that a stream was reset; one that was `refused` was not looked at."""

    def on_goaway(self, last_stream: int, reason: bytes) -> None:
        """Take it that the peer ends the connection: it looks at no stream above the last."""

    def on_pong(self) -> None:
        """Take the answer to a ping."""


class _Connection(jh2.connection.H2Connection):  # type: ignore[misc,no-any-unimported] # it has no types
    """Corrects two habits of the library.

    It takes a connection for closed after GOAWAY, though open streams go on; and it looks at every
    stream when one more is opened, which a thousand streams make slow.
    """

    @property
    def open_outbound_streams(self) -> int:
        return len(self.streams)

    def forget(self, stream: int) -> None:
        if (closed := self.streams.pop(stream, None)) is not None:
            self._closed_streams[stream] = closed.closed_by

    def _receive_goaway_frame(self, frame: object) -> tuple[list[object], list[object]]:
        event = jh2.events.ConnectionTerminated()
        for name in ("last_stream_id", "error_code", "additional_data"):
            setattr(event, name, getattr(frame, name))
        return [], [event]


class Wire:
    """The state of one connection: requests in, bytes out, and back.

    Args:
        handler: hears of answers, from within `receive`.
    """

    def __init__(self, handler: Handler) -> None:
        config = jh2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            # What we send is made by the bridges, lower case and in order.
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = _Connection(config)
        self._handler = handler
        codes = jh2.settings.SettingCodes
        self._h2.local_settings = jh2.settings.Settings(
            client=True,
            initial_values={
                codes.ENABLE_PUSH: 0,
                codes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
                codes.MAX_HEADER_LIST_SIZE: _MAX_HEADERS_BYTES,
            },
        )
        self._h2.initiate_connection()
        self.streams_limit = 1
        """Streams that the peer allows at once; one until it said so."""

    def room_for(self, size: int) -> bool:
        """Tell whether the flow control of the connection lets a body of this size pass now."""
        return int(self._h2.outbound_flow_control_window) >= size

    def fits(self, size: int) -> bool:
        """Tell whether a body can pass in one frame of a new stream."""
        settings = self._h2.remote_settings
        return size <= min(int(settings.initial_window_size), int(settings.max_frame_size))

    def request(self, headers: list[tuple[str, str]], body: bytes) -> int:
        """Begin a stream with a whole request, and give its number.

        Raises:
            BrokenError: it cannot be written.
        """
        try:
            stream = int(self._h2.get_next_available_stream_id())
            self._h2.send_headers(stream, headers, end_stream=not body)
            if body:
                self._h2.send_data(stream, body, end_stream=True)
        except jh2.exceptions.H2Error as error:
            raise BrokenError(str(error)) from error
        return stream

    def cancel(self, stream: int) -> None:
        """Tell the peer that nobody waits for an answer any more."""
        try:
            self._h2.reset_stream(stream, _CANCEL)
        except jh2.exceptions.H2Error:
            return  # it ended meanwhile
        self._h2.forget(stream)

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self._h2.ping(b"pushwire")

    def goodbye(self) -> None:
        """Tell the peer that the connection ends."""
        self._h2.close_connection()

    def output(self) -> bytes:
        """Give what is to be written."""
        return bytes(self._h2.data_to_send())

    def receive(self, data: bytes) -> None:
        """Take what was read, and tell the handler.

        Raises:
            BrokenError: the peer broke the protocol.
        """
        try:
            for event in self._h2.receive_data(data):
                self._tell(event)
        except jh2.exceptions.H2Error as error:
            raise BrokenError(str(error)) from error

    def _tell(self, event: object) -> None:
        handler = self._handler
        match event:
            case jh2.events.ResponseReceived():
                handler.on_headers(event.stream_id, event.headers)
            case jh2.events.DataReceived():
                handler.on_data(event.stream_id, event.data)
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case jh2.events.StreamEnded():
                self._h2.forget(event.stream_id)
                handler.on_end(event.stream_id)
            case jh2.events.StreamReset():
                self._h2.forget(event.stream_id)
                handler.on_reset(event.stream_id, refused=int(event.error_code) == _REFUSED)
            case jh2.events.ConnectionTerminated():
                handler.on_goaway(event.last_stream_id, bytes(event.additional_data or b""))
            case jh2.events.PingAckReceived():
                handler.on_pong()
            case jh2.events.RemoteSettingsChanged():
                self.streams_limit = int(self._h2.remote_settings.max_concurrent_streams)
            case _:
                return
