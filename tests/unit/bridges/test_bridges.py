"""Bridges are found by looking."""

from pathlib import Path

from router import bridges
from router.bridge import Bridge


def test_each_module_is_a_bridge_by_its_name() -> None:
    (folder,) = bridges.__path__
    modules = sorted(path.stem for path in Path(folder).glob("[a-z]*.py"))
    assert list(bridges.discover()) == modules == ["apns", "fcm", "webpush"]
    assert all(isinstance(bridge, Bridge) for bridge in bridges.discover().values())
