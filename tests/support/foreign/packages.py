"""Devices made with WebSocket clients from PyPI: `websockets` and `picows`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import msgpack
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from typing_extensions import override
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from tests.support.foreign.sight import JSON, Order, Sight, answers

_DATA: Final = {WSMsgType.TEXT, WSMsgType.BINARY}


def _opening(order: Order) -> dict[str, Any]:
    return {"op": "connect", "credential": order.credential, "sdk": "foreign"}


def _read(payload: bytes | str) -> dict[str, Any]:
    found: dict[str, Any] = (
        json.loads(payload) if isinstance(payload, str) else msgpack.unpackb(payload)
    )
    return found


def _written(order: Order, frame: dict[str, Any]) -> bytes | str:
    return json.dumps(frame) if order.subprotocol == JSON else bytes(msgpack.packb(frame))


@contextlib.asynccontextmanager
async def websockets_device(order: Order, origin: str = "") -> AsyncIterator[Sight]:
    """Run a device on the `websockets` package, which offers to compress."""
    sight = Sight()
    async with connect(
        order.url,
        subprotocols=[Subprotocol(order.subprotocol)],
        origin=Origin(origin) if origin else None,
    ) as socket:
        sight.add({"kind": "open", "subprotocol": socket.subprotocol})

        async def listen() -> None:
            await socket.send(_written(order, _opening(order)))
            with contextlib.suppress(ConnectionClosed):
                async for payload in socket:
                    frame = _read(payload)
                    sight.add(
                        {"kind": "frame", "binary": isinstance(payload, bytes), "frame": frame}
                    )
                    for answer in answers(frame):
                        await socket.send(_written(order, answer))
            sight.add(
                {"kind": "close", "code": socket.close_code, "reason": socket.close_reason or ""}
            )

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            try:
                yield sight
            finally:
                await socket.close()


class _Listener(WSListener):
    def __init__(self, order: Order, sight: Sight) -> None:
        self._order = order
        self._sight = sight

    @override
    def on_ws_connected(self, transport: WSTransport) -> None:
        chosen = transport.response.headers["Sec-WebSocket-Protocol"]
        self._sight.add({"kind": "open", "subprotocol": chosen})
        self._say(transport, _opening(self._order))

    @override
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
            self._sight.add({"kind": "close", "code": code, "reason": reason})
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        if frame.msg_type not in _DATA:
            return
        assert frame.fin
        binary = frame.msg_type is WSMsgType.BINARY
        found = _read(frame.get_payload_as_bytes() if binary else frame.get_payload_as_utf8_text())
        self._sight.add({"kind": "frame", "binary": binary, "frame": found})
        for answer in answers(found):
            self._say(transport, answer)

    def _say(self, transport: WSTransport, frame: dict[str, Any]) -> None:
        payload = _written(self._order, frame)
        if isinstance(payload, str):
            transport.send(WSMsgType.TEXT, payload.encode())
        else:
            transport.send(WSMsgType.BINARY, payload)


@contextlib.asynccontextmanager
async def picows_device(order: Order) -> AsyncIterator[Sight]:
    """Run a device on the `picows` package."""
    sight = Sight()
    transport, _ = await ws_connect(
        lambda: _Listener(order, sight),
        order.url,
        extra_headers={"Sec-WebSocket-Protocol": order.subprotocol},
    )
    try:
        yield sight
    finally:
        transport.send_close(WSCloseCode.OK)
        transport.disconnect()
        await transport.wait_disconnected()
