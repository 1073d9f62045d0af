"""The page of a measurement."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from sage_cli.bench.report import compare, summarize
from sage_cli.report.bench import bench_page
from tests.bench.test_report import other, records


def parsed(html: str) -> ElementTree.Element:
    """The body, which is written so that it is XML too."""
    return ElementTree.fromstring(html[html.index("<body>") : html.index("</body>") + len("</body>")])


def test_the_page_needs_nothing_and_cannot_be_broken_by_what_it_shows() -> None:
    html = bench_page(summarize("twenty <questions>", records()))
    root = parsed(html)
    assert root.findtext(".//h1") == "twenty <questions>"
    assert len(root.findall(".//svg")) == 3 + 2  # a plot for each breakdown, turns, seconds
    assert len(root.findall(".//circle")) == 3 + 2 + 3
    for outside in ("http:", "https:", "src=", "href=", "<script", "@import", "url("):
        assert outside not in html


def test_the_page_is_usable_without_a_mouse_and_without_eyes() -> None:
    report = summarize("run", records(), missing=["gone.mp4"])
    root = parsed(bench_page(replace(report, comparison=compare(records(), other(), summarize("other", other())))))
    assert [child.tag for child in root] == ["main"]
    assert all(head.text for head in root.iter("th"))
    regions = root.findall(".//div[@class='figures']")
    assert {region.get("aria-label") for region in regions} >= {"Overall", "Comparison", "Missing videos"}
    assert all((region.get("tabindex"), region.get("role")) == ("0", "region") for region in regions)
