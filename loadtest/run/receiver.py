"""The app server's webhook: counts what callbacks tell, and checks their signatures."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from loadtest.http import encode_request, open_connection
from loadtest.run.protocol import Place

_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_CREATED: Final = 201
_PREFIX: Final = "whsec_"


class _Receipt(msgspec.Struct, frozen=True):
    message_id: str = ""
    event: str = ""
    device_id: str = ""


class _Data(msgspec.Struct):
    receipts: list[_Receipt] = []


class _Body(msgspec.Struct):
    type: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


class _Webhook(msgspec.Struct):
    id: str
    secret: str


class Receiver:
    """What callbacks told."""

    def __init__(self) -> None:
        self.secret = b""
        self.requests = 0
        self.forged = 0
        """Requests whose signature is not the webhook's."""
        self.events: Counter[str] = Counter()
        self.delivered: set[tuple[str, str]] = set()
        """(message, device) of every delivery that was told of."""
        self._decoder = msgspec.json.Decoder(_Body)
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Take one request."""
        self.requests += 1
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
        expected = base64.b64encode(hmac.new(self.secret, signed, hashlib.sha256).digest())
        signatures = headers.get("webhook-signature", "").split()
        if f"v1,{expected.decode()}" not in signatures:
            self.forged += 1
            return
        for receipt in self._decoder.decode(body).data.receipts:
            self.events[receipt.event] += 1
            if receipt.event == "delivered" and receipt.device_id:
                self.delivered.add((receipt.message_id, receipt.device_id))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        task = asyncio.current_task()
        if task is not None:
            self._serving[task] = writer
            task.add_done_callback(self._serving.pop)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                pairs = (line.partition(":") for line in lines[1:])
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.take(headers, body)
                writer.write(_ANSWER)
        writer.close()

    async def stop(self) -> None:
        """Drop every connection, and wait for the end of it."""
        serving = dict(self._serving)
        for writer in serving.values():
            writer.transport.abort()
        if serving:
            await asyncio.wait(serving)


@contextlib.asynccontextmanager
async def receiving(place: Place) -> AsyncIterator[Receiver]:
    """Have a webhook of the project that leads here; it is deleted in the end.

    Raises:
        ConnectionError: the API refused it.
    """
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    path = f"/v1/projects/{place.project}/webhooks"
    try:
        body = {"url": f"http://127.0.0.1:{port}/", "events": ["message.receipts"]}
        status, answer = await _call(place, "POST", path, msgspec.json.encode(body))
        if status != _CREATED:
            raise ConnectionError(
                f"the gateway does not take a webhook on this machine ({status} "
                f"{answer.decode()[:300]}): allow it (callback_allow_private), or add "
                "--set callbacks=false"
            )
        webhook = msgspec.json.decode(answer, type=_Webhook)
        receiver.secret = base64.b64decode(webhook.secret.removeprefix(_PREFIX))
        try:
            yield receiver
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                await _call(place, "DELETE", f"{path}/{webhook.id}", b"")
    finally:
        server.close()
        await receiver.stop()


async def _call(place: Place, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    connection = await open_connection(place.api)
    try:
        authorization = f"Bearer {place.api_key}"
        request = encode_request(method, place.api, path, body, Authorization=authorization)
        answer = await connection.request(request)
    finally:
        connection.close()
    return answer.status, answer.body
