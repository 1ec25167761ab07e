"""Providers of push for measurements: they take everything, answer after a while, and count."""

import asyncio
import contextlib
import datetime as dt
import ssl
from pathlib import Path
from typing import Final, cast

import jh2.config
import jh2.connection
import jh2.events
import jh2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typing_extensions import override

STREAMS: Final = 1000
_WINDOW: Final = 2**24
_HEAD_END: Final = b"\r\n\r\n"
NAME: Final = b'{"name":"projects/bench/messages/1"}'
_TOKEN: Final = b'{"access_token":"bench","expires_in":3600,"token_type":"Bearer"}'
_FCM_KEY_BITS: Final = 2048

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Counts:
    """What a provider saw."""

    def __init__(self) -> None:
        self.taken = self.connections = self.under_way = self.most = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def begin(self) -> None:
        """Take it that a push came."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)

    def end(self) -> None:
        """Take it that it is answered."""
        self.under_way -= 1
        self.taken += 1
        if self.taken >= self._wanted:
            self._reached.set()

    async def until(self, taken: int, limit_s: float) -> None:
        """Wait until so many are answered.

        Raises:
            TimeoutError: they do not come.
        """
        self._wanted = taken
        self._reached.clear()
        if self.taken < taken:
            async with asyncio.timeout(limit_s):
                await self._reached.wait()


class Http2(asyncio.Protocol):
    """One HTTP/2 connection to a provider that takes every push.

    Args:
        counts: what it saw.
        answer_s: what it takes to answer; None where it never does.
        body: of its answers, JSON; APNs has none.
    """

    def __init__(self, counts: Counts, answer_s: float | None, body: bytes = b"") -> None:
        self._counts, self._answer_s, self._body = counts, answer_s, body
        config = jh2.config.H2Configuration(client_side=False, header_encoding=None)
        self._h2 = jh2.connection.H2Connection(config)
        codes = jh2.settings.SettingCodes
        self._h2.local_settings = jh2.settings.Settings(
            client=False,
            initial_values={
                codes.MAX_CONCURRENT_STREAMS: STREAMS,
                codes.MAX_HEADER_LIST_SIZE: 65_536,
            },
        )
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._counts.connections += 1
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush()

    @override
    def data_received(self, data: bytes) -> None:
        ended: list[int] = []
        for event in self._h2.receive_data(data):
            match event:
                case jh2.events.DataReceived():
                    size, stream = event.flow_controlled_length, event.stream_id
                    self._h2.acknowledge_received_data(size, stream)
                case jh2.events.StreamEnded():
                    self._counts.begin()
                    ended.append(event.stream_id)
                case _:
                    continue
        self._flush()
        if ended and self._answer_s is not None:
            self._loop.call_later(self._answer_s, self._answer, ended)

    def _answer(self, streams: list[int]) -> None:
        for stream in streams:
            self._h2.send_headers(
                stream, [(b":status", b"200"), (b"apns-id", b"bench")], end_stream=not self._body
            )
            if self._body:
                self._h2.send_data(stream, self._body, end_stream=True)
            self._counts.end()
        self._flush()

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


class Fcm:
    """HTTP/1.1: grants tokens and takes every message."""

    def __init__(self, counts: Counts, answer_s: float) -> None:
        self._counts, self._answer_s = counts, answer_s

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the requests of one connection."""
        self._counts.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(_HEAD_END)).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                if head.startswith(b"post /token"):
                    writer.write(_answer(_TOKEN))
                    continue
                self._counts.begin()
                await asyncio.sleep(self._answer_s)
                self._counts.end()
                writer.write(_answer(NAME))
        writer.close()


def apns_key() -> str:
    """Make a key for token authentication, in PEM."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def service_account(origin: str) -> dict[str, str]:
    """Make a service account whose tokens are granted at `origin`."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=_FCM_KEY_BITS)
    return {
        "type": "service_account",
        "project_id": "bench",
        "private_key_id": "1",
        "private_key": _pem(key),
        "client_email": "bench@bench.iam.gserviceaccount.com",
        "token_uri": f"{origin}/token",
    }


def tls_context(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Make a certificate for localhost; give the server's context, and the certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM).decode()
    path = folder / "provider.pem"
    path.write_text(pem + _pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    context.set_alpn_protocols(["h2"])
    return context, pem


def _pem(key: Key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _answer(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(body)
    ) + body
