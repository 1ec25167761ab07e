"""What must hold of topics and of messages to users and groups: who gets them, and who does not."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from router.model.ids import DeviceId, MessageId, TopicName
from router.model.message import Message

TOPICS: Final = (TopicName("news"), TopicName("sport"))
_NEWS, _SPORT = TOPICS
Wanted = Callable[[bool, bool], bool]
CONDITIONS: Final[Mapping[str, Wanted]] = {
    "'news' in topics": lambda news, _sport: news,
    "'news' in topics && !('sport' in topics)": lambda news, sport: news and not sport,
    "'sport' in topics || !('news' in topics)": lambda news, sport: sport or not news,
}
"""What conditions ask for, of the topics in `TOPICS`."""
_LASTING_MS: Final = 600_000
"""A TTL that no run outlasts."""


class _Standing:
    """Whether a device subscribes to a topic, as far as is known for certain."""

    def __init__(self) -> None:
        self.subscribed: bool | None = False
        self.told = ""
        """The process of the device that was told so; empty where another one asked."""
        self.changed = 0
        """When it became so: a count of all that is heard of here."""
        self.under_way = 0
        self.latest: Change | None = None


class Change:
    """A change of a subscription, from its request to its answer."""

    def __init__(
        self, standing: _Standing, tick: Callable[[], int], *, subscribe: bool, asker: str
    ) -> None:
        self._standing = standing
        self._tick = tick
        self._subscribe = subscribe
        self._asker = asker
        self._alone = standing.under_way == 0
        standing.under_way += 1
        standing.latest = self
        standing.subscribed = None
        standing.changed = tick()

    def end(self, *, done: bool) -> None:
        """Take it that the change was answered, or is void: nothing can come of it any more."""
        standing = self._standing
        standing.under_way -= 1
        if done and self._alone and standing.latest is self:
            standing.subscribed, standing.told = self._subscribe, self._asker
            standing.changed = self._tick()


class _Published(NamedTuple):
    """A message to a topic or a condition, which was answered with an id."""

    topic: str
    condition: str
    begun: int
    accepted: int
    lasting: bool


class TopicChecks:
    """Watches who gets what is published.

    Args:
        fail: told of each promise that is broken.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._now = 0
        self._standings: dict[DeviceId, dict[str, _Standing]] = {}
        self._published: dict[MessageId, _Published] = {}
        self._handled: dict[MessageId, dict[str, str]] = {}
        self._marked = 0
        self._left: dict[str, list[Change]] = {}
        """What processes asked for that are no more: their device's next session fences it off."""

    def joined(self, device: DeviceId) -> None:
        """Take it that there is a device."""
        self._standings[device] = {topic: _Standing() for topic in TOPICS}

    def change(self, device: DeviceId, topic: str, *, subscribe: bool, asker: str = "") -> Change:
        """Take it that somebody asks for a change of a subscription."""
        standing = self._standings[device][topic]
        return Change(standing, self._tick, subscribe=subscribe, asker=asker)

    def leave(self, device: str, changes: Iterable[Change | None]) -> None:
        """Take it that a process is gone that waited for the answers to these."""
        self._left.setdefault(device, []).extend(one for one in changes if one is not None)

    def on_session(self, device: str) -> None:
        """Take it that a device has a new session."""
        for change in self._left.pop(device, ()):
            change.end(done=False)

    def begin(self) -> int:
        """Take it that something is about to be published."""
        return self._tick()

    def accepted(self, identifier: MessageId, message: Message, begun: int) -> None:
        """Take it that a message was answered with an id."""
        if message.topic is None and message.selection is None:
            return
        condition = message.selection.condition if message.selection else ""
        lasting = message.ttl_ms >= _LASTING_MS and not message.collapse_key
        # A scheduled one is for those who subscribe when it is due: nobody knows exactly when.
        lasting = lasting and message.send_at_ms is None
        self._published[identifier] = _Published(
            message.topic or "", condition, begun, self._tick(), lasting
        )

    def taken_back(self, message: MessageId) -> None:
        """Take it that a message is cancelled: nobody need get it."""
        if (known := self._published.get(message)) is not None:
            self._published[message] = known._replace(lasting=False)

    def on_arrival(self, device: DeviceId, process: str, message: str, topic: str) -> None:
        """Take it that a frame of a topic arrives at a process of a device."""
        standing = self._standings[device].get(topic)
        if standing is not None and standing.subscribed is False and standing.told == process:
            self._fail(f"{device} gets {message} of {topic}, which it has left")

    def on_handled(self, device: str, process: str, message: MessageId) -> None:
        """Take it that the handler of a process gets a message that is new to the device."""
        self._handled.setdefault(message, {})[device] = process

    def is_decided_anew(self, device: str, message: MessageId) -> bool:
        """Tell whether a device may get a message late, as what it subscribes to has changed.

        Whom a condition asks for is decided at its turn, and once more in the next session.
        """
        known = self._published.get(message)
        if known is not None and known.topic:
            return False
        begun = 0 if known is None else known.begun
        return any(one.changed > begun for one in self._standings[DeviceId(device)].values())

    def mark(self) -> None:
        """Take it that the replica has what was done up to here."""
        self._marked = self._tick()

    def go_back(self) -> None:
        """Take it that what was done since is lost."""
        for standings in self._standings.values():
            for standing in standings.values():
                if standing.changed > self._marked:
                    standing.subscribed, standing.changed = None, self._tick()
        lost = [one for one, known in self._published.items() if known.accepted > self._marked]
        for message in lost:
            del self._published[message]

    def missing(self) -> Iterable[tuple[MessageId, DeviceId]]:
        """Give what subscribers have not got; and see to it that nobody else got anything."""
        for message, known in self._published.items():
            for device in self._standings:
                wanted = self._wants(device, known)
                got = self._handled.get(message, {}).get(device)
                if wanted and known.lasting and not got:
                    yield message, device
                if wanted is False and got and self._had_left(device, got):
                    self._fail(f"{device} got {message}, which was not for it")

    def _wants(self, device: DeviceId, known: _Published) -> bool | None:
        """Tell whether a message is for a device; None where it changed its mind since."""
        standings = self._standings[device]
        asked = [known.topic] if known.topic else list(TOPICS)
        found = []
        for topic in asked:
            standing = standings[topic]
            if standing.subscribed is None or standing.changed > known.begun:
                return None
            # What the app server changes counts as soon as the session has read it.
            if (
                standing.changed
                and not standing.told
                and (known.condition or not standing.subscribed)
            ):
                return None
            found.append(standing.subscribed)
        return found[0] if known.topic else CONDITIONS[known.condition](*found)

    def _had_left(self, device: DeviceId, process: str) -> bool:
        """Tell whether a process knew all that its device subscribes to."""
        told = {one.told for one in self._standings[device].values() if one.changed}
        return told <= {process}

    def _tick(self) -> int:
        self._now += 1
        return self._now


class AudienceChecks:
    """Watches that a message to a user or a group has a copy in each mailbox."""

    def __init__(self) -> None:
        self._members: dict[str, list[DeviceId]] = {}

    def joined(self, target: str, device: DeviceId) -> None:
        """Take it that a device belongs to a user or a group."""
        self._members.setdefault(target, []).append(device)

    def everybody(self) -> set[DeviceId]:
        """Give all devices that belong to anything."""
        return {device for devices in self._members.values() for device in devices}

    def members(self, target: str) -> list[DeviceId]:
        """Give whom a message to a user or a group is for."""
        return self._members.get(target, [])
