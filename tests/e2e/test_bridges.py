"""Bridges of a real gateway: set up by commands, sent to over HTTP, to strict providers."""

import asyncio
import contextlib
import datetime as dt
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.bridges import apns_credentials, ec_key, pem, rsa_key
from tests.support.certificate import make_certificate
from tests.support.gateway import RunningGateway, pushwire, running_gateway
from tests.support.providers import faults
from tests.support.providers.apns import ApnsProvider
from tests.support.providers.fcm import FcmProvider
from tests.support.providers.webpush import Browser, WebpushService
from tests.support.raw_device import connected
from tests.support.receiver import Receiver, receiving
from tests.support.valkey import wall_ms
from tests.support.waiting import eventually

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

WAIT_S: Final = 20.0
SHOWN: Final = {"notification": {"title": "Order 17", "body": "Ready"}}


class Stage:
    """A gateway, a provider of each kind, and an endpoint for callbacks."""

    def __init__(
        self,
        gateway: RunningGateway,
        providers: tuple[ApnsProvider, FcmProvider, WebpushService],
        receiver: Receiver,
    ) -> None:
        self.gateway, self.receiver = gateway, receiver
        self.apns, self.fcm, self.webpush = providers
        self._number = 0

    async def command(self, *words: str) -> str:
        """Run `pushwire`, and give what it prints."""
        where = ("--data-dir", str(self.gateway.data_dir))
        keys = {"PUSHWIRE_PROJECT": self.gateway.project, "PUSHWIRE_API_KEY": self.gateway.api_key}
        code, out, err = await pushwire(*words, *where, environment=keys)
        assert code == 0, err
        return out

    async def on_apns(self, **fields: object) -> tuple[dict[str, str], str]:
        """Register an Apple device; give it, and the token that Apple knows it by."""
        self._number += 1
        token = f"{self._number:064x}"
        bridge = {"type": "apns", "token": token}
        return await self.gateway.register(bridge=bridge, **fields), token

    async def on_webpush(self, public_key: str) -> tuple[dict[str, str], Browser]:
        browser = self.webpush.subscribe(public_key)
        bridge = {"type": "webpush", "subscription": browser.to_json()}
        return await self.gateway.register(bridge=bridge), browser

    def at_apple(self, token: str) -> list[str]:
        """The messages that Apple took for a device."""
        return [push.payload["pushwire_id"] for push in self.apns.taken if push.token == token]

    async def events(self, message: str) -> dict[str, str]:
        """What happened to a message: detail by event, in order."""
        timeline: Any = (await self.gateway.status(message))["timeline"]
        return {entry["type"]: entry.get("detail", "") for entry in timeline}

    async def has(self, message: str, event: str) -> dict[str, str]:
        """Wait for an event of a message, and give all."""

        async def found() -> dict[str, str]:
            events = await self.events(message)
            return events if event in events else {}

        seen: dict[str, str] = await eventually(found, WAIT_S)
        assert event in seen
        return seen


async def waits(condition: Callable[[], object]) -> None:
    found: object = await eventually(condition, WAIT_S)
    assert found


@contextlib.asynccontextmanager
async def staged(tmp_path: Path) -> AsyncIterator[tuple[Stage, str]]:
    """Set all up as docs/bridges.md says; give the public key for browsers too."""
    certificate = make_certificate(tmp_path)
    apns = ApnsProvider(certificate, ec_key().public_key())
    settings = {"callback_allow_private": "true", "device_sends_per_min": 0}
    async with (
        apns.server,
        FcmProvider(rsa_key().public_key()) as fcm,
        WebpushService(certificate) as webpush,
        running_gateway(tmp_path, **settings) as gateway,
        receiving() as receiver,
    ):
        stage = Stage(gateway, (apns, fcm, webpush), receiver)
        status, webhook = await gateway.call("POST", "/webhooks", {"url": receiver.url})
        assert status == 201, webhook
        receiver.secrets.append(str(webhook["secret"]))
        given, account = apns_credentials(), tmp_path / "firebase.json"
        (tmp_path / "AuthKey.p8").write_text(given["key"])
        account.write_text(json.dumps(fcm.service_account(pem(rsa_key()))))
        add = ("project", "bridge", "add", gateway.project)
        ca = ("--ca-file", str(certificate[0]))
        *_, out = await asyncio.gather(
            stage.command(
                *(*add, "apns", "--key-file", str(tmp_path / "AuthKey.p8")),
                *("--key-id", given["key_id"], "--team-id", given["team_id"]),
                *("--topic", given["topic"], "--endpoint", apns.server.url, *ca),
            ),
            stage.command(*add, "fcm", "--service-account", str(account), "--endpoint", fcm.url),
            stage.command(
                *(*add, "webpush", "--subject", "mailto:ops@example.com", "--json"),
                *("--endpoint", webpush.url, *ca),
            ),
        )

        async def known() -> bool:
            # Every process uses what was given within a second.
            status, _ = await gateway.call("GET", "/bridges/webpush")
            return status == 200

        found: bool = await eventually(known, WAIT_S)
        assert found
        yield stage, json.loads(out)["details"]["public_key"]
        receiver.check()


async def test_what_the_docs_promise_of_bridges(tmp_path: Path) -> None:
    async with staged(tmp_path) as (stage, public_key):
        await every_bridge_reaches_a_device_that_is_away(stage, public_key)
        await modes_and_times(stage)
        await a_connected_device_has_a_while_to_ack(stage)
        await audiences_are_reached(stage)
        await a_dead_address_is_told(stage)
        await dead_letters_by_commands(stage)
        await nothing_secret_is_told(stage)


async def every_bridge_reaches_a_device_that_is_away(stage: Stage, public_key: str) -> None:
    gateway = stage.gateway
    apple, token = await stage.on_apns()
    android = await gateway.register(bridge={"type": "fcm", "token": "fcm-token_of:device-0001"})
    page, browser = await stage.on_webpush(public_key)
    sent = [await gateway.send(each["token"], **SHOWN) for each in (apple, android, page)]
    told = [await stage.has(message, "bridged") for message in sent]
    assert stage.at_apple(token) == [sent[0]]
    (at_apple,) = [push for push in stage.apns.taken if push.token == token]
    assert told[0]["bridged"] == at_apple.id
    (at_fcm,) = stage.fcm.taken
    assert at_fcm.message["data"]["pushwire_id"] == sent[1]
    (at_browser,) = stage.webpush.taken
    assert (at_browser.subscription, at_browser.payload["pushwire_id"]) == (
        browser.id,
        sent[2],
    )
    # What was bridged waits in the mailbox all the same, and its ack ends it.
    async with connected(gateway.devices, apple["credential"]) as device:
        assert await device.messages() == [sent[0]]
        await device.ack(sent[0])
        assert list(await stage.has(sent[0], "delivered"))[-1] == "delivered"
    await waits(
        lambda: (
            {(r["message_id"], r["event"]) for r in stage.receiver.receipts}
            >= {(message, "bridged") for message in sent}
        )
    )


async def modes_and_times(stage: Stage) -> None:
    send, (device, token) = stage.gateway.send, await stage.on_apns()
    never = await send(device["token"], bridge="never", **SHOWN)
    only = await send(device["token"], bridge="only", **SHOWN)
    now = await send(device["token"], ttl="0s", **SHOWN)
    later = await send(device["token"], send_at=_in(2), **SHOWN)
    bare = await stage.gateway.register()
    nowhere = await send(bare["token"], bridge="only", **SHOWN)
    assert (await stage.events(nowhere))["failed"] == "no bridge"
    for message in (only, now, later):
        await stage.has(message, "bridged")
    assert set(stage.at_apple(token)) == {only, now, later}
    assert stage.at_apple(token)[-1] == later
    assert "bridged" not in await stage.events(never)
    async with connected(stage.gateway.devices, device["credential"]) as app:
        assert await app.messages(2) == [never, later]


async def a_connected_device_has_a_while_to_ack(stage: Stage) -> None:
    device, token = await stage.on_apns()
    async with connected(stage.gateway.devices, device["credential"]) as app:
        auto = {"mode": "auto", "after": "1s"}
        acked = await stage.gateway.send(device["token"], bridge=auto, **SHOWN)
        assert await app.messages() == [acked]
        await app.ack(acked)
        late = await stage.gateway.send(device["token"], bridge=auto, **SHOWN)
        only = await stage.gateway.send(device["token"], bridge="only", **SHOWN)
        assert await app.messages() == [late]
        await stage.has(late, "bridged")
        await stage.has(only, "bridged")
        assert stage.at_apple(token) == [only, late]
        assert "bridged" not in await stage.events(acked)
        assert [frame["op"] for frame in await app.until_pong()] == []


async def audiences_are_reached(stage: Stage) -> None:
    call, (device, token) = stage.gateway.call, await stage.on_apns()
    tokens = {"tokens": [device["token"]]}
    for method, path, body in (
        ("PATCH", f"/devices/{device['device_id']}", {"user": "ada"}),
        ("POST", "/topics/news:subscribe", tokens),
        ("POST", "/groups", {"group": "family", **tokens}),
    ):
        status, said = await call(method, path, body)
        assert status in {200, 201}, (path, said)

    async def sent(**audience: object) -> str:
        body = {"message": {**audience, "bridge": "only", **SHOWN}}
        status, said = await call("POST", "/messages:send", body)
        assert status == 200, said
        return str(said["name"]).rpartition("/")[2]

    to_user, to_group = await sent(user="ada"), await sent(group="family")
    await waits(lambda: {to_user, to_group} <= told(stage.at_apple(token)))
    published: set[str] = set()

    async def reached() -> set[str]:
        # Who got its bridge within the last second may be left out.
        published.add(await sent(topic="news"))
        return published & told(stage.at_apple(token))

    found: set[str] = await eventually(reached, WAIT_S)
    assert found
    assert max(Counter(stage.at_apple(token)).values()) == 1


def told(pushed: list[str]) -> set[str]:
    """The messages that were pushed, without what names a device's copy."""
    return {each.partition(".")[0] for each in pushed}


async def a_dead_address_is_told(stage: Stage) -> None:
    device, token = await stage.on_apns()
    stage.apns.gone[token] = ("Unregistered", wall_ms() + 60_000)
    message = await stage.gateway.send(device["token"], **SHOWN)
    assert "Unregistered" in (await stage.has(message, "failed"))["failed"]
    await waits(lambda: stage.receiver.of_type("device.unregistered"))
    (told,) = stage.receiver.of_type("device.unregistered")
    assert (told["device_id"], told["bridge"]) == (device["device_id"], "apns")
    assert "Unregistered" in told["reason"]
    _, shown = await stage.gateway.call("GET", f"/devices/{device['device_id']}")
    assert not shown.get("bridge")
    async with connected(stage.gateway.devices, device["credential"]) as app:
        assert await app.messages() == [message]


async def dead_letters_by_commands(stage: Stage) -> None:
    device, token = await stage.on_apns()
    stage.apns.faults.of(token, *[faults.answer(400, "BadPriority")] * 3)
    first = await stage.gateway.send(device["token"], **SHOWN)
    second = await stage.gateway.send(device["token"], bridge="only", **SHOWN)
    never = await stage.gateway.send(device["token"], ttl="0s", **SHOWN)
    for message in (first, second, never):
        assert (await stage.has(message, "failed"))["failed"] == "rejected: BadPriority"
    lane = f"br_{stage.gateway.project}_apns"
    letters = json.loads(await stage.command("dlq", "list", "--webhook", lane, "--json"))
    assert {letter["reason"] for letter in letters} == {"rejected"}
    of = {}
    for letter in letters:
        shown = json.loads(await stage.command("dlq", "show", letter["id"], "--json"))
        of[next(m for m in (first, second, never) if m in json.dumps(shown))] = letter["id"]
    for message in (first, second):
        out = await stage.command("dlq", "replay", of[message])
        assert out == "1 will be sent again\n"
        await stage.has(message, "bridged")
    assert stage.at_apple(token) == [first, second]
    code, _, err = await pushwire(
        *("dlq", "replay", of[never], "--data-dir", str(stage.gateway.data_dir)),
        environment={
            "PUSHWIRE_PROJECT": stage.gateway.project,
            "PUSHWIRE_API_KEY": stage.gateway.api_key,
        },
    )
    assert code != 0
    assert "Traceback" not in err
    assert await stage.command("dlq", "drop", "--all", "--webhook", lane) == "1 dropped\n"


async def nothing_secret_is_told(stage: Stage) -> None:
    listed = await stage.command("project", "bridge", "list", stage.gateway.project, "--json")
    async with stage.gateway.http.get(f"{stage.gateway.ops}/metrics") as response:
        metrics = await response.text()
    secret = [pem(ec_key()).splitlines()[1], pem(rsa_key()).splitlines()[1], "ya29.", "eyJ"]
    secret += [push.token for push in stage.apns.taken]
    for text in (listed, metrics, stage.gateway.logged()):
        assert not [each for each in secret if each in text]
    assert '"error"' not in stage.gateway.logged()


def _in(seconds: int) -> str:
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return at.isoformat().replace("+00:00", "Z")
