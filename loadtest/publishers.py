"""App servers that publish to topics, and subscribe devices to them."""

import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from loadtest.http import HttpConnection, Response, encode_request, open_connection
from loadtest.senders import OK, Account, SendError, check_batch

SUBSCRIBE_TOKENS: Final = 1_000
"""Tokens in one call of `:subscribe`."""


class _Results(msgspec.Struct):
    results: list[dict[str, object]]


async def subscribe(account: Account, topic: str, tokens: Sequence[str]) -> None:
    """Subscribe devices by their tokens, a thousand a call.

    Raises:
        SendError: one was refused.
    """
    connection = await open_connection(account.api)
    try:
        for start in range(0, len(tokens), SUBSCRIBE_TOKENS):
            body = msgspec.json.encode({"tokens": tokens[start : start + SUBSCRIBE_TOKENS]})
            path = f"/v1/projects/{account.project}/topics/{topic}:subscribe"
            request = encode_request(
                "POST", account.api, path, body, Authorization=f"Bearer {account.api_key}"
            )
            answer = await connection.request(request)
            if answer.status != OK:
                raise SendError(f"subscribe: {answer.status} {answer.body[:300]!r}")
            results = msgspec.json.decode(answer.body, type=_Results).results
            if refused := [result for result in results if result]:
                raise SendError(f"subscribe: {refused[0]}")
    finally:
        connection.close()


class Publisher:
    """Publishes on one keep-alive connection, one message after another.

    Args:
        account: where to, and as whom.
        payload_bytes: how many bytes the keys and values of `data` have.
        receipts: what the sender wants to hear: `none`, `aggregate`, `device`.
    """

    def __init__(self, account: Account, payload_bytes: int, receipts: str = "aggregate") -> None:
        self._account = account
        self._payload_bytes = payload_bytes
        self._receipts = receipts
        self._numbers = itertools.count()
        self._connection: HttpConnection | None = None

    async def publish(self, topic: str) -> None:
        """Publish a message, and wait until the gateway has it.

        Raises:
            SendError: the answer was not 200.
            ConnectionError: the connection went away.
        """
        await self._ask("send", {"message": self._message(topic)})

    async def publish_batch(self, topic: str, count: int) -> None:
        """Publish so many messages in one request, and wait until the gateway has them.

        Raises:
            SendError: the answer was not 200, or one was refused.
            ConnectionError: the connection went away.
        """
        messages = [self._message(topic) for _ in range(count)]
        check_batch(await self._ask("sendBatch", {"messages": messages}))

    def _message(self, topic: str) -> dict[str, object]:
        number = f"{next(self._numbers):08d}"
        fill = "x" * (self._payload_bytes - len("number") - len(number) - len("fill"))
        body = {"topic": topic, "data": {"number": number, "fill": fill}, "ttl": "3600s"}
        return {**body, "receipts": self._receipts}

    async def _ask(self, call: str, body: object) -> Response:
        if self._connection is None:
            self._connection = await open_connection(self._account.api)
        answer = await self._connection.request(self._account.request(call, body))
        if answer.status != OK:
            raise SendError(f"publish: {answer.status} {answer.body[:300]!r}")
        return answer

    def close(self) -> None:
        """Give up the connection."""
        if self._connection is not None:
            self._connection.close()
