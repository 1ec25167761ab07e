"""Whether a message is for a device. Pure.

`platform`, `region` and an attribute match equal values, platform and region whatever their case;
`language` matches as RFC 4647, section 3.3.1, says: `en` takes en and en-GB, `en-GB` takes no en.
A device that does not say what a filter asks for does not match.
"""

import functools
from collections.abc import Callable

import msgspec

from router.model.ids import TopicName
from router.model.selection import Filter, Profile, Selection, decode_selection
from router.policy.conditions import Condition, parse_condition
from router.policy.versions import VersionRange, parse_range

_MAX_VERDICTS = 256
"""Different devices for which a selection remembers what it said."""
_attributes = msgspec.json.Decoder(dict[str, str])


class Matcher:
    """A filter, ready to be asked about many devices."""

    __slots__ = ("_attributes", "_language", "_platform", "_region", "_verdicts", "_versions")

    def __init__(self, wanted: Filter) -> None:
        self._platform = frozenset(value.lower() for value in wanted.platform)
        self._region = frozenset(value.lower() for value in wanted.region)
        self._language = tuple(_tag(value) for value in wanted.language)
        self._versions: VersionRange | None = None
        if wanted.app_version:
            self._versions = parse_range(wanted.app_version)
        self._attributes = {name: frozenset(values) for name, values in wanted.attributes.items()}
        self._verdicts: dict[Profile, bool] = {}

    def matches(self, profile: Profile) -> bool:
        """Tell whether a device is as the filter asks; devices that are alike are judged once."""
        verdict = self._verdicts.get(profile)
        if verdict is None:
            verdict = self._judge(profile)
            if len(self._verdicts) < _MAX_VERDICTS:
                self._verdicts[profile] = verdict
        return verdict

    def _judge(self, profile: Profile) -> bool:
        if self._platform and profile.platform.lower() not in self._platform:
            return False
        if self._region and profile.region.lower() not in self._region:
            return False
        if self._language and not self._speaks(_tag(profile.language)):
            return False
        if self._versions is not None and not self._versions.matches(profile.app_version):
            return False
        return not self._attributes or self._has(profile.attributes)

    def _speaks(self, tag: str) -> bool:
        return any(tag == wanted or tag.startswith(wanted + "-") for wanted in self._language)

    def _has(self, attributes: str) -> bool:
        known = _attributes.decode(attributes or "{}")
        return all(known.get(name) in values for name, values in self._attributes.items())


class Admission:
    """A selection, ready to be asked about many devices.

    Raises:
        ValueError: the selection holds no condition, or no range, of today's form.
    """

    __slots__ = ("condition", "matcher")

    def __init__(self, selection: Selection) -> None:
        self.condition: Condition | None = None
        if selection.condition:
            self.condition = parse_condition(selection.condition)
        self.matcher = None if selection.filter is None else Matcher(selection.filter)

    @classmethod
    def of_nobody(cls) -> "Admission":
        """Make the selection to which no device belongs."""
        nobody = cls(Selection())
        nobody.condition = Condition("", (), 0)
        return nobody

    def admits(self, profile: Profile, subscribed: Callable[[TopicName], bool]) -> bool:
        """Tell whether a device with this profile and these topics belongs to the selection."""
        if self.condition is not None and not self.condition.holds(subscribed):
            return False
        return self.matcher is None or self.matcher.matches(profile)


@functools.lru_cache(maxsize=256)
def admission(text: str) -> Admission | None:
    """Read a selection as it travels; None for everybody.

    Raises:
        ValueError: a newer version wrote it.
    """
    selection = decode_selection(text)
    return None if selection is None else Admission(selection)


def _tag(language: str) -> str:
    return language.replace("_", "-").lower()
