from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sage_cli.errors import UsageError
from sage_cli.report import write_report
from sage_cli.report.page import still_times
from sage_cli.video import Video

TIMES = [0.0, 1.0, 2.0, 3.0]


def _run(**changes: Any) -> dict[str, Any]:
    span = {"start": 1.0, "end": 3.0}
    call = {"tool": "transcribe-speech", "span": span, "rationale": "Listen.", "summary": "2 words", "result": {}}
    call["result"] = {"transcript": str({0: {"text": " late again", "start": "00:01", "end": "00:02"}})}
    run = {
        "question": "Who <b>said</b> that?",
        "answer": "Ann & Bob",
        "reason": None,
        "video": "/videos/talk.mp4",
        "duration": 4.0,
        "elapsed": 2.5,
        "model": {"name": "nano", "host": ""},
        "frames": TIMES,
        "tool_calls": [call, call | {"tool": "ground-event", "result": {}, "summary": "found"}],
        "evidence": [{"span": span, "what": "speech transcribed", "said": "Ann is late."}, {"span": span, "what": "frames analyzed"}],
        "notices": ["only 4 frames"],
    }
    return run | changes


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(path: Path) -> _Reader:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def test_a_page_holds_the_frames_of_the_events_and_loads_nothing(clip_path: Path, tmp_path: Path) -> None:
    video = Video(clip_path)
    write_report(tmp_path / "r.html", [(_run(), video)])
    page = _read(tmp_path / "r.html")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    overview = images[-len(TIMES) :]
    assert [float(image["data-time"] or -1) for image in overview] == TIMES
    for image in images:
        data = base64.b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,"))
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        height, width = decoded.shape[:2]
        (frame,) = video.frames([float(image["data-time"] or -1)], (width, height))
        assert hashlib.sha256(frame.image.tobytes()).hexdigest() == image["data-sha256"]
    sources = [str(attributes.get(name, "")) for _, attributes in page.tags for name in ("src", "srcset") if name in attributes]
    assert all(source.startswith("data:") for source in sources)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "b")]
    assert "Who <b>said</b> that?" in page.text
    assert "Ann & Bob" in page.text
    assert "late again" in page.text
    assert "Ann is late." in page.text
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert f"{clip_path.resolve().as_uri()}#t=1" in links
    assert clip_path.name in page.text
    assert "/videos/" not in page.text  # the path is in the title of the link


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_a_report_says_what_its_answer_comes_from(clip_path: Path, tmp_path: Path, suffix: str) -> None:
    budget = {
        "frames": 4,
        "frame_width": 64,
        "frame_height": 32,
        "context_size": 8192,
        "max_steps": 10,
        "timeout_s": None,
        "tools": ["analyze"],
    }
    made = {"asked": "2026-11-27T17:07:03+00:00", "sage": "1.2", "budget": budget, "settings": {"seed": 7, "no_tool": ["ground-event"]}}
    for name in (str(clip_path), "-"):
        write_report(tmp_path / f"r{suffix}", [(_run(**made), Video(clip_path, name=name))])
        text = re.sub(r"\\(?=\W)", "", (tmp_path / f"r{suffix}").read_text()) if suffix == ".md" else _read(tmp_path / f"r{suffix}").text
        for fact in (
            "2026-11-27 17:07:03 UTC",
            hashlib.sha256(clip_path.read_bytes()).hexdigest(),
            f"{clip_path.stat().st_size:,} bytes",
            "nano",
            "sage 1.2",
            "4 frames of 64x32 pixels, 8192 tokens of context, 10 steps; tools: analyze",
            'seed = 7; no-tool = ["ground-event"]',
        ):
            assert fact in text
        assert (str(clip_path.resolve()) in text) == (name != "-")


def test_links_open_a_site_at_the_time(clip_path: Path, tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", [(_run(), Video(clip_path, name="https://a.example/watch?v=1"))])
    links = [str(attributes["href"]) for tag, attributes in _read(tmp_path / "r.html").tags if tag == "a"]
    assert "https://a.example/watch?v=1&t=1#t=1" in links
    assert "https://a.example/watch?v=1, 00:00:04" in _read(tmp_path / "r.html").text


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_a_video_from_a_pipe_has_a_name_and_no_link(clip_path: Path, tmp_path: Path, suffix: str) -> None:
    write_report(tmp_path / f"r{suffix}", [(_run(), Video(clip_path, name="-"))])
    text = (tmp_path / f"r{suffix}").read_text()
    assert "stdin, 00:00:04" in text
    assert not any(part in text for part in (clip_path.name, "href", "]("))


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_without_the_video_there_are_no_frames_and_no_link_to_it(tmp_path: Path, suffix: str) -> None:
    write_report(tmp_path / f"r{suffix}", [(_run(), "/videos/talk.mp4 does not exist")])
    text = (tmp_path / f"r{suffix}").read_text()
    for part in ("talk.mp4, 00:00:04", "/videos/talk.mp4 does not exist", "Ann", "late again", "00:00:01-00:00:03", "nano"):
        assert part in text
    assert not any(part in text for part in ("<img", "href", "](", "SHA-256"))
    link = "https://a.example/watch?v=1"  # may be played by others
    write_report(tmp_path / f"r{suffix}", [(_run(video=link), "it is offline")])
    assert f"{link}&t=1#t=1" in (tmp_path / f"r{suffix}").read_text().replace("&amp;", "&")


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_no_control_character_is_written(clip_path: Path, tmp_path: Path, suffix: str) -> None:
    hostile = "\x1b]0;title\x07 \x9b31m\nand\tmore"
    write_report(
        tmp_path / f"r{suffix}", [(_run(question=hostile, answer=hostile, notices=[hostile]), Video(clip_path, name=f"{hostile}.mp4"))]
    )
    text = (tmp_path / f"r{suffix}").read_text()
    assert "title" in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_markdown_has_all_but_pictures(clip_path: Path, tmp_path: Path) -> None:
    runs = [(_run(), Video(clip_path)), (_run(answer=None, reason="the time limit"), Video(clip_path))]
    write_report(tmp_path / "r.md", runs)
    text = (tmp_path / "r.md").read_text()
    assert r"# Who \<b\>said\</b\> that?" in text
    assert f"[{clip_path.name}]({clip_path.resolve().as_uri()})" in text
    assert "late again" in text
    assert "No answer: the time limit" in text
    assert not re.search(r"\n{4}", text)


def test_markdown_shows_text_as_it_is(clip_path: Path, tmp_path: Path) -> None:
    link = "https://a.example/watch_(1)?v=1"
    write_report(tmp_path / "r.md", [(_run(answer="- 1 * 2\n[x](y)\n\n# <b>"), Video(clip_path, name=link))])
    text = (tmp_path / "r.md").read_text()
    assert "\n\\- 1 \\* 2\\\n\\[x\\](y)\n\n\\# \\<b\\>\n" in text
    assert r"[https://a.example/watch\_(1)?v=1](https://a.example/watch_%281%29?v=1)" in text


def test_a_report_never_replaces_the_video(clip_path: Path, tmp_path: Path) -> None:
    video = tmp_path / "v.html"
    video.write_bytes(clip_path.read_bytes())
    with pytest.raises(UsageError, match="is the input"):
        write_report(video, [(_run(), Video(video))])
    assert video.read_bytes() == clip_path.read_bytes()
    with pytest.raises(UsageError, match=r"\.html or \.md"):
        write_report(tmp_path / "r.pdf", [])


def test_the_pictures_of_a_span_are_inside_it() -> None:
    assert still_times(463.0, 470.0) == pytest.approx([463.0, 466.45, 469.9])
    assert still_times(2.0, 2.6) == pytest.approx([2.3])
