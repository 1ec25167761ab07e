"""`condition` and `filter` of a message into `router.model.selection`: pure."""

from collections.abc import Iterable, Iterator

import msgspec

from gateway.api import fcm_model as fcm
from router.model.selection import MAX_FILTER_BYTES, Filter, Selection
from router.policy import limits
from router.policy.conditions import ConditionError, parse_condition
from router.policy.versions import RangeError, parse_range

_NONE = "must ask for something: platform, language, region, app_version or attributes"
_ALONE = "selects among the devices of a topic, a condition or the project, not beside `{}`"

_encoder = msgspec.json.Encoder()


def selection_of(body: fcm.MessageBody) -> Selection | None:
    """Give which devices a message is for; None where it names neither condition nor filter.

    What `selection_faults` finds is left out.
    """
    if body.condition is None and body.filter is None:
        return None
    condition = ""
    if body.condition is not None:
        try:
            condition = parse_condition(body.condition).text
        except ConditionError:
            condition = ""
    return Selection(condition, None if body.filter is None else _filter(body.filter))


def selection_faults(body: fcm.MessageBody) -> Iterator[tuple[str, str]]:
    """Find what is wrong with condition and filter: paths inside the message, and what."""
    if body.condition is not None:
        try:
            parse_condition(body.condition)
        except ConditionError as error:
            yield "condition", f"is wrong at column {error.column}: {error.problem}"
    if body.filter is not None:
        for name in ("token", "user", "group"):
            if getattr(body, name) is not None:
                yield "filter", _ALONE.format(name)
        yield from _filter_faults(_filter(body.filter))


def _filter(body: fcm.Filter) -> Filter:
    return Filter(
        platform=_values(body.platform),
        language=_values(body.language),
        region=_values(body.region),
        app_version=(body.app_version or "").strip(),
        attributes={name: _values(values) for name, values in (body.attributes or {}).items()},
    )


def _values(given: list[str] | str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))


def _filter_faults(wanted: Filter) -> Iterator[tuple[str, str]]:
    if wanted == Filter():
        yield "filter", _NONE
        return
    yield from _each("platform", (value.lower() for value in wanted.platform))
    yield from _each("language", wanted.language)
    yield from _each("region", wanted.region)
    if wanted.app_version:
        try:
            parse_range(wanted.app_version)
        except RangeError as error:
            yield "filter.app_version", str(error)
    # As registrations are checked, so that no filter asks for what no device can have.
    longest = {name: max(values, key=len) for name, values in wanted.attributes.items()}
    for violation in limits.attribute_violations(longest):
        yield f"filter.{violation.field}", f"takes {violation.description}"
    if (size := len(_encoder.encode(wanted))) > MAX_FILTER_BYTES:
        yield "filter", f"takes {size} bytes as JSON; at most {MAX_FILTER_BYTES} are accepted"


_CHECKS = {
    "platform": limits.platform_violation,
    "language": limits.language_violation,
    "region": limits.region_violation,
}


def _each(name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    for value in values:
        if (violation := _CHECKS[name](value)) is not None:
            yield f"filter.{name}", f"takes {violation.description}; {value[:40]!r} is none"
            return
