"""Which streams a run has, and which devices get each. Pure."""

from collections.abc import Iterator, Sequence
from typing import Final

from loadtest.run.spec import Spec

USER_DEVICES: Final = 2
"""Devices of one user."""


class Layout:
    """Names and audiences of the streams of a run.

    Args:
        spec: how many devices and topics there are.
        name: of the run; its topics and users begin with it.
    """

    def __init__(self, spec: Spec, name: str) -> None:
        self._spec = spec
        self._name = name
        targets = spec.targets
        self._kinds = {
            "token": targets.token,
            "user": targets.user,
            "topic": targets.topic,
            "condition": targets.condition,
        }

    @property
    def kinds(self) -> dict[str, float]:
        """The kinds of targets that get messages, and their shares."""
        total = self._spec.targets.total if self._spec.rate else 0.0
        return {kind: share / total for kind, share in self._kinds.items() if total and share}

    @property
    def users(self) -> bool:
        """Whether devices belong to users."""
        return "user" in self.kinds

    @property
    def subscribing(self) -> bool:
        """Whether devices subscribe to topics."""
        return "topic" in self.kinds or "condition" in self.kinds

    def user_of(self, device: int) -> str:
        """Name the user of a device."""
        return f"{self._name}-u{device // USER_DEVICES}"

    def topic(self, number: int) -> str:
        """Name a topic."""
        return f"{self._name}-{number}"

    def topic_of(self, device: int) -> int:
        """Give the number of the topic that a device subscribes to."""
        return device % self._spec.topics

    def streams_of(self, device: int) -> list[str]:
        """Name the streams that go to a device."""
        named = {
            "token": f"token {device}",
            "user": f"user {device // USER_DEVICES}",
            "topic": f"topic {self.topic_of(device)}",
            "condition": f"condition {self.topic_of(device)}",
        }
        return [named[kind] for kind in self.kinds]

    def streams(self, tokens: Sequence[str]) -> Iterator[tuple[str, dict[str, object], int]]:
        """Give name, target in a message, and size of the audience of every stream.

        Args:
            tokens: of the devices, by their numbers.
        """
        devices, topics = self._spec.devices, self._spec.topics
        for kind in self.kinds:
            match kind:
                case "token":
                    for number, token in enumerate(tokens):
                        yield f"token {number}", {"token": token}, 1
                case "user":
                    for number in range(-(-devices // USER_DEVICES)):
                        size = min(USER_DEVICES, devices - number * USER_DEVICES)
                        user = self.user_of(number * USER_DEVICES)
                        yield f"user {number}", {"user": user}, size
                case _:
                    for number in range(min(topics, devices)):
                        size = len(range(number, devices, topics))
                        name = self.topic(number)
                        target = (
                            {"topic": name}
                            if kind == "topic"
                            else {"condition": f"'{name}' in topics"}
                        )
                        yield f"{kind} {number}", {**target}, size
