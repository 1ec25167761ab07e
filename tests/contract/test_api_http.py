"""The HTTP surface under hostile and clumsy clients: one error shape, bounds, no 5xx."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from gateway.api import request as request_module
from gateway.api.resources.messages import MAX_SEND_BYTES
from router.model.ids import ShardId
from tests.contract.api_server import ADMIN_KEY, Api, running_api
from tests.support.valkey import running_server
from tests.support.waiting import eventually


async def raw(api: Api, data: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, read one answer."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        if end:
            writer.write_eof()
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head.decode().split("\r\n")
            headers = dict(one.lower().split(": ", 1) for one in lines if one)
            body = await reader.readexactly(int(headers["content-length"]))
        return int(line.split()[1]), headers, body
    finally:
        writer.close()
        await writer.wait_closed()


def post(
    api: Api, *headers: str, path: str = "messages:send", host: str = "x", key: str = ""
) -> bytes:
    lines = [
        f"POST /v1/projects/{api.project}/{path} HTTP/1.1",
        f"Host: {host}",
        f"Authorization: Bearer {key or api.key}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def check_error(status: int, body: bytes) -> Any:
    error = json.loads(body)["error"]
    assert error["code"] == status
    assert b"Traceback" not in body
    return error


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v1/projects/", "/v1/projects/p/x:y", "//"])
async def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    answer = await api.call("GET", path)
    assert answer.status == 404
    assert answer.error["status"] == "NOT_FOUND"


async def test_a_wrong_method_is_405(api: Api) -> None:
    answer = await api.call("GET", "messages:send", key=api.key)
    assert answer.status == 405
    assert answer.headers["Allow"] == "POST"
    assert answer.error["message"].endswith("takes POST only.")
    assert (await api.call("PUT", "/healthz")).status == 405


async def test_a_bad_project_id_is_404(api: Api) -> None:
    for project in ("X", "%00", "a" * 200, "%FF%FE"):
        answer = await api.call("POST", f"/v1/projects/{project}/messages:send", {}, key=api.key)
        assert answer.status == 404


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_malformed_http_is_answered_in_our_shape(api: Api, data: bytes) -> None:
    status, headers, body = await raw(api, data)
    assert status in {400, 404}
    check_error(status, body)
    assert status == 404 or headers["connection"] == "close"


@pytest.mark.parametrize("host", ["\xff", 'a"b<>', "[::1", "a:b:c", "x" * 300])
async def test_an_odd_host_is_told_to_nobody(api: Api, host: str) -> None:
    content = b'{"platform": "python"}'
    head = post(api, f"Content-Length: {len(content)}", path="devices", host=host)
    status, _, body = await raw(api, head + content)
    assert status == 201, body
    assert json.loads(body)["device_url"] == "ws://127.0.0.1:8081"
    status, _, body = await raw(api, post(api, path="serviceAccounts", host=host, key=ADMIN_KEY))
    assert status == 400
    assert "Host" in check_error(status, body)["message"]


async def test_a_large_body_is_413(api: Api) -> None:
    large = b" " * (MAX_SEND_BYTES + 1)
    answer = await api.call("POST", "messages:send", large, key=api.key)
    assert answer.status == 413
    assert answer.error["status"] == "INVALID_ARGUMENT"
    status, headers, body = await raw(api, post(api, "Content-Length: 99999999999"))
    assert (status, headers["connection"]) == (413, "close")
    check_error(status, body)


async def test_a_large_chunked_body_is_413(api: Api) -> None:
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    status, _, body = await raw(api, post(api, "Transfer-Encoding: chunked") + chunk * 8)
    assert status == 413
    check_error(status, body)


async def test_a_compressed_body_is_read_and_a_bomb_refused(api: Api) -> None:
    device = await api.device()
    content = gzip.compress(json.dumps({"message": {"token": device["token"]}}).encode())
    head = ("Content-Encoding: gzip", f"Content-Length: {len(content)}")
    status, _, body = await raw(api, post(api, *head) + content)
    assert status == 200, body
    bomb = gzip.compress(b" " * 50_000_000)
    head = ("Content-Encoding: gzip", f"Content-Length: {len(bomb)}")
    status, _, body = await raw(api, post(api, *head) + bomb)
    assert status == 413
    check_error(status, body)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        (("Content-Encoding: gzip", "Content-Length: 5"), b"plain"),
        (("Transfer-Encoding: chunked",), b"zz\r\nnot a size\r\n"),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_400(
    api: Api, headers: tuple[str, ...], content: bytes
) -> None:
    status, _, body = await raw(api, post(api, *headers) + content)
    assert status == 400
    check_error(status, body)


async def test_a_slow_body_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "BODY_TIMEOUT_S", 0.05)
    status, _, body = await raw(api, post(api, "Content-Length: 10") + b"{")
    assert status == 400
    assert "did not come" in check_error(status, body)["message"]


async def test_a_body_that_comes_in_pieces_is_read(api: Api) -> None:
    device = await api.device()
    content = json.dumps({"message": {"token": device["token"]}}).encode()
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(post(api, f"Content-Length: {len(content)}", "Expect: 100-continue"))
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    await reader.readline()
    for byte in content:
        writer.write(bytes([byte]))
        await writer.drain()
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await writer.wait_closed()


async def test_a_client_that_leaves_harms_nobody(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    for data in (b"", b"POST /v1", post(api, "Content-Length: 100") + b"{"):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        writer.close()
        await writer.wait_closed()
    assert (await api.call("GET", "/healthz")).status == 200


async def test_connections_are_kept_and_pipelined(api: Api) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    everything = await reader.read()
    assert everything.count(b"HTTP/1.1 200 OK") == 4
    assert everything.count(b"Connection: close") == 1
    writer.close()
    await writer.wait_closed()


async def test_http_1_0_and_head_are_served(api: Api) -> None:
    status, headers, _ = await raw(api, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (status, headers["connection"]) == (200, "close")
    answer = await api.call("HEAD", "/healthz")
    assert (answer.status, answer.text) == (200, "")


async def test_readiness_takes_a_shard_whose_probe_came_through(fresh_store_url: str) -> None:
    async with running_api(fresh_store_url) as api:
        assert (await api.call("GET", "/readyz")).status == 503
        now_ms = api.services.clock.now_ms()
        shard = ShardId("shard-a")
        await api.services.leases.shard_renew(shard, b'{"probe_ms":1,"connections":1}', 60_000)
        stale = await api.call("GET", "/readyz")
        assert (stale.status, stale.headers["Retry-After"]) == (503, "1")
        value = json.dumps({"probe_ms": now_ms, "connections": 3}).encode()
        await api.services.leases.shard_renew(shard, value, 60_000)
        ready = await api.call("GET", "/readyz")
        assert ready.json == {"status": "ok", "store": "ok", "shards": 1, "connections": 3}


@pytest.mark.slow
async def test_without_the_store_everything_is_503_and_then_goes_on() -> None:
    with running_server() as server:
        async with running_api(server.url) as api:
            device = await api.device()
            message = {"token": device["token"]}
            assert (await api.send(message)).status == 200
            server.stop()
            refused = await api.send(message)
            assert (refused.status, refused.fcm_code) == (503, "UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) >= 1
            batch = {"messages": [message]}
            answer = await api.call("POST", "messages:sendBatch", batch, key=api.key)
            assert (answer.status, answer.error["status"]) == (503, "UNAVAILABLE")
            assert (await api.call("GET", "/readyz")).status == 503
            assert (await api.call("GET", "/healthz")).status == 200
            server.start()

            async def serves() -> bool:
                return (await api.call("GET", "/v1/projects", key=ADMIN_KEY)).status == 200

            served: bool = await eventually(serves)
            assert served
