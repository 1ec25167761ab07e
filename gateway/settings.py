"""All settings, each with its documentation; the only reader of the environment."""

import difflib
import enum
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from gateway.addresses import Clients, parse_proxies
from gateway.bridge_settings import BridgeSettings
from gateway.sealing_keys import ACCEPTED, read_keys
from gateway.setting_fields import Field, described
from router.export.checks import violation
from router.store.address import ACCEPTED as STORE_URLS
from router.store.address import parse_url


class Durability(enum.StrEnum):
    """When a send is answered: once stored, or once the store's log is on disk."""

    EVERYSEC = "everysec"
    FSYNC = "fsync"


Port = Annotated[int, Meta(ge=0, le=65535)]


class Settings(BridgeSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of every role.

    `<name>` in `pushwire.toml`, `PUSHWIRE_<NAME>` in the environment, and a flag where it makes
    sense; flag before environment before file before default.
    """

    data_dir: Annotated[
        Path, Meta(description="Where the embedded store, its log and the admin key live.")
    ] = Path("pushwire-data")
    store_url: Annotated[
        str, Meta(description="URL of the store (docs/store.md); empty for the embedded one.")
    ] = ""
    durability: Annotated[
        Durability, Meta(description="everysec: a store crash may lose a second; fsync: nothing.")
    ] = Durability.EVERYSEC
    store_replicas: Annotated[
        int, Meta(ge=0, le=9, description="Replicas that must have a change before its answer.")
    ] = 0
    host: Annotated[str, Meta(description="Address that all ports listen on.")] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="Port of the send API; 0 picks a free one.")] = 8080
    device_port: Annotated[Port, Meta(description="Port of the devices; 0 picks one.")] = 8081
    ops_port: Annotated[Port, Meta(description="Port of metrics and health; 0 picks one.")] = 9100
    device_url: Annotated[
        str,
        Meta(
            description="ws:// or wss:// URL that registration tells devices to connect to; empty: "
            "the host of the request, at device_port."
        ),
    ] = ""
    shards: Annotated[int, Meta(ge=1, le=64, description="Connection-server processes.")] = 1
    apis: Annotated[int, Meta(ge=1, le=64, description="API processes.")] = 1
    workers: Annotated[int, Meta(ge=1, le=64, description="Worker processes.")] = 1
    region: Annotated[
        str, Meta(pattern="^[a-z0-9-]{1,32}$", description="First part of every token.")
    ] = "local"
    admin_key: Annotated[
        str, Meta(description="Key of the admin calls; empty: made in the data directory.")
    ] = ""
    secret_key: Annotated[
        str,
        Meta(
            description="Keys that seal the bridges' credentials, base64 of 32 bytes each, the "
            "newest first; empty: in the data directory."
        ),
    ] = ""
    log_level: Annotated[
        str, Meta(pattern="^(debug|info|warning|error)$", description="Lowest level logged.")
    ] = "info"
    log_format: Annotated[
        str, Meta(pattern="^(auto|json|console)$", description="auto: console on a terminal.")
    ] = "auto"
    tls_cert: Annotated[str, Meta(description="PEM file: TLS on the device port.")] = ""
    tls_key: Annotated[str, Meta(description="PEM file of the certificate's key.")] = ""
    allowed_origins: Annotated[
        str,
        Meta(
            description="Comma-separated Origins of pages that may call; * for all, empty for none."
        ),
    ] = "*"
    max_pending: Annotated[
        int, Meta(ge=1, le=100_000, description="Messages a mailbox holds at the most.")
    ] = 1000
    window: Annotated[
        int, Meta(ge=1, le=1000, description="Unacked messages in flight per device.")
    ] = 64
    fan_out_rate: Annotated[
        float,
        Meta(ge=0, description="Topic deliveries a second, per project and shard process; 0: any."),
    ] = 50_000.0
    topic_cache_bytes: Annotated[
        int, Meta(ge=1_048_576, description="What a shard remembers of the ends of topics' logs.")
    ] = 67_108_864
    ack_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds until an unacked message is sent again.")
    ] = 15.0
    heartbeat_s: Annotated[
        float, Meta(ge=1, description="Seconds between heartbeats where the device names none.")
    ] = 240.0
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds a socket has for its connect frame.")
    ] = 10.0
    slow_consumer_s: Annotated[
        float, Meta(gt=0, description="Seconds a full socket may stay full.")
    ] = 30.0
    max_frame_bytes: Annotated[
        int, Meta(ge=1024, le=1_048_576, description="Largest frame taken from a device.")
    ] = 16_384
    max_connections: Annotated[
        int, Meta(ge=0, description="Sockets per shard; 0: from RLIMIT_NOFILE.")
    ] = 0
    handshake_rate: Annotated[
        float, Meta(gt=0, description="Handshakes a second and shard; more are told to wait.")
    ] = 2000.0
    drain_s: Annotated[
        float, Meta(ge=0, description="Seconds over which a stopping shard sends devices away.")
    ] = 5.0
    balance_connections: Annotated[
        bool,
        Meta(description="Whether shards send devices to others that have fewer, a few at a time."),
    ] = True
    stop_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds a stopping process has before it is aborted.")
    ] = 20.0
    max_user_devices: Annotated[
        int, Meta(ge=1, le=1000, description="Devices of one user at the most.")
    ] = 100
    max_group_devices: Annotated[
        int, Meta(ge=1, le=1000, description="Devices of one group at the most.")
    ] = 500
    status_retention_s: Annotated[
        int, Meta(ge=60, description="Seconds a message's status is kept after its end.")
    ] = 86_400
    recent_messages: Annotated[
        int,
        Meta(
            ge=0, le=100_000, description="Messages listed per project and partition; 0: no list."
        ),
    ] = 1000
    max_request_bytes: Annotated[
        int, Meta(ge=4096, description="Largest body of an API request.")
    ] = 4_194_304
    lease_s: Annotated[
        float, Meta(ge=1, description="Seconds until a silent shard or worker counts as dead.")
    ] = 6.0
    callback_allow_private: Annotated[
        bool,
        Meta(
            description="Whether callbacks and Web Push may go to private and loopback addresses."
        ),
    ] = False
    callback_timeout_s: Annotated[
        float, Meta(ge=1, description="Seconds that the request of a callback may take.")
    ] = 15.0
    callback_backlog_bytes: Annotated[
        int, Meta(ge=65_536, description="What waits for one webhook; more becomes dead letters.")
    ] = 67_108_864
    dead_letters: Annotated[
        int, Meta(ge=1, le=10_000, description="Dead letters kept of one webhook.")
    ] = 1000
    dead_letter_retention_s: Annotated[
        int, Meta(ge=60, description="Seconds a dead letter is kept.")
    ] = 1_209_600
    export_url: Annotated[
        str, Meta(description="Where all events go as files: file:/// or https://; empty: nowhere.")
    ] = ""
    export_format: Annotated[
        str, Meta(pattern="^(ndjson|parquet)$", description="What exported files hold.")
    ] = "ndjson"
    export_compression: Annotated[
        str,
        Meta(
            pattern="^(auto|gzip|zstd|none)$",
            description="auto: gzip for NDJSON, zstd for Parquet.",
        ),
    ] = "auto"
    export_rotate_s: Annotated[
        float, Meta(gt=0, le=3600, description="Seconds after which an exported file is finished.")
    ] = 60.0
    export_rotate_bytes: Annotated[
        int,
        Meta(ge=65_536, le=1_073_741_824, description="The same, in bytes before compression."),
    ] = 33_554_432
    export_method: Annotated[
        str, Meta(pattern="^(PUT|POST)$", description="PUT: below export_url; POST: to it.")
    ] = "PUT"
    export_headers: Annotated[
        str, Meta(description="Headers of the export over HTTP, as `Name: value`, one a line.")
    ] = ""


SECRETS: Final = frozenset({"admin_key", "secret_key", "export_headers"})
"""Settings whose values are never shown."""
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound
FILE_NAME: Final = "pushwire.toml"
PREFIX: Final = "PUSHWIRE_"


_COMMAND_VARIABLES: Final = ("CONFIG", "API_KEY", "CLIENT_KEY", "PROJECT", "API_URL")


class SettingsError(Exception):
    """A setting has a bad value. The text names the setting and what it accepts."""


def load(
    flags: Mapping[str, object],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """Read all settings: a flag goes before the environment, the file, the default.

    Args:
        flags: by name, as given; None where the flag was not.
        config: the file; without it `PUSHWIRE_CONFIG`, then `pushwire.toml` in `directory`, then in
            the data directory.
        environ: the environment; the process's own by default.
        directory: where to look for the file; the working directory by default.

    Raises:
        SettingsError: a bad value, an unknown name in the file, a file that cannot be read.
    """
    settings = _convert(_given(flags, config, environ, directory))
    if settings.store_url:
        _check_store_url(settings.store_url)
    try:
        read_keys(settings.secret_key)
    except ValueError:
        raise SettingsError(f"secret_key: {ACCEPTED}") from None
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("tls_cert and tls_key: give both, or none")
    if settings.device_url and not settings.device_url.startswith(("ws://", "wss://")):
        raise SettingsError(
            f"device_url: accepts a URL like wss://push.example.com, not {settings.device_url!r}"
        )
    try:
        parse_proxies(settings.trusted_proxies)
    except ValueError as error:
        accepted = "accepts addresses and networks such as 10.0.0.0/8, separated by commas"
        raise SettingsError(f"trusted_proxies: {accepted}; {error}") from error
    if problem := violation(
        settings.export_url,
        settings.export_format,
        settings.export_compression,
        settings.export_headers,
    ):
        raise SettingsError(problem)
    return settings


def _check_store_url(url: str) -> None:
    try:
        parse_url(url)
    except ValueError as error:
        raise SettingsError(f"store_url: accepts {STORE_URLS}. Here, {error}") from None


def clients_of(settings: Settings) -> Clients:
    """Give how the settings tell clients apart."""
    return Clients(parse_proxies(settings.trusted_proxies), settings.address_limits_on_loopback)


def given_names(flags: Mapping[str, object], *, config: Path | None = None) -> frozenset[str]:
    """Name the settings that are not left to their default.

    Raises:
        SettingsError: as `load`.
    """
    return frozenset(_given(flags, config, None, None))


def _given(
    flags: Mapping[str, object],
    config: Path | None,
    environ: Mapping[str, str] | None,
    directory: Path | None,
) -> dict[str, object]:
    environ = os.environ if environ is None else environ
    given: dict[str, object] = {}
    for field in fields():
        value: object = flags.get(field.name)
        origin = "--" + field.name.replace("_", "-")
        if value is None:
            origin = PREFIX + field.name.upper()
            value = environ.get(origin)
            if value == "" and not field.textual:
                value = None
        if value is not None:
            given[field.name] = _check(field, value, origin)
    path = _find_file(config, environ, directory or Path.cwd(), given)
    return given if path is None else {**_read_file(path), **given}


def to_environment(settings: Settings) -> dict[str, str]:
    """Write all settings as environment variables, so that a child process reads the same ones."""
    values = {PREFIX + field.name.upper(): str(getattr(settings, field.name)) for field in fields()}
    return {**values, PREFIX + "CONFIG": os.devnull}


def inherited_environment() -> dict[str, str]:
    """Give a copy of the process's environment, for child processes."""
    return dict(os.environ)


def variable(name: str) -> str:
    """Read `PUSHWIRE_<NAME>` for what is no setting of a role (a key that a command uses)."""
    return os.environ.get(PREFIX + name.upper(), "")


def unknown_variables() -> list[str]:
    """List the `PUSHWIRE_…` variables of the environment that mean nothing."""
    known = {PREFIX + field.name.upper() for field in fields()}
    known |= {PREFIX + name for name in _COMMAND_VARIABLES}
    return sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)


def shown_host(host: str) -> str:
    """Write a host for a URL: a wildcard as localhost, IPv6 in brackets."""
    if host in _WILDCARDS:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def fields() -> tuple[Field, ...]:
    """List every setting, in the order in which they are documented."""
    return described(Settings)


def _convert(given: Mapping[str, object]) -> Settings:
    return msgspec.convert(given, Settings, strict=False, dec_hook=_to_path)


def _to_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str | Path) and str(value):
        return Path(value)
    raise TypeError(f"expected a path, got {value!r}")


def _check(field: Field, value: object, origin: str) -> object:
    try:
        fits = _is_finite(getattr(_convert({field.name: value}), field.name))
    except msgspec.ValidationError:
        fits = False
    if not fits:
        shown = "a secret" if field.name in SECRETS else repr(value)
        raise SettingsError(f"{origin}: accepts {field.accepts}, not {shown}")
    return value


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _find_file(
    config: Path | None, environ: Mapping[str, str], directory: Path, given: Mapping[str, object]
) -> Path | None:
    if named := config or environ.get(PREFIX + "CONFIG"):
        return Path(named)
    data_dir = Path(str(given.get("data_dir", Settings().data_dir)))
    for folder in (directory, data_dir):
        if (path := folder / FILE_NAME).is_file():
            return path
    return None


def _read_file(path: Path) -> dict[str, object]:
    try:
        found: dict[str, object] = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    known = {field.name: field for field in fields()}
    for name, value in found.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{path}: {name} is not a setting{hint}")
        _check(known[name], value, f"{path}: {name}")
    return found
