"""A real `pushwire serve` for tests: started, asked, wounded, stopped."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO, Self

import aiohttp

from tests.support.waiting import eventually

START_DEADLINE_S = 45.0
STOP_DEADLINE_S = 40.0


class GatewayFailedError(AssertionError):
    """A gateway did not come up, or a command failed; the text holds what it said."""


class RunningGateway:
    """A `serve` process. Made by `running_gateway` or `started_gateway`."""

    def __init__(self, data_dir: Path, process: asyncio.subprocess.Process, log: Path) -> None:
        self.data_dir = data_dir
        self.process = process
        self.log = log
        self.api = self.devices = self.ops = ""
        self.project = self.api_key = self.client_key = ""
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(self, *_exception: object) -> None:
        if self._http is not None:
            await self._http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}

    @property
    def project_url(self) -> str:
        return f"{self.api}/v1/projects/{self.project}"

    def pids(self, role: str = "") -> list[int]:
        """Process ids of a role (`api`, `shard`, `worker`, `store`), or of all and `serve`."""
        try:
            found = json.loads((self.data_dir / "run" / "serve.json").read_text())
        except FileNotFoundError:
            return []
        pids = [
            pid
            for name, pid in found["processes"].items()
            if name.split("-")[0] == role or not role
        ]
        return [pid for pid in ([*pids, found["pid"]] if not role else pids) if pid]

    def kill(self, role: str, index: int = 0, number: int = signal.SIGKILL) -> int:
        """Send a signal to one process of a role, and give its process id."""
        pid = self.pids(role)[index]
        os.kill(pid, number)
        return pid

    async def replaced(self, role: str, old_pid: int, timeout_s: float = 20.0) -> None:
        """Wait until another process serves in the place of a dead one."""
        await eventually(lambda: old_pid not in self.pids(role) and self.pids(role), timeout_s)

    async def ready(self, timeout_s: float = 20.0) -> None:
        """Wait until `/readyz` of the ops port answers 200."""

        async def answer() -> int:
            try:
                async with self.http.get(f"{self.ops}/readyz") as response:
                    return response.status
            except aiohttp.ClientError:
                return 0

        async with asyncio.timeout(timeout_s):
            while await answer() != 200:  # noqa: ASYNC110 - the process tells nobody
                await asyncio.sleep(0.05)

    async def call(
        self, method: str, path: str, body: object = None
    ) -> tuple[int, dict[str, object]]:
        """Call the API below the project with its API key; give status and body."""
        async with self.http.request(
            method, self.project_url + path, json=body, headers=self.auth
        ) as response:
            return response.status, await response.json(content_type=None)

    async def send(self, token: str, **message: object) -> str:
        """Send a message over HTTP, and give its id."""
        status, body = await self.call(
            "POST", "/messages:send", {"message": {"token": token, **message}}
        )
        assert status == 200, (status, body)
        return str(body["name"]).rpartition("/")[2]

    async def status(self, message_id: str) -> dict[str, object]:
        """Give what the API says of a message."""
        status, body = await self.call("GET", f"/messages/{message_id}")
        assert status == 200, (status, body)
        return body

    async def register(self, **fields: object) -> dict[str, str]:
        """Register a device over HTTP: `device_id`, `token`, `credential`."""
        async with self.http.post(
            f"{self.project_url}/devices",
            json={"platform": "test", **fields},
            headers={"X-Client-Key": self.client_key},
        ) as response:
            body: dict[str, str] = await response.json(content_type=None)
            assert response.status == 201, (response.status, body)
            return body

    async def metric(self, name: str) -> float:
        """Sum a metric over all its labels."""
        async with self.http.get(f"{self.ops}/metrics") as response:
            text = await response.text()
        lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def logged(self) -> str:
        """Give what the gateway wrote to stderr."""
        return self.log.read_text(errors="replace")

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the gateway and give its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(STOP_DEADLINE_S):
            return await self.process.wait()


async def pushwire(
    *words: str,
    timeout_s: float = 60.0,
    environment: Mapping[str, str] | None = None,
    standard_input: BinaryIO | None = None,
) -> tuple[int, str, str]:
    """Run a command, and give its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *words),
        stdin=standard_input or asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def started_gateway(data_dir: Path, **settings: object) -> AsyncIterator[RunningGateway]:
    """Start `serve` on free ports and wait for its ready line; nothing more.

    `settings` become flags: `shards=2` is `--shards 2`.
    """
    flags: dict[str, object] = {
        "api_port": 0,
        "device_port": 0,
        "ops_port": 0,
        "drain_s": 0.2,
        "log_format": "json",
        **settings,
    }
    words = [word for name, value in flags.items() for word in (_flag(name), str(value))]
    log = data_dir.with_suffix(".log")
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve", "--data-dir", str(data_dir), *words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    gateway = RunningGateway(data_dir, process, log)
    try:
        await _wait_ready(gateway)
        async with gateway:
            yield gateway
    finally:
        await _end(gateway)


@contextlib.asynccontextmanager
async def running_gateway(tmp_path: Path, **settings: object) -> AsyncIterator[RunningGateway]:
    """Start `serve` in `tmp_path / "data"` and make the project `demo`, or reuse its keys there."""
    data_dir = tmp_path / "data"
    async with started_gateway(data_dir, **settings) as gateway:
        kept = data_dir / "test-project.json"
        if not kept.exists():
            where = ["--data-dir", str(data_dir)]
            if "store_url" in settings:
                where += ["--store-url", str(settings["store_url"])]
            code, out, err = await pushwire("project", "create", "demo", "--json", *where)
            if code:
                raise GatewayFailedError(err)
            kept.write_text(out)
        created = json.loads(kept.read_text())
        gateway.project = created["project"]
        gateway.api_key = created["api_key"]
        gateway.client_key = created["client_key"]
        await gateway.ready()
        yield gateway


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


async def _wait_ready(gateway: RunningGateway) -> None:
    assert gateway.process.stdout is not None
    try:
        async with asyncio.timeout(START_DEADLINE_S):
            line = (await gateway.process.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    words = line.split()
    if words[:1] != ["ready"]:
        raise GatewayFailedError(f"no ready line but {line!r}; log:\n{gateway.logged()[-4000:]}")
    urls = dict(word.split("=", 1) for word in words[1:])
    gateway.api, gateway.devices, gateway.ops = urls["api"], urls["devices"], urls["ops"]


async def _end(gateway: RunningGateway) -> None:
    """Stop what still runs. Children of a killed supervisor are killed by their process ids."""
    left = gateway.pids()
    try:
        await gateway.stop()
    except TimeoutError:
        gateway.process.kill()
        await gateway.process.wait()
        raise
    finally:
        for pid in left:
            if pid != gateway.process.pid and _runs_here(pid, gateway.data_dir):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        transport = getattr(gateway.process, "_transport", None)
        if transport is not None:
            transport.close()


def _runs_here(pid: int, data_dir: Path) -> bool:
    """Whether a process is one of the gateway's, and not a stranger with its old number."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return str(data_dir).encode() in words + environment
