"""What the leader tells its processes, and what they tell it: JSON, one a line."""

import msgspec

from loadtest.run.account import Reckoning, Sent
from loadtest.run.spec import Spec, decode_hook, encode_hook
from loadtest.senders import Account


class Place(msgspec.Struct, frozen=True):
    """A gateway, and a project on it."""

    api: str
    devices: str
    """Where devices connect; empty: where the API says."""
    project: str
    api_key: str
    client_key: str

    @property
    def account(self) -> Account:
        """The app server's part."""
        return Account(self.api, self.project, self.api_key)


class Enrol(msgspec.Struct, tag_field="do", tag="enrol"):
    """Register devices `first` to `first + count - 1` of the run `name`."""

    place: Place
    spec: Spec
    name: str
    first: int
    count: int
    folder: str
    """Where SDK devices keep their files."""
    number: int
    """Of this process: it chooses source addresses."""


class Connect(msgspec.Struct, tag_field="do", tag="connect"):
    """Connect every device, `rate` a second (0: all at once), and wait until all are."""

    rate: float
    timeout_s: float


class CutOff(msgspec.Struct, tag_field="do", tag="cut"):
    """Cut the sockets of a share of the devices; they stay away for a while."""

    share: float
    away_s: float
    rate: float
    """How fast they come back once that is over, a second; 0: all at once."""


class Recheck(msgspec.Struct, tag_field="do", tag="recheck"):
    """Connect anew every device that got something, and say how much its mailbox still holds."""

    rate: float
    timeout_s: float


class Reckon(msgspec.Struct, tag_field="do", tag="reckon"):
    """Compare what the devices saw with what was sent."""

    sent: dict[str, Sent]


class RollCall(msgspec.Struct, tag_field="do", tag="roll_call"):
    """Wait until every device got the message of a call; with `each`, send it to each first."""

    name: str
    each: bool
    timeout_s: float


class Dismiss(msgspec.Struct, tag_field="do", tag="dismiss"):
    """Disconnect; unregister all devices where the gateway is not the run's own."""

    unregister: bool


class Load(msgspec.Struct, tag_field="do", tag="load"):
    """Send what the scenario says, and say what was sent once all was answered."""

    place: Place
    spec: Spec
    name: str
    tokens: list[str]
    tell_ids: bool
    """Whether ticks hold the ids of what was accepted."""


class Halt(msgspec.Struct, tag_field="do", tag="halt"):
    """Send nothing more; with `now`, also give up what has no answer."""

    now: bool = False


class Ids(msgspec.Struct, tag_field="do", tag="ids"):
    """Give the ids of these messages: (stream, number)."""

    wanted: list[tuple[str, int]]


Command = Enrol | Connect | CutOff | Recheck | Reckon | RollCall | Dismiss | Load | Halt | Ids


class Order(msgspec.Struct):
    """A command with a number, which its answer repeats."""

    number: int
    command: Command


class DeviceTick(msgspec.Struct, tag_field="is", tag="devices", omit_defaults=True):
    """What happened to the devices of a process since its last tick."""

    connected: int = 0
    """Now."""
    delivered: int = 0
    """Messages that were new to their device."""
    repeats: int = 0
    connects: int = 0
    ends: dict[str, int] = {}
    """Sockets that ended, by reason."""
    refused: dict[str, int] = {}
    """Connections that did not come to a welcome, by reason."""
    dropped: int = 0
    """Messages that `dropped` frames told of."""
    delivery: str = ""
    """From the time a send was due until its frame was at the device."""
    resumed: str = ""
    """Of what was due while the device was away: from its return until the frame was there."""
    handshake: str = ""
    """From the time a connection was due until its welcome."""
    rolled: str = ""
    """From the time a roll call was due until it was at the device."""


class SenderTick(msgspec.Struct, tag_field="is", tag="senders", omit_defaults=True):
    """What happened to the app servers since their last tick."""

    due: int = 0
    accepted: int = 0
    expected: int = 0
    """Deliveries that must follow."""
    duplicates: int = 0
    """Sends repeated under their key."""
    errors: dict[str, int] = {}
    """Answers other than 200, and none, by kind."""
    backlog: int = 0
    """Messages that are due and have no answer, now."""
    answer: str = ""
    """From the time a send was due until it was answered 200."""
    lag: str = ""
    """From the time a message was due until its first request was written."""
    ids: list[tuple[str, int, str]] = []


class Done(msgspec.Struct, tag_field="is", tag="done", omit_defaults=True):
    """What came of a command."""

    number: int
    error: str = ""
    tokens: list[str] = []
    device_ids: list[str] = []
    device_url: str = ""
    """Where the API says that devices connect."""
    pending: int = 0
    absent: int = 0
    """Devices that did not answer a roll call."""
    reckoning: Reckoning | None = None
    sent: dict[str, Sent] = {}
    conflicts: list[tuple[str, int, str]] = []
    """Repeats under one key that were answered with another id: stream, number, id."""
    overloaded: bool = False
    """Whether sending stopped early because too much was due."""
    ids: list[str] = []


Report = DeviceTick | SenderTick | Done


_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


def encode(said: Order | Report) -> bytes:
    """Write an order or a report, without the end of the line."""
    return _encoder.encode(said)


def order_decoder() -> msgspec.json.Decoder[Order]:
    """Give what reads orders."""
    return msgspec.json.Decoder(Order, dec_hook=decode_hook)


def report_decoder() -> msgspec.json.Decoder[Report]:
    """Give what reads reports."""
    return msgspec.json.Decoder(Report)
