"""What a project does with its webhooks, and with the callbacks that never arrived.

Before: `gateway.api.resources.webhooks` and `gateway.api.resources.dead_letters`. After:
`router.store.webhooks`, `router.store.dead_letters`; workers learn of a change within a second.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from router.callbacks.feed import GROUP
from router.model.errors import ErrorCode, FieldViolation, PushError
from router.model.ids import ENTROPY_BYTES, ProjectId
from router.model.webhook import LANES, MAX_WEBHOOKS, DeadLetter, Health, Kind, Secret, Webhook
from router.policy import signing
from router.policy.destinations import url_violation
from router.store.dead_letters import DeadLetters
from router.store.outbox import Outbox
from router.store.webhooks import Webhooks

SECRET_BYTES: Final = 32
MAX_OVERLAP_S: Final = 7 * 86_400
MANUAL: Final = "disabled by its owner"


def new_callback_id(entropy: Callable[[int], bytes]) -> str:
    """Make the id of a callback: `msg_` and 16 characters of base 32."""
    return f"msg_{base64.b32encode(entropy(ENTROPY_BYTES)).decode().lower()}"


class Endpoints:
    """Webhooks and dead letters of projects.

    Args:
        webhooks: where webhooks are kept.
        letters: where dead letters are kept.
        outbox: events are kept from when a webhook is made.
        now_ms: the clock, epoch milliseconds.
        entropy: gives so many random bytes.
        allow_private: whether any address may be given.
        backlog_bytes: what an endpoint's lanes hold together.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        letters: DeadLetters,
        outbox: Outbox,
        now_ms: Callable[[], int],
        entropy: Callable[[int], bytes],
        *,
        allow_private: bool,
        backlog_bytes: int,
    ) -> None:
        self._webhooks = webhooks
        self._letters = letters
        self._outbox = outbox
        self._now_ms = now_ms
        self._entropy = entropy
        self._allow_private = allow_private
        self._lane_bytes = backlog_bytes // LANES

    async def create(
        self, project: ProjectId, url: str, events: Iterable[Kind], secret: str
    ) -> Webhook:
        """Make a webhook; what happens from then on is told to it.

        Args:
            project: whose.
            url: of its endpoint.
            events: what it wants to hear of; empty for everything.
            secret: of its own choice; empty for a new one.

        Raises:
            PushError: INVALID_ARGUMENT; QUOTA_EXCEEDED, the project has as many as it may.
        """
        self._check(url, secret)
        if len(await self._webhooks.of(project)) >= MAX_WEBHOOKS:
            raise _too_many()
        name = base64.b32encode(self._entropy(ENTROPY_BYTES)).decode().lower()
        webhook = Webhook(
            id=f"wh_{name}",
            project=project,
            url=url,
            events=frozenset(events) or frozenset(Kind),
            secrets=(Secret(secret or self._new_secret()),),
            created_ms=self._now_ms(),
        )
        await self._webhooks.put(webhook)
        # Of several that were made at once the oldest stay, whichever process made them.
        kept = (await self._webhooks.of(project))[:MAX_WEBHOOKS]
        if webhook.id not in {one.id for one in kept}:
            await self._webhooks.remove(webhook)
            raise _too_many()
        await self._outbox.open_group(GROUP)
        return webhook

    async def all(self, project: ProjectId) -> list[tuple[Webhook, Health]]:
        """Give the webhooks of a project with their health, oldest first."""
        found = await self._webhooks.of(project)
        return [(webhook, await self._webhooks.health(webhook.id)) for webhook in found]

    async def get(self, project: ProjectId, webhook: str) -> tuple[Webhook, Health]:
        """Give one webhook with its health.

        Raises:
            PushError: NOT_FOUND.
        """
        return await self._require(project, webhook), await self._webhooks.health(webhook)

    async def change(
        self,
        project: ProjectId,
        name: str,
        url: str | None,
        events: Iterable[Kind] | None,
        *,
        disabled: bool | None,
    ) -> tuple[Webhook, Health]:
        """Change what is given; `disabled` also ends what an answer of 410 has begun.

        Raises:
            PushError: NOT_FOUND, INVALID_ARGUMENT.
        """
        webhook = await self._require(project, name)
        if url is not None:
            self._check(url, "")
        wanted = webhook.events if events is None else frozenset(events) or frozenset(Kind)
        changed = msgspec.structs.replace(
            webhook, url=webhook.url if url is None else url, events=wanted
        )
        if changed != webhook:
            await self._webhooks.put(changed)
        if disabled and not webhook.disabled_ms:
            await self._webhooks.disable(changed, self._now_ms(), MANUAL)
        elif disabled is False and webhook.disabled_ms:
            await self._webhooks.enable(changed)
            await self._outbox.open_group(GROUP)
        return await self.get(project, name)

    async def rotate(self, project: ProjectId, name: str, secret: str, overlap_s: int) -> Webhook:
        """Give a webhook a new secret; the one before signs too, for `overlap_s` seconds.

        Raises:
            PushError: NOT_FOUND, INVALID_ARGUMENT.
        """
        webhook = await self._require(project, name)
        self._refuse(signing.secret_violation(secret) if secret else None)
        if not 0 <= overlap_s <= MAX_OVERLAP_S:
            self._refuse(FieldViolation("overlap", f"0 to {MAX_OVERLAP_S} seconds"))
        new = Secret(secret or self._new_secret())
        before = Secret(webhook.secrets[0].value, self._now_ms() + overlap_s * 1000)
        secrets = (new, before) if overlap_s and before.value != new.value else (new,)
        rotated = msgspec.structs.replace(webhook, secrets=secrets)
        await self._webhooks.put(rotated)
        return rotated

    async def remove(self, project: ProjectId, name: str) -> None:
        """Forget a webhook with all that waits for it and its dead letters.

        Raises:
            PushError: NOT_FOUND.
        """
        await self._webhooks.remove(await self._require(project, name))

    async def remove_all(self, project: ProjectId) -> None:
        """Forget all webhooks of a project that is deleted."""
        for webhook in await self._webhooks.of(project):
            await self._webhooks.remove(webhook)

    async def letters(
        self, project: ProjectId, webhook: str, before: tuple[int, str] | None, limit: int
    ) -> tuple[list[DeadLetter], bool]:
        """Give dead letters, the latest first.

        Args:
            project: whose.
            webhook: of which webhook; empty for all.
            before: (when it died, id) of the last one that the caller has.
            limit: how many at the most.

        Returns:
            Them, and whether there are more.
        """
        found: list[tuple[int, str, str]] = []
        for each in await self._webhooks.of(project):
            if webhook in {"", each.id}:
                ids = await self._letters.ids(each.id)
                found += [(died_ms, identifier, each.id) for died_ms, identifier in ids]
        found = sorted((one for one in found if before is None or one[:2] < before), reverse=True)
        page = [
            letter
            for _, identifier, owner in found[:limit]
            for letter in await self._letters.get(owner, [identifier])
        ]
        return page, len(found) > limit

    async def letter(self, project: ProjectId, identifier: str) -> DeadLetter:
        """Give one dead letter.

        Raises:
            PushError: NOT_FOUND.
        """
        for webhook in await self._webhooks.of(project):
            if found := await self._letters.get(webhook.id, [identifier]):
                return found[0]
        raise PushError(ErrorCode.NOT_FOUND, "The project has no such dead letter.")

    async def replay(self, project: ProjectId, identifier: str) -> DeadLetter:
        """Send a dead letter again, with its id and body, after what waits now.

        Raises:
            PushError: NOT_FOUND; QUOTA_EXCEEDED, too much waits for its endpoint.
        """
        letter = await self.letter(project, identifier)
        done = await self._letters.replay(letter, self._now_ms(), self._lane_bytes)
        if done < 0:
            message = "Too much waits for this endpoint already; replay it when it answers."
            raise PushError(ErrorCode.QUOTA_EXCEEDED, message, retry_after_s=60.0)
        return letter

    async def drop(self, project: ProjectId, identifier: str) -> None:
        """Forget a dead letter.

        Raises:
            PushError: NOT_FOUND.
        """
        letter = await self.letter(project, identifier)
        await self._letters.drop(letter.webhook, identifier)

    async def _require(self, project: ProjectId, webhook: str) -> Webhook:
        found = await self._webhooks.get(project, webhook)
        if found is None:
            raise PushError(ErrorCode.NOT_FOUND, "The project has no such webhook.")
        return found

    def _new_secret(self) -> str:
        return signing.new_secret(self._entropy(SECRET_BYTES))

    def _check(self, url: str, secret: str) -> None:
        self._refuse(
            url_violation(url, allow_private=self._allow_private),
            signing.secret_violation(secret) if secret else None,
        )

    @staticmethod
    def _refuse(*found: FieldViolation | None) -> None:
        violations: Sequence[FieldViolation] = [each for each in found if each is not None]
        if violations:
            message = f"{violations[0].field} takes {violations[0].description}."
            raise PushError(ErrorCode.INVALID_ARGUMENT, message, violations=tuple(violations))


def _too_many() -> PushError:
    message = f"A project has at most {MAX_WEBHOOKS} webhooks; delete one first."
    return PushError(ErrorCode.QUOTA_EXCEEDED, message)
