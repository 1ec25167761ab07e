"""What a worker knows of webhooks: a copy, at most about a second old."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from router.model.errors import PushError
from router.model.webhook import Webhook
from router.policy.retry import Backoff
from router.store.webhooks import Webhooks

_REFRESH_S: Final = 1.0
_RETRY: Final = Backoff(base_s=0.1, cap_s=2.0)

_log = structlog.stdlib.get_logger(__name__)


class Directory:
    """Remembers all webhooks, and reads them anew when any has changed.

    Args:
        webhooks: where they are kept.
    """

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._reading = asyncio.Lock()
        self._version: bytes | None = None
        self._by_id: Mapping[str, Webhook] = {}
        self._by_project: Mapping[bytes, tuple[Webhook, ...]] = {}

    @property
    def is_loaded(self) -> bool:
        """Whether anything is known yet."""
        return self._version is not None

    @property
    def by_id(self) -> Mapping[str, Webhook]:
        """Every webhook."""
        return self._by_id

    @property
    def by_project(self) -> Mapping[bytes, tuple[Webhook, ...]]:
        """The webhooks that are not disabled, by the name of their project as the outbox has it."""
        return self._by_project

    async def refresh(self) -> None:
        """Look whether anything has changed.

        Raises:
            StoreUnavailableError: the store is away; what was known stays.
        """
        version = await self._webhooks.version()
        if version == self._version:
            return
        async with self._reading:  # many partitions ask at once; one of them reads
            if version != self._version:
                self._note(version, await self._webhooks.all())

    def _note(self, version: bytes, found: Sequence[Webhook]) -> None:
        by_project: dict[bytes, tuple[Webhook, ...]] = {}
        for webhook in found:
            if not webhook.disabled_ms:
                name = webhook.project.encode()
                by_project[name] = (*by_project.get(name, ()), webhook)
        self._by_id = {webhook.id: webhook for webhook in found}
        self._by_project = by_project
        self._version = version

    async def run(self) -> None:
        """Refresh once a second, until cancelled."""
        failures = 0
        while True:
            try:
                await self.refresh()
                failures = 0
            except PushError as error:
                failures += 1
                if failures == 1:
                    _log.warning("webhooks.stale", reason=error.message)
            await asyncio.sleep(_RETRY.ceiling_s(failures) if failures else _REFRESH_S)
