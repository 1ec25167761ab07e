"""The API in this process, on a real store and a real socket, and a small client of it."""

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry

from gateway.api.app import services_of, serving
from gateway.api.services import Services
from gateway.process import Clock, Entropy
from gateway.settings import Settings
from router.model.ids import ProjectId
from router.telemetry.metrics import Metrics

ADMIN_KEY = "admin-key-of-the-tests"


class Answer(msgspec.Struct):
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        """The error, checked to have the one shape."""
        error = self.json["error"]
        assert error["code"] == self.status
        assert error["message"]
        assert error["status"]
        assert "Traceback" not in self.text
        return error

    @property
    def fields(self) -> list[str]:
        """Paths of the bad fields."""
        return [
            violation["field"]
            for detail in self.error.get("details", [])
            for violation in detail.get("fieldViolations", [])
        ]

    @property
    def fcm_code(self) -> str:
        codes = [d["errorCode"] for d in self.error.get("details", []) if "errorCode" in d]
        return codes[0] if codes else ""


class Api:
    """A running API with one project of its own."""

    def __init__(self, url: str, services: Services, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.services = services
        self.session = session
        self.project = ProjectId(f"p-{secrets.token_hex(8)}")
        self.key = self.client_key = ""

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str = "", **headers: str
    ) -> Answer:
        """Make a request; `path` may be relative to the project."""
        if key:
            headers["Authorization"] = f"Bearer {key}"
        target = path if path.startswith("/") else f"/v1/projects/{self.project}/{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(method, target, data=data, headers=names) as response:
            return Answer(response.status, dict(response.headers), await response.text())

    async def send(self, message: Any, **around: Any) -> Answer:
        body = {"message": message, **around}
        return await self.call("POST", "messages:send", body, key=self.key)

    async def device(self) -> dict[str, str]:
        answer = await self.call(
            "POST", "devices", {"platform": "python"}, X_Client_Key=self.client_key
        )
        assert answer.status == 201, answer.text
        registered: dict[str, str] = answer.json
        return registered


@contextlib.asynccontextmanager
async def running_api(store_url: str, **settings: Any) -> AsyncIterator[Api]:
    """Run the API with a project, until the end of the block."""
    chosen = Settings(store_url=store_url, admin_key=ADMIN_KEY, **settings)
    metrics = Metrics(CollectorRegistry())
    async with (
        services_of(chosen, Clock(), Entropy(), metrics) as services,
        serving(services, "127.0.0.1", 0) as url,
        aiohttp.ClientSession(url) as session,
    ):
        api = Api(url, services, session)
        created = await services.projects_service.create_project(api.project)
        api.key, api.client_key = created.api_key, created.client_key
        yield api
