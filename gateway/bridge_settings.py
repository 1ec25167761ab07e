"""The settings of bridges. `Settings` holds them with all others."""

from typing import Annotated

from msgspec import Meta

from gateway.limit_settings import LimitSettings


class BridgeSettings(LimitSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When bridges take over, and how much of their pushes is under way."""

    bridge_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=2_419_200,
            description="Seconds that a connected device has to ack before its bridge takes over.",
        ),
    ] = 10.0
    bridge_token_days: Annotated[
        int,
        Meta(ge=1, le=3650, description="Days until a bridge is given up that no device renews."),
    ] = 270
    bridge_timeout_s: Annotated[
        float, Meta(ge=1, le=60, description="Seconds that a provider has to answer a push.")
    ] = 10.0
    bridge_connect_s: Annotated[
        float, Meta(gt=0, le=60, description="Seconds that a connection to a provider may take.")
    ] = 5.0
    bridge_concurrency: Annotated[
        int, Meta(ge=1, le=20_000, description="Pushes of one worker that wait for an answer.")
    ] = 2000
    bridge_project_concurrency: Annotated[
        int, Meta(ge=1, le=20_000, description="Of these, those of one bridge of one project.")
    ] = 1000
