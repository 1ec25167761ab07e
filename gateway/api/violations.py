"""Reads JSON against a struct the slow way: camelCase too, and every fault with its path.

The fast way is a msgspec decoder; where that refuses, this module tells the caller why. Paths are
written as the caller wrote them (`message.android.collapseKey`).
"""

import functools
import types
import typing
from collections.abc import Mapping
from typing import Final

import msgspec
import orjson

from router.model.errors import ErrorCode, FieldViolation, PushError

MAX_VIOLATIONS: Final = 20
"""More faults than these are not told in one answer."""
_MAX_KEY: Final = 64
"""Characters of an unknown key that are repeated to the caller."""

_WORDS: Final[Mapping[object, str]] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "an object",
}


class Plan(msgspec.Struct, frozen=True):
    """How one field is read."""

    name: str
    accepts: object
    says: str
    """What is accepted, in words."""
    struct: type[msgspec.Struct] | None
    values: object
    """The type of the values of a mapping or an array of scalars; None for others."""
    required: bool


class Reader:
    """Collects the faults of one JSON value.

    Attributes:
        violations: faults found so far, at most `MAX_VIOLATIONS`.
        spelling: canonical path to path as written, for checks that come later.
    """

    __slots__ = ("spelling", "violations")

    def __init__(self) -> None:
        self.violations: list[FieldViolation] = []
        self.spelling: dict[str, str] = {}

    def fault(self, path: str, description: str) -> None:
        """Note a fault at a path as written."""
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations.append(FieldViolation(path, description))

    def written(self, path: str) -> str:
        """Give a canonical path as the caller wrote it."""
        return self.spelling.get(path, path)

    def read(
        self, raw: object, model: type[msgspec.Struct], path: str, written: str
    ) -> dict[str, object]:
        """Give `raw` with canonical names, and note each fault in it."""
        normal: dict[str, object] = {}
        if not isinstance(raw, dict):
            self.fault(written, f"must be an object, not {_kind(raw)}")
            return normal
        plans = plans_of(model)
        for key, value in raw.items():
            here = f"{written}.{str(key)[:_MAX_KEY]}" if written else str(key)[:_MAX_KEY]
            plan = plans.get(key)
            if plan is None:
                self.fault(here, "unknown field")
                continue
            if plan.name in normal:
                self.fault(here, f"is given twice, as {plan.name} and in camelCase")
                continue
            canonical = f"{path}.{plan.name}" if path else plan.name
            self.spelling[canonical] = here
            normal[plan.name] = self._field(value, plan, canonical, here)
        for plan in plans.values():
            if plan.required and plan.name not in normal:
                self.fault(f"{written}.{plan.name}" if written else plan.name, "is required")
                normal[plan.name] = None
        return normal

    def _field(self, value: object, plan: Plan, path: str, written: str) -> object:
        if value is None and not plan.required:
            return None
        if plan.struct is not None and isinstance(value, dict):
            return self.read(value, plan.struct, path, written)
        if plan.values is not None and isinstance(value, dict | list):
            self._values(value, plan, written)
        else:
            self._scalar(value, plan.accepts, written, plan.says)
        return value

    def _values(self, value: dict[str, object] | list[object], plan: Plan, written: str) -> None:
        found = len(self.violations)
        says = words_of(plan.values)
        if isinstance(value, dict):
            for key, item in value.items():
                self._scalar(item, plan.values, f"{written}.{str(key)[:_MAX_KEY]}", says)
        else:
            for index, item in enumerate(value):
                self._scalar(item, plan.values, f"{written}[{index}]", says)
        if len(self.violations) == found:
            self._scalar(value, plan.accepts, written, plan.says)

    def _scalar(self, value: object, kind: object, written: str, says: str) -> None:
        try:
            msgspec.convert(value, typing.cast("type[object]", kind))
        except (msgspec.ValidationError, RecursionError, UnicodeError):
            self.fault(written, f"must be {says}{_got(value, says)}")


def load(body: bytes | msgspec.Raw) -> object:
    """Read JSON.

    Raises:
        PushError: INVALID_ARGUMENT, it is none.
    """
    try:
        return orjson.loads(memoryview(body))
    except orjson.JSONDecodeError as error:
        raise PushError(
            ErrorCode.INVALID_ARGUMENT, f"The request body is not valid JSON: {error}."
        ) from error


def refuse(violations: list[FieldViolation]) -> PushError:
    """Make the error that tells of all `violations`, of which there is at least one."""
    first = violations[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return PushError(
        ErrorCode.INVALID_ARGUMENT,
        f"Invalid request: {first.field or 'the body'} {first.description}{more}.",
        violations=tuple(violations),
    )


@functools.cache
def plans_of(model: type[msgspec.Struct]) -> Mapping[str, Plan]:
    """Give the fields of `model` by each name that callers may write."""
    plans: dict[str, Plan] = {}
    for field in msgspec.structs.fields(model):
        options = _options(field.type)
        structs = [
            option
            for option in options
            if isinstance(option, type) and issubclass(option, msgspec.Struct)
        ]
        plan = Plan(
            name=field.encode_name,
            accepts=field.type,
            says=words_of(field.type),
            struct=structs[0] if structs else None,
            values=next((inner for o in options if (inner := _values_type(o)) is not None), None),
            required=field.required,
        )
        plans[field.encode_name] = plan
        plans[camel_case(field.encode_name)] = plan
    return plans


def camel_case(name: str) -> str:
    """Give the JSON name that proto3 makes of a field's name."""
    head, *rest = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in rest)


def words_of(kind: object) -> str:
    """Tell in words what a type accepts: its description where it has one."""
    described = []
    plain = []
    for option in _options(kind):
        if says := _description(option):
            described.append(says)
        elif isinstance(option, type) and issubclass(option, msgspec.Struct):
            plain.append("an object")
        else:
            bare = typing.get_args(option)[0] if _is_annotated(option) else option
            origin = typing.get_origin(bare) or bare
            plain.append(_WORDS.get(origin, "a value of another type"))
    return " or ".join(dict.fromkeys(described + plain))


def _description(option: object) -> str:
    metas = (m for m in getattr(option, "__metadata__", ()) if isinstance(m, msgspec.Meta))
    return next((meta.description for meta in metas if meta.description), "")


def _options(kind: object) -> tuple[object, ...]:
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        members: tuple[object, ...] = typing.get_args(kind)
        return tuple(member for member in members if member is not types.NoneType)
    return (kind,)


def _values_type(option: object) -> object:
    """Give the type of the strings in a mapping or an array; None where they are free."""
    origin = typing.get_origin(option)
    arguments: tuple[object, ...] = typing.get_args(option)
    if _is_annotated(option):
        return _values_type(arguments[0])
    if origin in {dict, list} and arguments[-1] not in {object, msgspec.Raw}:
        return arguments[-1]
    return None


def _is_annotated(option: object) -> bool:
    return typing.get_origin(option) is typing.Annotated


def _got(value: object, says: str) -> str:
    """Tell what a value is that does not speak for itself: of an array in its place, how long."""
    if isinstance(value, str | int | float):
        return ""
    if isinstance(value, list) and "an array" in says:
        return f", not of {len(value)}"
    return f", not {_kind(value)}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return _WORDS.get(type(value), "another type")
