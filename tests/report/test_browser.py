"""Reports in a real browser, where there is one: at the widths of a phone and a desk, light and dark, and on paper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from pypdf import PdfReader

from sage_cli.bench.report import compare, summarize
from sage_cli.report import write_report
from sage_cli.report.bench import bench_page
from sage_cli.video import Video
from tests.bench.test_report import other, records
from tests.report.test_page import _run

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

HEBREW = "\u05de\u05d4 (sage)? \u05d6\u05d4."  # ends with a full stop, which stands on the left

# The page is shown in a frame, since a window has a least width; its findings come back as the window's title.
FRAME = """<!doctype html><title></title>
<script>addEventListener("message", event => {{ document.title = event.data; }});</script>
<iframe src="looked.html" style="width: {width}px; height: 3000px; border: 0"></iframe>"""
LOOK = """<script>
const failed = [];
addEventListener("error", event => failed.push(String(event.message)), true);
function place(node, from, to) {
  const range = document.createRange();
  range.setStart(node, from);
  range.setEnd(node, to);
  return range;
}
function* texts() {
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.data.trim(), from = node.data.indexOf(text), to = from + text.length;
    if (text) {
      const [first, last] = [from, to - 1].map(at => place(node, at, at + 1).getBoundingClientRect().left);
      yield {text, first, last, lines: new Set([...place(node, from, to).getClientRects()].map(one => one.top)).size};
    }
  }
}
addEventListener("load", () => {
  parent.postMessage(JSON.stringify({
    failed, width: innerWidth, dark: matchMedia("(prefers-color-scheme: dark)").matches,
    overflow: document.documentElement.scrollWidth - innerWidth,
    hidden: [...document.querySelectorAll(".figures")].filter(one => one.scrollWidth > one.clientWidth).length,
    texts: [...texts()],
    pictures: [...document.images].map(image => image.naturalWidth),
    links: [...document.links].map(link => link.href),
    requests: performance.getEntriesByType("resource").map(entry => entry.name).filter(name => !name.startsWith("data:")),
  }), "*");
});
</script>"""


def browse(folder: Path, *words: str) -> str:
    """What the browser prints on stdout."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}")
    return subprocess.run([str(BROWSER), *options, *words], capture_output=True, text=True, timeout=120, check=True).stdout


def look(page: str, folder: Path, *, width: int, dark: bool = False) -> dict[str, Any]:
    """What a browser shows of a page of this width."""
    (folder / "looked.html").write_text(page.replace("<head>", f"<head>{LOOK}", 1), encoding="utf-8")
    (folder / "window.html").write_text(FRAME.format(width=width), encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    window = (folder / "window.html").as_uri()
    shown = browse(folder, "--window-size=1400,3000", scheme, "--virtual-time-budget=5000", "--dump-dom", window)
    title = re.search(r"<title>(.*?)</title>", shown, re.DOTALL)
    assert title, shown[:500]
    seen: dict[str, Any] = json.loads(title[1])
    assert seen["failed"] == []
    assert seen["requests"] == []
    assert (seen["width"], seen["dark"]) == (width, dark)
    assert seen["overflow"] <= 0
    return seen


@pytest.fixture
def measured() -> str:
    """The page of a comparison with a long name of a category, in several languages."""
    runs = [
        record
        | {"question": f"{record['id']} {'long option ' * 20}\n{HEBREW}", "answer": "subclips", "full_answer": HEBREW}
        | {"difficulty": {"hard": "x" * 134}.get(record["difficulty"], record["difficulty"])}
        for record in [*records(), *other()]
    ]
    ours, others = runs[:20], runs[20:]
    report = summarize("run", ours, missing=[HEBREW])
    return bench_page(replace(report, comparison=compare(ours, others, summarize("other", others))))


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_the_report(clip_path: Path, tmp_path: Path, width: int, dark: bool) -> None:
    write_report(tmp_path / "report.html", [(_run(question="Who said that? " * 12), Video(clip_path))])
    seen = look((tmp_path / "report.html").read_text(encoding="utf-8"), tmp_path, width=width, dark=dark)
    assert len(seen["pictures"]) >= 8
    assert min(seen["pictures"]) > 0
    assert all(Path(unquote(urlsplit(link).path)) == clip_path.resolve() for link in seen["links"])
    assert any(link.endswith("#t=1") for link in seen["links"])


def test_text_runs_in_the_direction_of_its_language(clip_path: Path, tmp_path: Path, measured: str) -> None:
    span = {"start": 1.0, "end": 3.0}
    words = {"transcript": str({0: {"text": HEBREW, "start": "00:01", "end": "00:02"}})}
    call = {"tool": "transcribe-speech", "span": span, "rationale": HEBREW, "summary": HEBREW, "result": words}
    run = _run(question=HEBREW, answer=HEBREW, tool_calls=[call], notices=[HEBREW, "In English."])
    write_report(tmp_path / "report.html", [(run, Video(clip_path))])
    seen = look((tmp_path / "report.html").read_text(encoding="utf-8"), tmp_path, width=1280)["texts"]
    assert [one["last"] < one["first"] for one in seen if one["text"] == HEBREW] == [True] * 6
    assert [one["last"] > one["first"] for one in seen if one["text"] == "In English."] == [True]
    seen = [one for one in look(measured, tmp_path, width=1280)["texts"] if one["text"] == HEBREW]
    assert len(seen) == 20 + 1
    assert all(one["last"] < one["first"] for one in seen)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_measurement_fits_the_page(measured: str, tmp_path: Path, width: int) -> None:
    seen = look(measured, tmp_path, width=width)
    assert width == 390 or seen["hidden"] == 0
    assert {one["lines"] for one in seen["texts"] if one["text"] == "subclips"} == {1}


def test_no_figure_is_lost_on_paper(measured: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(measured, encoding="utf-8")
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri())
    printed = "".join(page.extract_text() for page in PdfReader(tmp_path / "page.pdf").pages)
    assert "0.4531" in printed
    assert "subclips" in printed
