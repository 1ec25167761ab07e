"""`pushwire demo` from its start to its end."""

import re

import pytest

from tests.support.gateway import pushwire

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]


async def test_demo_delivers_and_leaves_nothing_behind() -> None:
    code, out, err = await pushwire("demo", timeout_s=90)
    assert code == 0, err + out
    assert "A device that is connected" in out
    assert "A topic that 2 devices subscribe to" in out
    assert "A device that is offline" in out
    assert len(re.findall(r"in its handler [\d.]+ ms", out)) == 3 + 2 + 2
    assert re.search(
        r"a signed callback at http://127\.0\.0\.1:\d+/callbacks: \w+ was delivered", out
    )
    assert "delivered" in out
    assert "All delivered" in out
    assert "\x1b[" not in out
