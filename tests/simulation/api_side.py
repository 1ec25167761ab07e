"""An API's process: the real stages behind its calls."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar, cast

from gateway.api.app import _retract
from gateway.api.audiences import audiences_of
from gateway.settings import Settings
from router.bridge_terms import BridgeTerms
from router.bridges import discover
from router.contacts import Contacts
from router.model.ids import DeviceId, MessageId, ProjectId
from router.publish import Publisher
from router.registration import Registration
from router.routing import Routing
from router.send import Sender
from router.store.inbox import Inboxes
from router.store.mailbox import Mailboxes
from router.store.topics import Topics
from router.subscription import Subscription
from tests.simulation.bridge_side import Everybody
from tests.simulation.context import Context
from tests.simulation.process import STORE_URL, Process

T = TypeVar("T")
PATIENCE_S: Final = 8.0
"""How long the app server waits for an answer."""
_BRIDGE_AFTER_MS: Final = 1_500


class NoContacts:
    """Where a bridge reaches a device is said by the world itself."""

    async def claim(self, *_: object) -> list[DeviceId]:
        return []

    async def settle(self, *_: object) -> None:
        pass


class NoAnswerError(Exception):
    """A request was not answered: whether it was carried out is not known."""


class Stages:
    """What the calls of the API use, wired as `gateway.api.app.services_of` does."""

    def __init__(self, process: Process) -> None:
        context, entropy = process.context, process.entropy
        self.store = process.store()
        self._process = process
        self._settings = Settings(store_url=STORE_URL)
        self._terms = BridgeTerms(discover(), Everybody(), _BRIDGE_AFTER_MS)
        self._metrics = context.metrics
        self._now_ms, self._bytes = process.now_ms, entropy.bytes

    def wire(self) -> None:
        """Make the stages, once the store is open."""
        store, metrics, terms = self.store, self._metrics, self._terms
        now_ms, entropy = self._now_ms, self._bytes
        topics, self.mailboxes = Topics(store), Mailboxes(store)
        self.routing = Routing(Inboxes(store), metrics)

        def withdraw(project: ProjectId, message: MessageId) -> None:
            self.sender.withdraw(project, message)

        self.publisher = Publisher(topics, self.routing, now_ms, entropy, withdraw, terms)
        self.audiences = audiences_of(
            self._settings,
            store,
            self.routing,
            metrics,
            self._process,
            self._process.entropy,
            withdraw,
            terms,
        )
        self.sender = Sender(
            self.mailboxes,
            self.routing,
            metrics,
            now_ms,
            entropy,
            retract=_retract(self.publisher, self.audiences),
            terms=terms,
        )
        self.subscription = Subscription(topics, self.routing, now_ms)
        contacts = cast("Contacts", NoContacts())
        self.registration = Registration(
            self.mailboxes,
            self.routing,
            now_ms,
            entropy,
            "local",
            self.audiences.bindings,
            contacts,
        )


class ApiProcess(Process):
    """One life of an API."""

    def __init__(self, context: Context, number: int, skew_ms: int) -> None:
        super().__init__(context, f"api-{number}", skew_ms)
        self._stages = Stages(self)
        self._ready = False
        self._asked: set[asyncio.Future[object]] = set()
        self.run(self._live())

    @property
    def serving(self) -> bool:
        return self.alive and self._ready

    def die(self) -> None:
        """Die without a word; the requests under way are cut."""
        self.context.note(self.name, "dies")
        self.kill()
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(NoAnswerError())
        self._asked.clear()

    async def request(self, call: Callable[[Stages], Awaitable[T]]) -> T:
        """Have a request carried out.

        Raises:
            NoAnswerError: the process died or stands still.
            PushError: what it was answered with.
        """
        answer: asyncio.Future[T] = self.context.loop.create_future()
        self._asked.add(cast("asyncio.Future[object]", answer))
        self.enter(lambda: self._begin(call, answer))
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await answer
        except TimeoutError:
            raise NoAnswerError from None
        finally:
            self._asked.discard(cast("asyncio.Future[object]", answer))

    def _begin(self, call: Callable[[Stages], Awaitable[T]], answer: asyncio.Future[T]) -> None:
        task = self.context.loop.create_task(self._carry_out(call, answer))
        self.context.tasks.add(task)
        task.add_done_callback(self.context.tasks.discard)

    async def _carry_out(
        self, call: Callable[[Stages], Awaitable[T]], answer: asyncio.Future[T]
    ) -> None:
        try:
            result = await call(self._stages)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)

    async def _live(self) -> None:
        async with self._stages.store:
            self._stages.wire()
            self._ready = True
            await self._stages.sender.run()
