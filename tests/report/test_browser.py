"""A report in a real browser, where there is one: at the widths of a phone and a desk, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from sage_cli.report import write_report
from sage_cli.video import Video
from tests.report.test_page import _run

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)

# The page is shown in a frame, since a window has a least width; its findings come back as the window's title.
FRAME = """<!doctype html><title></title>
<script>addEventListener("message", event => {{ document.title = event.data; }});</script>
<iframe src="looked.html" style="width: {width}px; height: 3000px; border: 0"></iframe>"""
LOOK = """<script>
const failed = [];
addEventListener("error", event => failed.push(String(event.message)), true);
addEventListener("load", () => {
  parent.postMessage(JSON.stringify({
    failed, width: innerWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    overflow: document.documentElement.scrollWidth - innerWidth,
    pictures: [...document.images].map(image => image.naturalWidth),
    links: [...document.links].map(link => link.href),
    requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:")),
  }), "*");
});
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_the_report(clip_path: Path, tmp_path: Path, width: int, dark: bool) -> None:
    video = Video(clip_path)
    write_report(tmp_path / "report.html", [(_run(question="Who said that? " * 12), video, str(clip_path))])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "looked.html").write_text(page.replace("<head>", f"<head>{LOOK}", 1), encoding="utf-8")
    (tmp_path / "window.html").write_text(FRAME.format(width=width), encoding="utf-8")
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"),
            "--window-size=1400,3000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            *("--virtual-time-budget=5000", "--dump-dom", (tmp_path / "window.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout[:500]
    seen = json.loads(title[1])
    assert seen["failed"] == []
    assert seen["requests"] == []
    assert (seen["width"], seen["dark"]) == (width, dark)
    assert seen["overflow"] <= 0
    assert len(seen["pictures"]) >= 8
    assert min(seen["pictures"]) > 0
    assert all(Path(unquote(urlsplit(link).path)) == clip_path.resolve() for link in seen["links"])
    assert any(link.endswith("#t=1") for link in seen["links"])
