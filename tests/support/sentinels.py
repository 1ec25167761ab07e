"""A primary, a replica and three Sentinels that watch them."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tests.support.tcp_server import TcpServer, wait_until

SERVICE = "push"
_QUORUM = 2
# Sentinels look, greet and vote so often, instead of every 1 to 10 s. Pings not more often: a
# replica whose last answer is five of them old is not promoted.
_HASTE = ("ping-period", 300, "ask-period", 100, "info-period", 200, "publish-period", 100)


class Watched:
    """The servers. Either of the two may be the primary later on."""

    def __init__(self, directory: Path, down_after_ms: int) -> None:
        self.servers = [TcpServer(directory / f"server-{number}") for number in range(2)]
        self.sentinels = [
            TcpServer(
                directory / f"sentinel-{number}",
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} {_QUORUM}",
                f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}",
                f"sentinel failover-timeout {SERVICE} 2000",
                sentinel=True,
            )
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(one.address for one in self.sentinels)}/{SERVICE}"

    def start(self) -> None:
        """Start all, and wait until all know each other and the replica is in step."""
        for server in self.servers:
            server.start()
        primary, replica = self.servers
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        wait_until("the replica follows", lambda: "state=online" in str(primary.ask("INFO")))
        for sentinel in self.sentinels:
            sentinel.start()
            sentinel.ask("SENTINEL", "DEBUG", *_HASTE)
        wait_until("the Sentinels are ready", lambda: all(map(self._is_ready, self.sentinels)))

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def primary(self, sentinel: int = 0) -> TcpServer:
        """Give the primary by the word of a Sentinel."""
        reply = self.sentinels[sentinel].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        port = int(cast("list[str]", reply)[1])
        return next(server for server in self.servers if server.port == port)

    def other(self, server: TcpServer) -> TcpServer:
        """Give the server that this one is not."""
        return next(one for one in self.servers if one is not server)

    def fail_over(self) -> TcpServer:
        """Have the replica promoted with the primary alive, and give the new primary."""
        before = self.primary()
        self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        self.await_failover(before)
        return self.primary()

    def await_failover(self, before: TcpServer) -> None:
        """Wait until the Sentinels name another primary than the one before."""
        wait_until(
            "another primary",
            lambda: all(self.primary(number) is not before for number in range(3)),
        )

    @staticmethod
    def _is_ready(sentinel: TcpServer) -> bool:
        flat = cast("list[str]", sentinel.ask("SENTINEL", "MASTER", SERVICE))
        state = dict(zip(flat[::2], flat[1::2], strict=True))
        return state["num-slaves"] == "1" and state["num-other-sentinels"] == "2"


@contextlib.contextmanager
def watched_servers(down_after_ms: int = 500) -> Iterator[Watched]:
    """Run the five servers in a temporary directory."""
    directory = Path(tempfile.mkdtemp(prefix="pw-"))
    watched = Watched(directory, down_after_ms)
    try:
        watched.start()
        yield watched
    finally:
        watched.stop()
        shutil.rmtree(directory, ignore_errors=True)
