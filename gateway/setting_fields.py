"""What a model of settings says of each of them: for flags, pages and messages."""

import msgspec
from msgspec import inspect


class Field(msgspec.Struct, frozen=True):
    """One setting, for its flag, its page and its messages."""

    name: str
    help: str
    accepts: str
    """What values it takes, in words."""
    default: str
    textual: bool
    """Whether the empty text is a value, and not the lack of one."""


def described(model: type[msgspec.Struct]) -> tuple[Field, ...]:
    """List the settings of a model, in order; those that it inherits come last."""
    kinds = inspect.type_info(model)
    if not isinstance(kinds, inspect.StructType):  # pragma: no cover - it is one
        raise TypeError(kinds)
    found = []
    bases = [base for base in model.__bases__ if issubclass(base, msgspec.Struct)]
    inherited = {
        name for base in bases if base is not msgspec.Struct for name in base.__struct_fields__
    }
    for field in sorted(kinds.fields, key=lambda one: one.name in inherited):
        kind = field.type
        notes: dict[str, object] = {}
        if isinstance(kind, inspect.Metadata):
            notes.update(kind.extra_json_schema or {})
            kind = kind.type
        found.append(
            Field(
                name=field.name,
                help=str(notes.get("description", "")),
                accepts=_accepts(kind),
                default=str(field.default),
                textual=isinstance(kind, inspect.StrType) and kind.pattern is None,
            )
        )
    return tuple(found)


def _accepts(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            words = "true or false"
        case inspect.IntType():
            words = "a whole number" + _bounds(kind)
        case inspect.FloatType():
            words = "a number" + _bounds(kind)
        case inspect.EnumType():
            words = " or ".join(str(member.value) for member in kind.cls)
        case inspect.StrType(pattern=str(pattern)) if pattern.startswith("^("):
            words = " or ".join(pattern.strip("^()$").split("|"))
        case inspect.StrType(pattern=str(pattern)):
            words = "text that matches " + pattern.strip("^$")
        case inspect.CustomType():
            words = "a path"
        case _:
            words = "text"
    return words


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.ge is not None:
        return f" of at least {kind.ge}"
    return "" if kind.gt is None else f" above {kind.gt}"
