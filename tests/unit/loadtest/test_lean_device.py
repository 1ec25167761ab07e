"""The lean device speaks the protocol that the websockets package and the wire module speak."""

import asyncio

import msgpack
import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from loadtest.lean_device import LeanDevice, encode_frame, split_frames
from sdk_client import wire


@pytest.mark.parametrize("length", [0, 125, 126, 127, 65_535, 65_536, 70_000])
def test_frames_are_split_at_any_cut(length: int) -> None:
    payload = bytes(length)
    if length < 126:
        head = bytes((0x82, length))
    elif length < 65_536:
        head = b"\x82\x7e" + length.to_bytes(2, "big")
    else:
        head = b"\x82\x7f" + length.to_bytes(8, "big")
    stream = head + payload + b"\x89\x00"
    for cut in {0, 1, 2, 3, 9, 10, len(head), len(head) + length - 1} & set(range(len(stream))):
        frames, rest = split_frames(stream[:cut])
        more, left = split_frames(rest + stream[cut:])
        assert frames + more == [(0x82, payload), (0x89, b"")]
        assert left == b""


def test_frames_are_masked() -> None:
    assert encode_frame(0x82, b"ab") == b"\x82\x82\0\0\0\0ab"
    assert encode_frame(0x82, bytes(300))[:4] == b"\x82\xfe\x01\x2c"


class Peer:
    """Plays the gateway: welcomes, sends messages, notes what comes."""

    def __init__(self, *, welcome: bool = True) -> None:
        self.frames: list[dict[str, object]] = []
        self.acked_ids: list[object] = []
        self.acked = asyncio.Event()
        self._welcome = welcome

    async def __call__(self, connection: ServerConnection) -> None:
        self.frames.append(msgpack.unpackb(await connection.recv(decode=False)))
        if not self._welcome:
            await connection.close(4001, "bad credential")
            return
        await connection.send(wire.encode({"op": "welcome"}))
        await (await connection.ping())
        for message in ("a", "b"):
            await connection.send(wire.encode({"op": "message", "id": message}))
        while len(self.acked_ids) < 2:
            frame = msgpack.unpackb(await connection.recv(decode=False))
            self.frames.append(frame)
            self.acked_ids += frame["ids"]
        self.acked.set()
        await connection.wait_closed()


async def connect(server: Server, got: list[object]) -> LeanDevice:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    port = next(iter(server.sockets)).getsockname()[1]
    _, device = await loop.create_connection(
        lambda: LeanDevice("d.secret", "h", lambda _, frame: got.append(frame["id"]), done),
        "127.0.0.1",
        port,
    )
    await done
    return device


@pytest.fixture
def got() -> list[object]:
    return []


async def test_connects_answers_pings_and_acks_each_message(got: list[object]) -> None:
    peer = Peer()
    subprotocols = [Subprotocol(wire.SUBPROTOCOL_MSGPACK)]
    async with serve(peer, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        device = await connect(server, got)
        assert device.connected
        async with asyncio.timeout(5):
            await peer.acked.wait()
        device.close()
    assert peer.frames[0] == {"op": "connect", "credential": "d.secret", "sdk": "lean"}
    assert peer.acked_ids == got == ["a", "b"]


async def test_a_refused_credential_is_an_error(got: list[object]) -> None:
    peer = Peer(welcome=False)
    subprotocols = [Subprotocol(wire.SUBPROTOCOL_MSGPACK)]
    async with serve(peer, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        with pytest.raises(ConnectionError, match="close 4001 bad credential"):
            await connect(server, got)
