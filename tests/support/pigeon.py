"""A bridge that Pushwire does not have: its module is written into a folder, and found there."""

from pathlib import Path

import pytest

from router import bridges

SECRET = "whistle-that-calls-them"  # noqa: S105 - the test looks for it everywhere
_MODULE = """
from typing import Annotated, ClassVar

from msgspec import Meta

from router.bridge import (
    COMMON, Address, Authorization, Bridge, Content, Credentials, Request, by_status,
)
from router.model.bridge_option import Option, Takes
from router.policy.bridge_fields import common_faults, parsed, refuse


class PigeonCredentials(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    ACCEPTS: ClassVar[dict[str, str]] = {
        "loft": "a place", "whistle": "5 letters or more", **COMMON,
    }
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        Option("--loft", "loft", Takes.TEXT, "where they live", "PLACE", required=True),
        Option("--whistle-file", "whistle", Takes.FILE, "what calls them", "F", required=True),
    )

    loft: str
    whistle: Annotated[str, Meta(min_length=5)]

    def shown(self) -> dict[str, str]:
        return {"loft": self.loft, **Credentials.shown(self)}


class PigeonAddress(Address, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: str
    window: str

    @property
    def identity(self) -> str:
        return self.window


class Pigeon(Bridge[PigeonCredentials, PigeonAddress, Content]):
    name: ClassVar[str] = "pigeon"
    takes: ClassVar[type[Credentials]] = PigeonCredentials

    def credentials(self, raw):
        made = parsed(PigeonCredentials, raw, "")
        if faults := common_faults(made.endpoint, made.ca):
            raise refuse("", faults)
        return made

    def address(self, raw):
        return parsed(PigeonAddress, raw, "bridge")

    def audience(self, credentials, address):
        return credentials.endpoint or "https://loft.example"

    def authorize(self, credentials, audience, now_ms):
        return Authorization(f"whistle {credentials.whistle}", now_ms, now_ms + 60_000,
                             now_ms + 120_000)

    def content(self, push):
        return Content(push)

    def encode(self, content, credentials, recipient, authorization, now_ms, entropy=b""):
        return Request("POST", self.audience(credentials, None), "/fly",
                       (("authorization", authorization.value),), b"{}", now_ms + 5000)

    def read(self, response, now_ms):
        return by_status(response.status)


BRIDGE = Pigeon()
"""


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the module into a folder, and have bridges looked for there too."""
    (folder / "pigeon.py").write_text(_MODULE)
    monkeypatch.setattr(bridges, "__path__", [*bridges.__path__, str(folder)])
