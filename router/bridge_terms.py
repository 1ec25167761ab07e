"""On which terms a bridge may carry a message that is being accepted.

Before: `router.send`, `router.cast`, `router.publish`, which store them beside the message. After:
`router.bridge`, which says whether a provider takes it. What no provider of the project would take
is refused here, while its sender listens, and not by the provider, hours later.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

import orjson

from router.bridge import AnyBridge, TooLarge, Unsendable
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import MessageId, ProjectId
from router.model.message import BridgeMode, Message
from router.model.push import Push
from router.policy.bridge_part import pack, push_of, unpack
from router.policy.intake import Taken
from router.policy.takeover import stored


class Known(Protocol):
    """What is known of the bridges that projects have set up (`router.bridging.directory`)."""

    @property
    def is_loaded(self) -> bool:
        """Whether anything is known yet."""

    def names(self, project: ProjectId) -> frozenset[str]:
        """Name the bridges of a project."""

    async def has(self, project: ProjectId, name: str) -> bool:
        """Tell whether a project has a bridge, for certain."""


class Terms(NamedTuple):
    """What the store keeps of a message for bridges, and which of them it is not for."""

    policy: str = ""
    """When one takes over (`router.policy.takeover`); empty for never."""
    part: bytes = b""
    unfit: str = ""
    """Names of the bridges that cannot carry it, apart by spaces."""


NO_TERMS: Final = Terms()
_NO_TEXT: Final = FieldViolation(
    "message", "must be text in Unicode; half of a surrogate pair is none"
)


class BridgeTerms:
    """Fixes the terms of messages.

    Args:
        bridges: every kind that there is.
        known: which of them projects have.
        after_ms: how long a connected device has to ack where the sender says nothing.
    """

    def __init__(self, bridges: Mapping[str, AnyBridge], known: Known, after_ms: int) -> None:
        self._bridges = bridges
        self._known = known
        self._after_ms = after_ms

    def of(
        self, project: ProjectId, message: Message, identifier: MessageId, taken: Taken
    ) -> Terms:
        """Give the terms of a message to one device; its bridge is known to the store alone."""
        return self._terms(project, message, identifier, taken)[0]

    def of_many(
        self, project: ProjectId, message: Message, identifier: MessageId, taken: Taken
    ) -> Terms:
        """Give the terms of a message to many devices: each bridge of the project may be asked.

        Raises:
            PushError: INVALID_ARGUMENT, one of them cannot carry it.
        """
        terms, faults = self._terms(project, message, identifier, taken)
        if faults:
            raise _refusal([violation for each in faults.values() for violation in each])
        return terms

    def refusal(self, name: str, frame: bytes, part: bytes) -> PushError:
        """Say why the bridge of a device cannot carry a message, of what would be stored."""
        return _refusal(_faults(self._bridges[name], unpack(frame, part)))

    def check(self, name: str, message: Message, now_ms: int) -> None:
        """Check a message that is only validated against the bridge of its device.

        Raises:
            PushError: INVALID_ARGUMENT, it cannot carry it.
        """
        if message.bridge.mode is BridgeMode.NEVER or name not in self._bridges:
            return
        push = push_of(message, MessageId("fake_message_id"), now_ms, now_ms + message.ttl_ms)
        try:
            faults = _faults(self._bridges[name], push)
        except orjson.JSONEncodeError as error:
            raise _refusal([_NO_TEXT]) from error
        if faults:
            raise _refusal(faults)

    def check_many(self, project: ProjectId, message: Message, now_ms: int) -> None:
        """Check a message that is only validated against each bridge of the project.

        Raises:
            PushError: INVALID_ARGUMENT, one of them cannot carry it.
        """
        for name in sorted(self._known.names(project)):
            self.check(name, message, now_ms)

    def _terms(
        self, project: ProjectId, message: Message, identifier: MessageId, taken: Taken
    ) -> tuple[Terms, dict[str, list[FieldViolation]]]:
        names = self._known.names(project)
        mode = message.bridge.mode
        if not names and self._known.is_loaded and mode is not BridgeMode.ONLY:
            return NO_TERMS, {}
        policy = stored(message.bridge, message.priority, self._after_ms)
        if not policy:
            return NO_TERMS, {}
        faults = {}
        try:
            if names:
                push = push_of(message, identifier, taken.sent_ms, taken.expires_ms)
                checked = ((name, _faults(self._bridges[name], push)) for name in sorted(names))
                faults = {name: found for name, found in checked if found}
            return Terms(policy, pack(message), " ".join(faults)), faults
        except (UnicodeEncodeError, orjson.JSONEncodeError) as error:
            raise _refusal([_NO_TEXT]) from error


def _faults(bridge: AnyBridge, push: Push) -> list[FieldViolation]:
    """Tell what keeps a provider from taking a push."""
    content = bridge.content(push)
    if isinstance(content, TooLarge):
        says = f"the payload for {bridge.name} takes {content.size} bytes; {content.limit} at most"
        return [FieldViolation(_place(bridge.part), says)]
    if isinstance(content, Unsendable):
        return [FieldViolation(_place(one.field), one.description) for one in content.violations]
    return []


def _place(field: str) -> str:
    return f"message.{field}" if field else "message"


def _refusal(violations: list[FieldViolation]) -> PushError:
    text = "; ".join(f"{one.field}: {one.description}" for one in violations)
    return PushError(ErrorCode.INVALID_ARGUMENT, text, violations=tuple(violations))
