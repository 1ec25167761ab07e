"""The interface of a bridge: a way to reach a device through another provider.

A bridge is one module in `router.bridges` with a `BRIDGE`; it is found there and listed nowhere. It
maps, and does nothing else: no connection, no clock, no randomness, no state. What it is given it
returns as a `Request`, and what the provider answers as an `Outcome`. Pools, retries, breakers,
rates, receipts and the storage of credentials live once, with who calls it.

The way of a push: `content` once for each message, whichever devices it goes to; `authorize` once
in a while for each `audience`; `encode` for each device and try; `read` for each answer.
"""

import abc
import enum
from http import HTTPStatus
from typing import ClassVar, Final, Generic, TypeVar

import msgspec
from typing_extensions import override

from router.model.bridge_option import Option
from router.model.errors import FieldViolation
from router.model.ids import DeviceId, MessageId
from router.model.push import Push
from router.policy.bridge_fields import COMMON
from router.policy.callbacks import retry_after_ms

ID_KEY: Final = "pushwire_id"
"""The key under which every payload carries the message id, so that the SDK drops a second copy."""

KEY_BYTES: Final = 32
"""Random bytes for a key that a bridge makes for a project."""
UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What reading a provider's JSON may raise: any body may come from a host that a device names."""
NOW_MS: Final = 5_000
"""How long `now` lasts in now or never: a connection may have to be made first."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request to a provider. It may be sent again as it is, until `deadline_ms`."""

    method: str
    origin: str
    """`https://host[:port]`: connections are pooled by it, and breakers count by it."""
    path: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, those that stay the same from push to push first."""
    body: bytes
    deadline_ms: int
    """Not to be sent from this time on: the message is over."""
    id: str = ""
    """What the provider knows the push by: the same for each try."""

    @override
    def __repr__(self) -> str:
        return f"<Request to {self.origin}>"


class Response(msgspec.Struct, frozen=True, gc=False):
    """A provider's answer, whole."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""


class Authorization(msgspec.Struct, frozen=True, gc=False):
    """The value of a header `authorization`, for one audience; times in epoch milliseconds."""

    value: str
    earliest_ms: int
    """No other may be made before this, even where the provider refuses this one."""
    renew_ms: int
    """From then on another is to be made, ahead of its end."""
    ends_ms: int
    """Not to be used any more."""

    @override
    def __repr__(self) -> str:
        return f"<Authorization until {self.ends_ms}>"


class Scope(enum.Enum):
    """Whom a wait concerns."""

    PUSH = "push"
    """This push alone."""
    DEVICE = "device"
    """Every push to this device's address."""
    AUDIENCE = "audience"
    """Every push with these credentials to this audience."""


class Delivered(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The provider took it: receipt `bridged`. The message stays in the mailbox until its ack."""

    id: str = ""
    """What the provider calls it."""


class Unregistered(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The address is dead: remove it, tell `device.unregistered`; never send to it again.

    The address goes only where it is still the device's, and `concerns` says so of the time at
    which it was registered: both are to be compared in the step that removes it.
    """

    reason: str
    since_ms: int = 0
    """When the provider found it dead; 0 where it does not say."""

    def concerns(self, registered_ms: int) -> bool:
        """Tell whether an address that was last registered at this time is dead."""
        return not self.since_ms or registered_ms < self.since_ms


class BadAddress(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The address does not fit the credentials: it is malformed, or of another app or environment.

    One such device has a bad address, and loses it. Where many of an audience have one, it is the
    credentials that are wrong: suspend them for it and alert; addresses are not removed in bulk.
    """

    reason: str


class RetryAfter(msgspec.Struct, frozen=True, gc=False, tag=True):
    """It may succeed later: try again with backoff, not before `after_s`, within the TTL.

    Scope AUDIENCE counts as a failure for the breaker; DEVICE and PUSH do not.
    """

    reason: str
    after_s: float = 0.0
    """What the provider asks for, in seconds; 0 where it does not."""
    scope: Scope = Scope.PUSH


class Reauthorize(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The authorization is over: make another and try again, once a push.

    Where none may be made yet (`Authorization.earliest_ms`), or the next is refused too, this is
    `Misconfigured`.
    """

    reason: str


class Rejected(msgspec.Struct, frozen=True, gc=False, tag=True):
    """This message will never pass: `failed` in the receipts, a dead letter; no other suffers."""

    reason: str


class Misconfigured(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The credentials are refused: suspend them for this audience and alert.

    Messages wait in their mailboxes, addresses stay, and `bridge test` or a change of the
    credentials opens the bridge again.
    """

    reason: str
    suspend: bool = True
    """False where only a part of the pushes suffers: alert, give this push up, and go on."""


Outcome = (
    Delivered | Unregistered | BadAddress | RetryAfter | Reauthorize | Rejected | Misconfigured
)


class TooLarge(msgspec.Struct, frozen=True, gc=False):
    """The payload is larger than the provider takes. Refused when the message is accepted."""

    size: int
    limit: int


class Unsendable(msgspec.Struct, frozen=True, gc=False):
    """The sender's own part for this platform is wrong. Refused when the message is accepted."""

    violations: tuple[FieldViolation, ...]


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a project gives to a provider. Secret: its text shows nothing of it."""

    ACCEPTS: ClassVar[dict[str, str]] = COMMON
    """What each field accepts, for errors."""
    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    """How the fields are given on a command line; those that all bridges have go without saying."""

    endpoint: str = ""
    """`https://host[:port]` to talk to instead of the provider: a proxy, a test server."""
    ca: str = ""
    """Certificates in PEM to trust instead of the system's."""

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def shown(self) -> dict[str, str]:
        """Give what answers and logs may show."""
        return {"endpoint": self.endpoint} if self.endpoint else {}

    def public(self) -> dict[str, str]:
        """Give what apps need of it: whoever has the project's client key may read this."""
        return {}

    def advice(self) -> str:
        """Tell what had better be given too; empty where nothing is missing."""
        return ""


class Address(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a device is reached, as its registration says it."""

    ACCEPTS: ClassVar[dict[str, str]] = {}

    @property
    def identity(self) -> str:
        """Give a text that two addresses share only where they reach the same installation."""
        raise NotImplementedError

    @property
    def named_url(self) -> tuple[str, str]:
        """Give the URL of a host that the device names, behind its field; empty where it does not.

        A bridge that gives any has `foreign_hosts`.
        """
        return "", ""


class Content(msgspec.Struct, frozen=True):
    """What a message is to one provider, before a device is known."""

    push: Push


C = TypeVar("C", bound=Credentials)
A = TypeVar("A", bound=Address)
T = TypeVar("T", bound=Content)
S = TypeVar("S", bound=Credentials | Address)


class Recipient(msgspec.Struct, Generic[A], frozen=True):
    """One device and its address."""

    device: DeviceId
    address: A


class Bridge(abc.ABC, Generic[C, A, T]):
    """One provider. Stateless: one object serves all projects.

    Credentials, addresses and contents go only to the bridge that made them.
    """

    name: ClassVar[str]
    part: ClassVar[str] = ""
    """The field of a message that this provider alone reads, as errors name it."""
    takes: ClassVar[type[Credentials]]
    """What `credentials` makes."""
    multiplexed: ClassVar[bool] = False
    """Whether requests go over few HTTP/2 connections, many at once; else HTTP/1.1 will do."""
    foreign_hosts: ClassVar[bool] = False
    """Whether devices name the host: then it is connected to through the guard of callbacks."""
    entropy_bytes: ClassVar[int] = 0
    """Fresh random bytes that each `encode` takes."""
    device_per_minute: ClassVar[int] = 0
    """Pushes to one device that the provider takes; 0 where it names no limit."""
    project_per_minute: ClassVar[int] = 0

    @abc.abstractmethod
    def credentials(self, raw: object) -> C:
        """Read credentials from plain JSON values, or their stored form.

        Raises:
            PushError: INVALID_ARGUMENT, naming each bad field and what it accepts.
        """

    def completed(self, raw: dict[str, object], before: C | None, entropy: bytes) -> object:
        """Add what a project need not give; then `credentials` reads it.

        Args:
            raw: as the project gave it.
            before: the project's credentials until now.
            entropy: `KEY_BYTES` random bytes, for a key of its own.
        """
        del before, entropy
        return raw

    @abc.abstractmethod
    def address(self, raw: object) -> A:
        """Read the object `bridge` of a registration, or its stored form (`msgspec.to_builtins`).

        Raises:
            PushError: INVALID_ARGUMENT, naming each bad field and what it accepts.
        """

    @abc.abstractmethod
    def audience(self, credentials: C, address: A | None) -> str:
        """Name whom an authorization is for: it serves every push with the same audience."""

    @abc.abstractmethod
    def authorize(self, credentials: C, audience: str, now_ms: int) -> Authorization | Request:
        """Make an authorization, or the request that grants one (then `granted` reads the answer).

        Two processes may make one at the same time: where the provider limits how often it sees a
        new one, both make the same.
        """

    def granted(
        self, response: Response, now_ms: int
    ) -> Authorization | RetryAfter | Misconfigured:
        """Read the answer to the request that `authorize` gave."""
        raise NotImplementedError

    @abc.abstractmethod
    def content(self, push: Push) -> T | TooLarge | Unsendable:
        """Give what a message is to this provider: the same for all devices and tries."""

    @abc.abstractmethod
    def encode(
        self,
        content: T,
        credentials: C,
        recipient: Recipient[A],
        authorization: Authorization,
        now_ms: int,
        entropy: bytes = b"",
    ) -> Request:
        """Give the request that reaches a device; of the same message always with the same id."""

    @abc.abstractmethod
    def read(self, response: Response, now_ms: int) -> Outcome:
        """Tell what an answer to a push means. Never raises, whatever the answer is."""

    def probe(self, credentials: C, authorization: Authorization, now_ms: int) -> Request | None:
        """Give a request that shows whether credentials are good, and reaches nobody.

        They are where `read` gives of its answer `Delivered`, `Unregistered` or `BadAddress`. None
        where the provider offers no such request.
        """
        del credentials, authorization, now_ms
        return None


AnyBridge = Bridge[Credentials, Address, Content]


def push_deadline(push: Push, now_ms: int) -> int:
    """Give the time from which a request is not to be sent: a moment for now or never."""
    return now_ms + NOW_MS if push.now_or_never else push.expires_ms


def by_status(status: int, reason: str = "") -> Outcome:
    """Read an answer of which no more is known than its status; `reason` may be anything."""
    told = f"{status} {reason[:64]}".strip()
    if status == HTTPStatus.UNAUTHORIZED:
        return Reauthorize(told)
    if status == HTTPStatus.FORBIDDEN:
        return Misconfigured(told)
    if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetryAfter(told, 0.0, Scope.AUDIENCE)
    return Rejected(told)


def retry_after_s(response: Response, now_ms: int) -> float:
    """Read Retry-After, seconds or an HTTP date: seconds from now, a day at most; 0 for none."""
    return retry_after_ms(response.headers.get("retry-after", ""), now_ms) / 1000


def dedupe_tag(message: MessageId) -> str:
    """Give the tag of a notification whose sender gave none: a second copy replaces the first."""
    return f"{ID_KEY}:{message}"
