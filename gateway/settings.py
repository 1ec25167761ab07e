"""All settings, each with its documentation; the only reader of the environment."""

import enum
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta


class Durability(enum.StrEnum):
    """When a send is answered: once stored, or once the store's log is on disk."""

    EVERYSEC = "everysec"
    FSYNC = "fsync"


Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every setting of every role.

    `<name>` in `pushwire.toml`, `PUSHWIRE_<NAME>` in the environment, and a flag where it makes
    sense; flag before environment before file before default.
    """

    data_dir: Annotated[
        Path, Meta(description="Where the embedded store, its log and the admin key live.")
    ] = Path("pushwire-data")
    store_url: Annotated[
        str, Meta(description="redis://, rediss:// or unix:// URL; empty for the embedded store.")
    ] = ""
    durability: Annotated[
        Durability, Meta(description="everysec: a store crash may lose a second; fsync: nothing.")
    ] = Durability.EVERYSEC
    host: Annotated[str, Meta(description="Address that all ports listen on.")] = "127.0.0.1"
    api_port: Annotated[Port, Meta(description="Port of the send API; 0 picks a free one.")] = 8080
    device_port: Annotated[Port, Meta(description="Port of the devices; 0 picks one.")] = 8081
    ops_port: Annotated[Port, Meta(description="Port of metrics and health; 0 picks one.")] = 9100
    shards: Annotated[int, Meta(ge=1, le=64, description="Connection-server processes.")] = 1
    apis: Annotated[int, Meta(ge=1, le=64, description="API processes.")] = 1
    workers: Annotated[int, Meta(ge=1, le=64, description="Worker processes.")] = 1
    region: Annotated[
        str, Meta(pattern="^[a-z0-9-]{1,32}$", description="First part of every token.")
    ] = "local"
    admin_key: Annotated[
        str, Meta(description="Key of the admin calls; empty: made in the data directory.")
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
        Meta(description="Comma-separated Origins that may connect; * for all, empty for none."),
    ] = "*"
    max_pending: Annotated[
        int, Meta(ge=1, le=100_000, description="Messages a mailbox holds at the most.")
    ] = 1000
    window: Annotated[
        int, Meta(ge=1, le=1000, description="Unacked messages in flight per device.")
    ] = 64
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
    stop_timeout_s: Annotated[
        float, Meta(gt=0, description="Seconds a stopping process has before it is aborted.")
    ] = 20.0
    status_retention_s: Annotated[
        int, Meta(ge=60, description="Seconds a message's status is kept after its end.")
    ] = 86_400
    max_request_bytes: Annotated[
        int, Meta(ge=4096, description="Largest body of an API request.")
    ] = 4_194_304
    lease_s: Annotated[
        float, Meta(ge=1, description="Seconds until a silent shard or worker counts as dead.")
    ] = 6.0
