"""The report of a load test in a real browser, without a network."""

import html
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from loadtest.report.page import page
from tests.support.foreign.programs import find_program
from tests.unit.loadtest.results import result

pytestmark = pytest.mark.slow

LISTEN = "<script>const said = []; addEventListener('error', (e) => said.push(e.message));</script>"
POINT = """<script>
const tips = [...document.querySelectorAll("figure[data-chart]")].map((figure) => {
  const box = figure.querySelector("svg").getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + 50, bubbles: true };
  figure.querySelector("svg").dispatchEvent(new PointerEvent("pointermove", at));
  const tip = figure.querySelector(".tip");
  const right = tip.getBoundingClientRect().right;
  const shown = { hidden: tip.hidden, text: tip.textContent, width: box.width, right };
  figure.querySelector("svg").dispatchEvent(new PointerEvent("pointerleave"));
  return { ...shown, gone: tip.hidden };
});
const { scrollWidth, clientWidth } = document.documentElement;
document.body.dataset.found = JSON.stringify({ said, tips, scrollWidth, clientWidth });
</script>"""


@pytest.mark.parametrize("width", [1200, 500])
def test_charts_draw_and_answer_the_pointer_offline(tmp_path: Path, width: int) -> None:
    browser = find_program("chromium", "google-chrome")
    file = tmp_path / "report.html"
    text = page(result())
    file.write_text(text.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{POINT}</body>"))
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={width},900"),
            *(f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    shown = re.search(r'data-found="([^"]*)"', done.stdout)
    assert shown is not None, done.stderr[-2000:]
    found = json.loads(html.unescape(shown[1]))
    assert found["said"] == []
    assert len(found["tips"]) == 10
    for tip in found["tips"]:
        assert not tip["hidden"]
        assert tip["gone"]
        assert tip["width"] > 200
        assert tip["right"] <= found["clientWidth"]
    assert found["tips"][0]["text"].startswith("2 s")
    assert "delivery" in found["tips"][1]["text"]
    assert found["scrollWidth"] <= found["clientWidth"], "nothing sticks out to the right"
