"""What a run does, as a TOML file says it. Pure.

Every field has what it accepts in its description: the texts of errors, and of docs/loadtest.md.
"""

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

_UNITS_S: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?) ?(ms|s|m|h|)")
_AT: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_UNKNOWN: Final = re.compile(r"unknown field `(?P<field>[^`]*)`")
_MISSING: Final = re.compile(r"missing required field `(?P<field>[^`]*)`")
MAX_HEARTBEAT_S: Final = 900.0
MAX_TTL_S: Final = 28 * 86_400.0
MAX_DURATION_S: Final = 7 * 86_400.0
OVERHEAD_BYTES: Final = 80
"""The least that the data of a message has: stream, number and due time."""
SECONDS_TEXT: Final = 'seconds, or a text such as "90s", "5m", "1.5h"'


class SpecError(ValueError):
    """A scenario that cannot be run; the text names the field and what it accepts."""


class Seconds(float):
    """A time span: in TOML a number of seconds, or a text with a unit."""

    __slots__ = ()


Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]


class Targets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which share of the messages goes where; the shares are relative to each other."""

    token: Annotated[float, Meta(ge=0, description="a number from 0 on: to one device")] = 0.0
    user: Annotated[float, Meta(ge=0, description="a number from 0 on: to a user, two devices")] = (
        0.0
    )
    topic: Annotated[float, Meta(ge=0, description="a number from 0 on: to a topic")] = 0.0
    condition: Annotated[float, Meta(ge=0, description="a number from 0 on: to a condition")] = 0.0

    @property
    def total(self) -> float:
        """All shares together."""
        return self.token + self.user + self.topic + self.condition


class Kill(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="kill"):
    """SIGKILL one process of the gateway that the run started; `serve` starts it again."""

    at: Annotated[Seconds, Meta(description=SECONDS_TEXT)]
    role: Annotated[
        Literal["api", "shard", "worker", "store"],
        Meta(description="api, shard, worker or store"),
    ] = "shard"
    every: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(0)


class Restart(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="restart"
):
    """SIGTERM every process of these roles, one after another, each when the last one serves."""

    at: Annotated[Seconds, Meta(description=SECONDS_TEXT)]
    roles: Annotated[
        tuple[Literal["api", "shard", "worker"], ...],
        Meta(min_length=1, description="a list of api, shard, worker"),
    ] = ("shard",)
    every: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(0)


class Cut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag="cut"):
    """Cut the sockets of a share of the devices; they are away for `away`, or retry at once."""

    at: Annotated[Seconds, Meta(description=SECONDS_TEXT)]
    share: Share = 1.0
    away: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(0)
    every: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(0)


Fault = Kill | Restart | Cut


class GatewaySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway that a run starts where it is given no URL."""

    shards: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 1
    apis: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 1
    workers: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 1
    store: Annotated[
        Literal["embedded", "watched"],
        Meta(description="embedded, or watched (a primary, a replica, three Sentinels)"),
    ] = "embedded"
    settings: Annotated[
        dict[str, bool | int | float | str], Meta(description="a table of settings of the gateway")
    ] = {}


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a run must not exceed; 0 sets no bound."""

    p50_ms: Annotated[float, Meta(ge=0, description="milliseconds")] = 0.0
    p99_ms: Annotated[float, Meta(ge=0, description="milliseconds")] = 0.0
    errors: Annotated[
        int, Meta(ge=-1, description="how many answers other than 200; -1 sets no bound")
    ] = -1
    memory_slope_kib_h: Annotated[
        float,
        Meta(ge=0, description="KiB an hour and process: of API, shards, workers, supervisor"),
    ] = 0.0
    store_slope_kib_h: Annotated[float, Meta(ge=0, description="KiB an hour: of the store")] = 0.0
    descriptor_slope_h: Annotated[
        float, Meta(ge=0, description="descriptors an hour that a role may open and not close")
    ] = 0.0


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run. A file may leave out what suits it."""

    about: Annotated[str, Meta(description="a text: what the run shows")] = ""
    devices: Annotated[
        int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")
    ] = 100
    device_kind: Annotated[
        Literal["lean", "sdk"],
        Meta(description="lean (the protocol alone) or sdk (sdk_client, at most 2000 devices)"),
    ] = "lean"
    processes: Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")] = 1
    connect_rate: Annotated[
        float, Meta(ge=0, description="handshakes a second; 0: all at once")
    ] = 1000.0
    rate: Annotated[float, Meta(ge=0, le=100_000, description="messages a second, 0 to 100000")] = (
        100.0
    )
    arrivals: Annotated[Literal["poisson", "constant"], Meta(description="poisson or constant")] = (
        "poisson"
    )
    duration: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(30)
    payload: Annotated[
        int,
        Meta(ge=OVERHEAD_BYTES, le=4000, description="bytes of data in a message, 80 to 4000"),
    ] = 300
    batch: Annotated[
        int, Meta(ge=1, le=500, description="messages in a request at most, 1 to 500")
    ] = 1
    targets: Annotated[Targets, Meta(description="a table of shares")] = Targets(token=1.0)
    topics: Annotated[
        int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000; devices share them")
    ] = 1
    duplicates: Annotated[
        float, Meta(ge=0, le=1, description="a number from 0 to 1: sent twice, under one key")
    ] = 0.0
    ttl: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(3600)
    priority: Annotated[
        Literal["critical", "high", "normal", "low"],
        Meta(description="critical, high, normal or low"),
    ] = "normal"
    receipts: Annotated[
        Literal["device", "aggregate", "none"], Meta(description="device, aggregate or none")
    ] = "device"
    callbacks: Annotated[
        bool, Meta(description="true or false: whether a webhook hears of every delivery")
    ] = False
    slow: Annotated[
        float, Meta(ge=0, le=1, description="a number from 0 to 1: devices that ack late")
    ] = 0.0
    ack_delay: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(1)
    connections: Annotated[
        int, Meta(ge=1, le=1000, description="of the app servers to the API, 1 to 1000")
    ] = 64
    settle: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(60)
    heartbeat: Annotated[Seconds, Meta(description=SECONDS_TEXT)] = Seconds(60)
    roll_call: Annotated[
        bool, Meta(description="true or false: whether in the end each device must get a message")
    ] = False
    seed: Annotated[int, Meta(ge=0, description="a whole number from 0 on")] = 1
    bounds: Annotated[Bounds, Meta(description="a table of bounds")] = Bounds()
    gateway: Annotated[GatewaySpec, Meta(description="a table: the gateway to start")] = (
        GatewaySpec()
    )
    faults: Annotated[
        tuple[Fault, ...], Meta(description="tables with do = kill, restart or cut")
    ] = ()

    @property
    def needs_own_gateway(self) -> bool:
        """Whether it hurts processes of the gateway."""
        return any(isinstance(fault, Kill | Restart) for fault in self.faults)


SDK_DEVICES: Final = 2_000


def seconds(value: object) -> Seconds:
    """Read a time span.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Seconds(value)
    if isinstance(value, str) and (found := _DURATION.fullmatch(value)):
        return Seconds(float(found[1]) * _UNITS_S[found[2]])
    raise ValueError("not a time span")


def decode_hook(kind: type, value: object) -> object:
    """Read a `Seconds` for msgspec."""
    if kind is Seconds:
        return seconds(value)
    raise NotImplementedError


def encode_hook(value: object) -> float:
    """Write a `Seconds` for msgspec."""
    if isinstance(value, Seconds):
        return float(value)
    raise NotImplementedError


def parse(text: str, overrides: Sequence[str] = ()) -> Spec:
    """Read a scenario.

    Args:
        text: TOML.
        overrides: `field=value` each, the value as in TOML or a bare word; `table.field` reaches
            into a table.

    Raises:
        SpecError: with the field and what it accepts.
    """
    try:
        found: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"not TOML: {error}") from None
    for override in overrides:
        _override(found, override)
    _refuse_infinite(found, "")
    try:
        spec = msgspec.convert(found, Spec, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise SpecError(_explain(str(error), found)) from None
    _check(spec)
    return spec


def _override(table: dict[str, object], override: str) -> None:
    name, equals, text = override.partition("=")
    path = name.strip().split(".")
    if not equals or not all(path):
        raise SpecError(f"--set takes field=value, not {override!r}")
    for part in path[:-1]:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise SpecError(f"{name.strip()}: {part} is not a table")
        table = inner
    try:
        value: object = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        value = text.strip()
    table[path[-1]] = value


def _refuse_infinite(value: object, path: str) -> None:
    """Refuse TOML's `inf` and `nan`, which pass every comparison of a bound or none."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{path}: accepts finite numbers, not {value}")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_infinite(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_infinite(inner, f"{path}[{number}]")


def _check(spec: Spec) -> None:
    if not 0 < spec.duration <= MAX_DURATION_S:
        raise SpecError(f"duration: accepts {SECONDS_TEXT}, above 0 and at most 7 days")
    if spec.ttl > MAX_TTL_S:
        raise SpecError(f"ttl: accepts {SECONDS_TEXT}, at most 28 days")
    if spec.rate > 0 and spec.targets.total == 0:
        raise SpecError("targets: accepts shares of which one at least is above 0")
    if spec.device_kind == "sdk" and spec.devices > SDK_DEVICES:
        raise SpecError(f"devices: accepts at most {SDK_DEVICES} where device_kind is sdk")
    if spec.device_kind == "sdk" and spec.slow > 0:
        raise SpecError("slow: accepts 0 where device_kind is sdk")
    if not 1 <= spec.heartbeat <= MAX_HEARTBEAT_S:
        raise SpecError(f"heartbeat: accepts {SECONDS_TEXT}, from 1 s to 15 minutes")
    if spec.device_kind == "sdk" and spec.roll_call:
        raise SpecError("roll_call: accepts false where device_kind is sdk")
    if spec.callbacks and spec.receipts != "device":
        raise SpecError("receipts: accepts device where callbacks is true")
    if spec.faults and all(fault.at >= spec.duration for fault in spec.faults):
        first_s = min(fault.at for fault in spec.faults)
        raise SpecError(
            f"duration: accepts more than {first_s:g} s, when the first of the faults is due"
        )


def _explain(text: str, given: Mapping[str, object]) -> str:
    """Make msgspec's complaint one that names the field and what it accepts."""
    at = _AT.search(text)
    path = at["path"] if at else ""
    complaint = text[: at.start()] if at else text
    if (unknown := _UNKNOWN.search(complaint)) is not None:
        where = f" in {path}" if path else ""
        names = ", ".join(_fields_at(path, given))
        return f"unknown field {unknown['field']}{where}: accepts {names}"
    if (missing := _MISSING.search(complaint)) is not None:
        field = missing["field"]
        inside = f"{path}.{field}" if path else field
        return f"{inside}: is missing; accepts {accepts(inside, given) or 'kill, restart or cut'}"
    accepted = accepts(path, given)
    if not accepted and path.endswith(".do"):
        accepted = "kill, restart or cut"
    value = _value_at(path, given)
    return f"{path or 'the file'}: accepts {accepted or complaint}, not {value!r}"


def accepts(path: str, given: Mapping[str, object]) -> str:
    """Give the text of what the field at `path` (`devices`, `faults[0].at`) accepts."""
    holder, _, name = path.rpartition(".")
    if not holder and "[" in name:
        name = name.partition("[")[0]
    hint = _hints(_struct_at(holder, given)).get(name.partition("[")[0])
    return _description(hint)


def _fields_at(path: str, given: Mapping[str, object]) -> tuple[str, ...]:
    kind = _struct_at(path, given)
    tag = ("do",) if kind in get_args(Fault) else ()
    return tag + kind.__struct_fields__


def _struct_at(path: str, given: Mapping[str, object]) -> type[msgspec.Struct]:
    name = path.partition("[")[0]
    if name == "faults":
        value = _value_at(path, given)
        do = value.get("do") if isinstance(value, dict) else None
        kinds: dict[object, type[msgspec.Struct]] = {"kill": Kill, "restart": Restart, "cut": Cut}
        return kinds.get(do, Cut)
    tables: dict[str, type[msgspec.Struct]] = {
        "targets": Targets,
        "gateway": GatewaySpec,
        "bounds": Bounds,
    }
    return tables.get(name, Spec)


def _hints(kind: type[msgspec.Struct]) -> dict[str, object]:
    return get_type_hints(kind, include_extras=True)


def _description(hint: object) -> str:
    if get_origin(hint) is Annotated:
        for extra in get_args(hint)[1:]:
            if isinstance(extra, Meta) and extra.description:
                return extra.description
    return ""


def _value_at(path: str, given: object) -> object:
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(given, dict):
            given = given.get(part)
        elif isinstance(given, list) and part.isdecimal() and int(part) < len(given):
            given = given[int(part)]
        else:
            return None
    return given
