"""Stock firebase-admin, with its URL changed alone, against the API on a real store."""

import asyncio
import contextlib
import secrets
import warnings
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import pytest

from tests.contract.api_server import Api, running_api
from tests.support.valkey import running_server

with warnings.catch_warnings():
    # Google's packages warn of their own future; nothing of it is ours to mend.
    warnings.simplefilter("ignore")
    import firebase_admin  # type: ignore[import-untyped]
    from firebase_admin import credentials, exceptions, messaging
    from google.auth.exceptions import RefreshError

# The SDK prefers the newer name of the same address.
pytestmark = pytest.mark.filterwarnings(
    "ignore:(Message.token|MulticastMessage.tokens) is deprecated:DeprecationWarning"
)

T = TypeVar("T")
NO_ADDRESS = "not an address"


class Firebase:
    """firebase-admin as an app server uses it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call one of its functions, which block, in a thread."""

        return await asyncio.to_thread(function, *arguments, app=self.app, **named)


@contextlib.asynccontextmanager
async def firebase_app(certificate: dict[str, Any], project: str) -> AsyncIterator[Any]:
    app = firebase_admin.initialize_app(
        credentials.Certificate(certificate), {"projectId": project}, name=secrets.token_hex(8)
    )
    try:
        yield app
    finally:
        messaging._get_messaging_service(app)._client.close()
        # It runs an event loop of its own, which this thread has already.
        await asyncio.to_thread(firebase_admin.delete_app, app)


@contextlib.asynccontextmanager
async def app_server(api: Api) -> AsyncIterator[Firebase]:
    account = await api.services.projects_service.create_service_account(
        api.project, f"{api.url}/oauth2/token"
    )
    async with firebase_app(msgspec.to_builtins(account), api.project) as app:
        yield Firebase(app)


@pytest.fixture
async def api(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with running_api(store_url) as running:
        use_url(monkeypatch, running)
        yield running


@pytest.fixture
async def firebase(api: Api) -> AsyncIterator[Firebase]:
    async with app_server(api) as made:
        yield made


def use_url(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    service = messaging._MessagingService
    monkeypatch.setattr(service, "FCM_URL", f"{api.url}/v1/projects/{{0}}/messages:send")
    monkeypatch.setattr(service, "IID_URL", api.url)


def try_once(firebase: Firebase) -> None:
    """Have it raise what is answered: by itself it heeds Retry-After, and sends again."""
    service = messaging._get_messaging_service(firebase.app)
    adapter = service._client.session.get_adapter("http://")
    adapter.max_retries = adapter.max_retries.new(total=0)


def everything(token: str) -> messaging.Message:
    """Use every option that the SDK knows."""
    return messaging.Message(
        token=token,
        data={"k": "v"},
        notification=messaging.Notification("title", "body", "https://example.org/i.png"),
        android=messaging.AndroidConfig(
            collapse_key="c",
            priority="high",
            ttl=3600.5,
            restricted_package_name="org.example",
            data={"k": "android"},
            notification=messaging.AndroidNotification(
                title="t",
                body="b",
                icon="i",
                color="#ffffff",
                sound="s",
                tag="t",
                click_action="c",
                body_loc_key="b",
                body_loc_args=["1"],
                title_loc_key="t",
                title_loc_args=["1"],
                channel_id="c",
                image="https://example.org/i.png",
                ticker="t",
                sticky=True,
                event_timestamp=datetime(2030, 1, 1, tzinfo=UTC),
                local_only=True,
                priority="max",
                vibrate_timings_millis=[100, 2500],
                default_vibrate_timings=False,
                default_sound=False,
                light_settings=messaging.LightSettings("#aabbccdd", 100, 2000),
                default_light_settings=False,
                visibility="private",
                notification_count=1,
                proxy="allow",
            ),
            fcm_options=messaging.AndroidFCMOptions("label"),
            direct_boot_ok=True,
        ),
        webpush=messaging.WebpushConfig(
            headers={"TTL": "60"},
            data={"w": "1"},
            notification=messaging.WebpushNotification("t", "b", silent=False, tag="x"),
            fcm_options=messaging.WebpushFCMOptions("https://example.org/"),
        ),
        apns=messaging.APNSConfig(
            headers={"apns-priority": "10"},
            payload=messaging.APNSPayload(
                messaging.Aps(
                    alert=messaging.ApsAlert("t", "b"), badge=1, sound="s", mutable_content=True
                ),
                own=1,
            ),
            fcm_options=messaging.APNSFCMOptions("label", "https://example.org/i.png"),
        ),
        fcm_options=messaging.FCMOptions("label"),
    )


async def test_a_message_is_sent_and_stored(api: Api, firebase: Firebase) -> None:
    device = await api.device()
    name = await firebase(messaging.send, everything(device["token"]))
    status = await api.call("GET", f"/v1/{name}", key=api.key)
    assert status.json["state"] == "accepted"
    assert status.json["collapse_key"] == "c"


async def test_a_dry_run_sends_nothing(api: Api, firebase: Firebase) -> None:
    device = await api.device()
    message = messaging.Message(token=device["token"])
    name = await firebase(messaging.send, message, dry_run=True)
    assert name == f"projects/{api.project}/messages/fake_message_id"
    read = await api.call("GET", f"devices/{device['device_id']}", key=api.key)
    assert read.json["pending"] == 0


async def test_each_of_several_has_its_own_result(api: Api, firebase: Firebase) -> None:
    device = await api.device()
    gone = await api.device()
    await api.call("DELETE", f"devices/{gone['device_id']}", key=api.key)
    batch = await firebase(
        messaging.send_each,
        [
            messaging.Message(token=device["token"]),
            messaging.Message(token=gone["token"]),
            messaging.Message(token=NO_ADDRESS),
        ],
    )
    assert [one.success for one in batch.responses] == [True, False, False]
    assert isinstance(batch.responses[1].exception, messaging.UnregisteredError)
    assert isinstance(batch.responses[2].exception, exceptions.InvalidArgumentError)
    several = messaging.MulticastMessage([device["token"], gone["token"]], data={"k": "v"})
    answer = await firebase(messaging.send_each_for_multicast, several)
    assert (answer.success_count, answer.failure_count) == (1, 1)


async def test_a_condition_is_sent_to(api: Api, firebase: Firebase) -> None:
    condition = "'news' in topics && ('de' in topics || !('en' in topics))"
    name = await firebase(messaging.send, messaging.Message(condition=condition, data={"k": "v"}))
    status = (await api.call("GET", f"/v1/{name}", key=api.key)).json
    assert (status["state"], status["target"]) == ("in_progress", "condition")
    assert status["condition"] == "'news' in topics && ('de' in topics || !'en' in topics)"
    assert "topic" not in status


async def test_errors_have_their_classes(api: Api, firebase: Firebase) -> None:
    device = await api.device()
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    foreign = await api.call(
        "POST",
        f"/v1/projects/{other.project}/devices",
        {"platform": "x"},
        X_Client_Key=other.client_key,
    )
    await api.call("POST", f"devices/{device['device_id']}:rotateToken", key=api.key)
    cases = {
        messaging.UnregisteredError: messaging.Message(token=device["token"]),
        messaging.SenderIdMismatchError: messaging.Message(token=foreign.json["token"]),
        exceptions.InvalidArgumentError: messaging.Message(condition="'news' in topic"),
    }
    for error, message in cases.items():
        with pytest.raises(error):
            await firebase(messaging.send, message)


@pytest.mark.parametrize(
    ("limits", "target"),
    [
        ({"project_sends_per_s": 0.001}, "token"),
        ({"device_sends_per_min": 0.01, "device_sends_burst": 1}, "token"),
        ({"project_publishes_per_s": 0.001}, "topic"),
    ],
    ids=["project", "device", "publishes"],
)
async def test_what_is_over_a_limit_has_its_class_too(
    store_url: str, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], target: str
) -> None:
    async with running_api(store_url, **limits) as api, app_server(api) as firebase:
        use_url(monkeypatch, api)
        name = "news" if target == "topic" else (await api.device())["token"]
        message = messaging.Message(**{target: name}, data={"k": "v"})
        assert await firebase(messaging.send, message)
        try_once(firebase)
        with pytest.raises(messaging.QuotaExceededError, match="Too many messages") as caught:
            await firebase(messaging.send, message)
        assert isinstance(caught.value, exceptions.ResourceExhaustedError)
        assert caught.value.code == exceptions.RESOURCE_EXHAUSTED
        assert caught.value.http_response.status_code == 429
        assert int(caught.value.http_response.headers["Retry-After"]) >= 1


@pytest.mark.slow
async def test_it_waits_as_long_as_a_limit_says_and_sends_again(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_api(store_url, project_sends_per_s=1) as api,  # two at once
        app_server(api) as firebase,
    ):
        use_url(monkeypatch, api)
        message = messaging.Message(token=(await api.device())["token"])
        assert all([await firebase(messaging.send, message) for _ in range(3)])
        refused = api.services.metrics.limit_refusals.labels("project")._value.get()
        assert refused >= 1


@pytest.mark.filterwarnings("ignore:.*_legacy is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("subscribe", "unsubscribe", "unknown"),
    [
        (messaging.subscribe_to_topic, messaging.unsubscribe_from_topic, "UNREGISTERED"),
        (
            messaging.subscribe_to_topic_legacy,
            messaging.unsubscribe_from_topic_legacy,
            "NOT_FOUND",
        ),
    ],
    ids=["v1", "instance-id"],
)
async def test_devices_subscribe_get_a_topic_and_unsubscribe(
    api: Api,
    firebase: Firebase,
    subscribe: Callable[..., Any],
    unsubscribe: Callable[..., Any],
    unknown: str,
) -> None:
    service = messaging._get_messaging_service(firebase.app)
    service._fcm_topic_url = f"{api.url}/v1/projects/{api.project}/registrations"
    device, other = await api.device(), await api.device()
    tokens = [device["token"], other["token"], NO_ADDRESS]
    for topic in ("/topics/news", "news"):
        added = await firebase(subscribe, tokens, topic)
        assert (added.success_count, added.failure_count) == (2, 1)
        assert [(error.index, error.reason) for error in added.errors] == [(2, unknown)]
    assert (await api.call("GET", "topics/news", key=api.key)).json["subscribers"] == 2
    name = await firebase(messaging.send, messaging.Message(topic="news", data={"k": "v"}))
    status = (await api.call("GET", f"/v1/{name}", key=api.key)).json
    assert (status["state"], status["target"], status["topic"]) == ("in_progress", "topic", "news")
    removed = await firebase(unsubscribe, tokens[:1], "news")
    assert (removed.success_count, removed.failure_count) == (1, 0)
    view = (await api.call("GET", "topics/news", key=api.key)).json
    assert view == {"topic": "news", "subscribers": 1, "messages": 1}


async def test_a_project_that_is_not_its_own_is_refused(api: Api) -> None:
    other = await api.services.projects_service.create_project(f"{api.project}-b")
    account = await api.services.projects_service.create_service_account(
        other.project, f"{api.url}/oauth2/token"
    )
    async with firebase_app(msgspec.to_builtins(account), api.project) as app:
        with pytest.raises(exceptions.PermissionDeniedError):
            await Firebase(app)(messaging.send, messaging.Message(token=NO_ADDRESS))


async def test_a_token_that_is_over_is_unauthenticated(
    api: Api, firebase: Firebase, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = firebase.app.credential.get_credential()
    await asyncio.to_thread(firebase.app.credential.get_access_token)
    monkeypatch.setattr(credential, "token", "pwo_" + "x" * 32)
    monkeypatch.setattr(credential, "refresh", lambda _request: None)
    with pytest.raises(exceptions.UnauthenticatedError):
        await firebase(messaging.send, messaging.Message(token=NO_ADDRESS))


async def test_an_account_of_nobody_gets_no_token(api: Api) -> None:
    account = await api.services.projects_service.create_service_account(
        api.project, f"{api.url}/oauth2/token"
    )
    certificate = msgspec.to_builtins(account) | {"client_email": "nobody@example.org"}
    async with firebase_app(certificate, api.project) as app:
        with pytest.raises(RefreshError, match="invalid_grant"):
            await Firebase(app)(messaging.send, messaging.Message(token=NO_ADDRESS))


@pytest.mark.slow
async def test_a_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server() as server:
        async with running_api(server.url) as api, app_server(api) as firebase:
            use_url(monkeypatch, api)
            device = await api.device()
            message = messaging.Message(token=device["token"])
            await firebase(messaging.send, message)
            try_once(firebase)
            server.stop()
            with pytest.raises(exceptions.UnavailableError):
                await firebase(messaging.send, message)
            server.start()
