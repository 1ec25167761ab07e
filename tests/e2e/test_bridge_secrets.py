"""What projects give to bridges stands nowhere in the clear: not in logs, answers, files."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.sealing_keys import read_keys, write_key
from tests.support.bridges import APNS_TOKEN, FCM_TOKEN, ec_key, fcm_credentials, pem, rsa_key
from tests.support.certificate import make_certificate
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.providers import faults
from tests.support.providers.apns import ApnsProvider
from tests.support.providers.fcm import FcmProvider
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

WEBPUSH_KEY = base64.urlsafe_b64encode(bytes(range(1, 33))).decode().rstrip("=")


class World:
    """Providers, and all that was said."""

    def __init__(self, apns: ApnsProvider, fcm: FcmProvider, ca: Path) -> None:
        self.apns, self.fcm, self.ca = apns, fcm, ca
        self.said = ""

    def bodies(self) -> dict[str, dict[str, Any]]:
        account = self.fcm.service_account(pem(rsa_key()))
        apns = {
            "key": pem(ec_key()),
            "key_id": "KEY1234567",
            "team_id": "TEAM123456",
            "topic": "com.example.app",
            "endpoint": self.apns.server.url,
            "ca": self.ca.read_text(),
        }
        return {
            "apns": apns,
            "fcm": {**fcm_credentials(), "service_account": account, "endpoint": self.fcm.url},
            "webpush": {"private_key": WEBPUSH_KEY, "subject": "mailto:ops@example.org"},
        }

    async def call(self, gateway: RunningGateway, method: str, path: str, body: Any = None) -> Any:
        status, answer = await gateway.call(method, path, body)
        self.said += f"{status} {json.dumps(answer)}\n"
        return answer


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    certificate = make_certificate(tmp_path)
    apns = ApnsProvider(certificate, ec_key().public_key())
    fcm = FcmProvider(rsa_key().public_key())
    async with apns.server, fcm:
        yield World(apns, fcm, certificate[0])


async def everything(world: World, gateway: RunningGateway) -> None:
    """Set up, mistype, test, refuse, list, remove: over HTTP and by commands."""
    for name, body in world.bodies().items():
        path = f"/bridges/{name}"
        await world.call(gateway, "PUT", path, body)
        await world.call(gateway, "POST", f"{path}:test")
        if name == "apns":
            world.apns.faults.then(faults.answer(403, "InvalidProviderToken"))
        elif name == "fcm":
            world.fcm.token_faults.then(faults.answer(401, "invalid_grant"))
        await world.call(gateway, "POST", f"{path}:test")
        for wrong in ({"nonsense": 1}, {"endpoint": "nowhere"}, {"ca": "none"}, {"key_id": 7}):
            await world.call(gateway, "PUT", path, {**body, **wrong})
        await world.call(gateway, "PUT", path, [body])
        await world.call(gateway, "GET", path)
    await world.call(gateway, "GET", "/bridges")
    where = ("--data-dir", str(gateway.data_dir))
    for words in (("list", gateway.project, "--json"), ("list", gateway.project), ("reseal",)):
        code, out, err = await pushwire("project", "bridge", *words, *where)
        assert code == 0, err
        world.said += out + err


async def push(
    world: World, gateway: RunningGateway, address: dict[str, str], refusal: str
) -> None:
    """Have a push to the address taken, and one refused."""
    name, token = address["type"], address["token"]
    provider = world.apns if name == "apns" else world.fcm
    await world.call(gateway, "PUT", f"/bridges/{name}", world.bodies()[name])
    device = await gateway.register(bridge=address)
    await gateway.send(device["token"], data={"k": "v"})
    await eventually(lambda: any(each.token == token for each in provider.taken), 30.0)
    provider.faults.of(token, faults.answer(400, refusal))
    message = await gateway.send(device["token"], data={"k": "w"})

    async def failed() -> bool:
        return "failed" in json.dumps(await world.call(gateway, "GET", f"/messages/{message}"))

    done: bool = await eventually(failed, 30.0)
    assert done


async def pushes(world: World, gateway: RunningGateway) -> None:
    """Have a push taken and one refused by each provider, and read what is said of them."""
    await push(world, gateway, {"type": "apns", "token": APNS_TOKEN}, "PayloadEmpty")
    await push(world, gateway, {"type": "fcm", "token": FCM_TOKEN}, "INVALID_ARGUMENT")
    where = ("--data-dir", str(gateway.data_dir))
    environment = {"PUSHWIRE_PROJECT": gateway.project, "PUSHWIRE_API_KEY": gateway.api_key}
    code, out, err = await pushwire("dlq", "list", "--json", *where, environment=environment)
    assert (code, "br_" in out) == (0, True), err
    world.said += out


def environment_of(gateway: RunningGateway, role: str) -> bytes:
    return Path(f"/proc/{gateway.pids(role)[0]}/environ").read_bytes()


async def test_no_secret_of_a_bridge_is_ever_in_the_clear(world: World, tmp_path: Path) -> None:
    async with running_gateway(tmp_path, log_level="debug") as gateway:
        await everything(world, gateway)
        bridges = await world.call(gateway, "GET", "/bridges")
        assert [each["name"] for each in bridges["bridges"]] == ["apns", "fcm", "webpush"]
        await pushes(world, gateway)
        (sealing,) = read_keys((gateway.data_dir / "secret.key").read_text())
        knows = {role: environment_of(gateway, role) for role in ("api", "shard", "worker")}
    bodies = world.bodies()
    key = write_key(sealing).encode()
    assert {role for role, text in knows.items() if key in text} == {"api", "worker"}
    lines = [
        *bodies["apns"]["key"].splitlines()[1:-1],
        *bodies["fcm"]["service_account"]["private_key"].splitlines()[1:-1],
        *(WEBPUSH_KEY, "PRIVATE KEY", key.decode(), sealing.hex()),
    ]
    told = {"answers": world.said.encode(), "log": gateway.logged().encode()}
    files = [path for path in gateway.data_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".aof" for path in files)
    told |= {path.name: path.read_bytes() for path in files if path.name != "secret.key"}
    assert b"KEY1234567" in told["answers"], "what is no secret is told"
    assert any(f"project:{gateway.project}:bridges".encode() in text for text in told.values())
    found = [
        (place, secret) for secret in lines for place, text in told.items()
        if secret.encode() in text
    ]  # fmt: skip
    assert not found
