"""Chapters and summaries of videos whose scenes are known."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chapters import make_world, measure, score, write_world
from sage_cli.assets import CLIPS, NANO
from sage_cli.errors import NoReplyError, VideoError
from sage_cli.model.base import Prompt, Text
from sage_cli.model.llama import LlamaModel
from sage_cli.session import open_session
from sage_cli.session.summary import Stage, Summary, _identity, _titled, summarize
from sage_cli.tools import complete
from sage_cli.tools.workspace import Workspace
from sage_cli.video import Video
from tests.media import make_audio, tone
from tests.openai_server import Served, serve

NANO_OPTIONS: dict[str, Any] = {"model": "nano", "threads": 1}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))


def test_chapters_begin_where_the_scenes_do(tmp_path: Path) -> None:
    """``benchmarks/chapters.py`` in small."""
    world = make_world(0.08, 1)
    write_world(world, tmp_path / "world.mp4", 1, pictures=True, words=True)
    found, there, extra = score(world, measure(tmp_path / "world.mp4")["starts"])
    assert (found, extra) == (there, 0)
    assert there >= 1


def test_the_second_time_comes_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Workspace.ask

    def answered(self: Workspace, prompt: Prompt, **more: Any) -> Any:  # by words: nano cannot write summaries
        return replace((yield from ask(self, prompt, **more)), text='{"title": "Shapes", "summary": "Some shapes."}')

    monkeypatch.setattr(Workspace, "ask", answered)
    with open_session(**NANO_OPTIONS) as session:
        first = complete(summarize(session, session.video(CLIPS / "long.mp4")))
    assert isinstance(first, Summary)
    assert first.chapters[0].start == 0.0
    assert all(one.end == other.start for one, other in zip(first.chapters, first.chapters[1:], strict=False))
    with open_session(**NANO_OPTIONS) as session:
        assert complete(summarize(session, session.video(CLIPS / "long.mp4"))) == first
        assert "model" not in vars(session)
        part = complete(summarize(session, session.video(CLIPS / "long.mp4"), end=60.0))
    assert part.chapters[-1].end == 60.0


def test_a_title_that_was_not_found_is_the_file_s_name_of_today(tmp_path: Path) -> None:
    names = ("a/talk.mp4", "-", "https://a.example/watch?v=1")
    titles = [_titled(Summary("", "All.", ()), Video(CLIPS / "short.mp4", name=name)).title for name in names]
    assert titles == ["talk", "stdin", "watch_v_1"]


def test_prompts_that_were_edited_are_asked_again(tmp_path: Path) -> None:
    (tmp_path / "chapter.txt").write_text("Describe <<<told>>>")

    def identity() -> str:
        with open_session(**NANO_OPTIONS, prompts=str(tmp_path)) as session:
            return _identity(session, [], 0.0, 1.0)

    first = identity()
    assert identity() == first
    (tmp_path / "chapter.txt").write_text("Tell of <<<told>>>")
    assert identity() != first


def test_another_served_model_writes_another_summary() -> None:
    """The address stays the same when a server is restarted with another model."""

    def identity(server: Served) -> str:
        with open_session(model=server.url) as session:
            return _identity(session, [], 0.0, 1.0)

    with serve(Served()) as server:
        first = identity(server)
        assert identity(server) == first
        server.models = ({"id": "another", "max_model_len": 8192},)
        assert identity(server) != first


def test_a_part_begins_within_a_sentence_and_sampling_is_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "cue.mp4"
    shutil.copy(CLIPS / "short.mp4", path)
    cues = ((0, 2, "Before."), (2, 8, "The treasure is under the oak."), (8, 9, "After."))
    path.with_suffix(".srt").write_text("".join(f"1\n00:00:0{one},000 --> 00:00:0{two},000\n{said}\n\n" for one, two, said in cues))
    with serve(Served(text='{"title": "Oak", "summary": "A treasure."}')) as server:
        with open_session(model=server.url, frames=2, temperature=0.5, seed=7) as session:
            found = complete(summarize(session, session.video(path), start=4.0, end=8.0))
        assert [(chapter.start, chapter.end, chapter.title) for chapter in found.chapters] == [(4.0, 8.0, "Oak")]
        (asked,) = server.requests
    assert (asked["temperature"], asked["seed"]) == (0.5, 7)
    told = asked["messages"][-1]["content"][-1]["text"]
    assert "[00:00:04] The treasure is under the oak." in told
    assert "Before" not in told
    assert "After" not in told


UNREADABLE = (
    ('{"video_context": "Shapes."}', "holds no summary"),
    ('{"title": "", "summary": "..."}', "holds no summary"),
    ('{"title": ": null, ", "summary": ": null, "}', "holds no summary"),
    ('{"title": "A", "summary": "04:04:04:0"}', "holds no summary"),
    ("", "is empty"),
    ("<think>What is it?", "is empty"),
)


@pytest.mark.parametrize(("text", "problem"), UNREADABLE, ids=["other keys", "dots", "scraps", "numbers", "empty", "only thoughts"])
def test_a_reply_without_a_summary_is_none(text: str, problem: str) -> None:
    """It is asked for once more, told, and never kept."""
    with serve(Served(text=text)) as server:
        for requests in (2, 4):
            with (
                open_session(model=server.url, frames=2) as session,
                pytest.raises(NoReplyError, match=f"could not be summarized: .* {problem}"),
            ):
                complete(summarize(session, session.video(CLIPS / "short.mp4")))
            assert [request["seed"] for request in server.requests] == [0, 1] * (requests // 2)
        server.text = "Shapes in many colours, one after another."
        with open_session(model=server.url, frames=2) as session:
            made = complete(summarize(session, session.video(CLIPS / "short.mp4")))
    assert (made.chapters[0].summary, made.notices) == (server.text, ())


def test_a_chapter_without_a_summary_is_told_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ask, unusable = Workspace.ask, ["part of a video from 00:00:00"]

    def some(self: Workspace, prompt: Prompt, **more: Any) -> Any:
        reply = yield from ask(self, prompt, **more)
        said = "".join(part.text for message in prompt for part in message.parts if isinstance(part, Text))
        return replace(reply, text="") if any(word in said for word in unusable) else reply

    monkeypatch.setattr(Workspace, "ask", some)
    with serve(Served(text='{"title": "Shapes", "summary": "Some shapes."}')) as server:
        for notices in (1, 1, 0):
            unusable = unusable if notices else []
            with open_session(model=server.url, frames=2) as session:
                made = complete(summarize(session, session.video(CLIPS / "long.mp4")))
            assert (made.summary, made.chapters[1].summary) == ("Some shapes.", "Some shapes.")
            assert (made.chapters[0].summary == "", len(made.notices)) == (notices == 1, notices)
            assert all("00:00:00-" in notice and "has no summary: the model's reply is empty" in notice for notice in made.notices)
        chapters = len(made.chapters)
        assert len(server.requests) == chapters + 1 + 1 + 2 + 2  # the whole, again with all chapters, and twice in vain


def test_a_summary_of_prompts_that_were_cut_is_told_and_not_kept(tmp_path: Path) -> None:
    """The server tells it with its first reply; what it writes later is from a part, too."""
    video = tmp_path / "long.mp4"
    shutil.copy(CLIPS / "long.mp4", video)
    words = "He tells of the oak, the fox and the treasure under the hill. " * 20
    times = ((f"00:{second // 60:02}:{second % 60:02}", f"00:{second // 60:02}:{second % 60 + 9:02}") for second in range(0, 600, 30))
    video.with_suffix(".srt").write_text("".join(f"1\n{one},000 --> {two},000\n{words}\n\n" for one, two in times))
    models = ({"id": "served", "max_model_len": 200_000},)
    served = Served(text='{"title": "Oak", "summary": "A treasure."}', models=models, prompt_tokens=1100)
    with serve(served) as server:
        runs = []
        for _ in range(2):
            with open_session(model=server.url, frames=2) as session:
                made = complete(summarize(session, session.video(video)))
                again = complete(summarize(session, session.video(video)))  # the advice was told, but this is no better
            assert made.summary == "A treasure."
            assert len(made.notices) == 1
            assert "it says that it read 1100 tokens" in made.notices[0]
            assert again.notices == ("the server read only a part of the prompts",)
            runs.append(len(server.requests))
        server.prompt_tokens = 0
        with open_session(model=server.url, frames=2) as session:
            assert complete(summarize(session, session.video(video))).notices == ()
        runs.append(len(server.requests))
    assert runs[:2] == [runs[0], runs[0] * 2]
    assert runs[2] == runs[0] * 5 // 2
    assert runs[0] > 4


def test_a_reply_that_was_cut_off_is_told_and_not_kept() -> None:
    with serve(Served(text='{"summary": "Shapes in many", "title": "Shapes"}', finish="length")) as server:
        for requests in (1, 2):
            with open_session(model=server.url, frames=2) as session:
                made = complete(summarize(session, session.video(CLIPS / "short.mp4")))
            assert made.summary == "Shapes in many"
            assert ["reply was cut off" in notice for notice in made.notices] == [True]
            assert len(server.requests) == requests


def test_an_interrupted_summary_goes_on_and_answers_obey_a_schema() -> None:
    about = {"type": "string", "maxLength": 9}
    shape = json.dumps({"type": "object", "properties": {"about": about}, "required": ["about"], "additionalProperties": False})
    with LlamaModel(NANO.text, NANO.mmproj, context_size=8192, threads=1) as model, serve(Served(model)) as server:
        options: dict[str, Any] = {"model": server.url, "prompts": "nano", "frames": 4, "schema": shape}
        with open_session(**options) as session:
            steps = summarize(session, session.video(CLIPS / "long.mp4"))
            chapters = next(int(step.total) for step in steps if isinstance(step, Stage) and step.name == "chapters" and step.done == 1)
            steps.close()
        assert chapters >= 2
        assert len(server.requests) == 1
        with open_session(**options) as session:
            summary = complete(summarize(session, session.video(CLIPS / "long.mp4")))
        assert len(server.requests) == chapters + 2  # the rest of the chapters, the whole, the schema
    assert set(summary.value) == {"about"}


def test_a_small_context_is_never_exceeded(tmp_path: Path) -> None:
    """More words in a chapter than the context holds."""
    lines = (
        f"{n}\n00:0{n // 20}:{n * 3 % 60:02},000 --> 00:0{n // 20}:{n * 3 % 60 + 2:02},000\nThe word number {n}.\n" for n in range(1, 150)
    )
    (tmp_path / "long.mp4").write_bytes((CLIPS / "long.mp4").read_bytes())
    (tmp_path / "long.srt").write_text("\n".join(lines))
    with open_session(**NANO_OPTIONS, ctx_size=1536) as session:
        summary = complete(summarize(session, session.video(tmp_path / "long.mp4"), end=150.0))
    assert summary.chapters[-1].end == pytest.approx(150.0, abs=1.0)


def test_a_recording_of_sound_is_summarized_by_its_words(tmp_path: Path) -> None:
    path = make_audio(tmp_path / "talk.wav", tone(30.0))
    with LlamaModel(NANO.text, NANO.mmproj, context_size=8192, threads=1) as model, serve(Served(model)) as server:
        options: dict[str, Any] = {"model": server.url, "prompts": "sage-mm", "cache_limit": 0}
        (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\nThe secret number is seven.\n")
        with open_session(**options) as session:
            made = complete(summarize(session, session.video(path)))
        assert [(chapter.start, round(chapter.end)) for chapter in made.chapters] == [(0.0, 30)]
        asked = json.dumps(server.requests[0])
        assert "part of a recording from" in asked
        assert "The secret number is seven." in asked
        (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\n[Music]\n")
        with open_session(**options, speech_model=str(NANO.speech)) as session, pytest.raises(VideoError, match="nothing is said"):
            complete(summarize(session, session.video(path)))
