"""One session behind every command: with the nano model, on the demo's clips."""

from __future__ import annotations

import gc
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Barrier
from threading import Event as ThreadEvent
from typing import Any, TypeVar

import av
import numpy as np
import pytest
from psutil import Process

import sage_cli
from sage_cli.agent.events import Answer, Event, Notice
from sage_cli.assets import CLIPS
from sage_cli.assets import NANO as NANO_MODEL
from sage_cli.errors import ModelError, UsageError, VideoError
from sage_cli.session import Options, open_session
from sage_cli.session.models import require_network
from sage_cli.store import NotInstalledError
from tests.media import make_video, with_broken_packets
from tests.models.tiny_whisper import write_whisper

T = TypeVar("T")

NANO: dict[str, Any] = {"model": "nano", "threads": 1}
SHORT, SPOKEN = CLIPS / "short.mp4", CLIPS / "speech.mp4"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SAGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


def answer(events: Iterable[Event]) -> Answer:
    *_, last = events
    assert isinstance(last, Answer)
    return last


def test_damage_is_told_by_every_run(tmp_path: Path) -> None:
    """Also by those that find all frames, the transcript and the summary in the cache."""
    path = with_broken_packets(SPOKEN, tmp_path / "damaged.mp4")
    told = []
    for _ in range(2):
        with open_session(**NANO) as session:
            for _ in session.parts(video := session.video(path), session.converted(video)):
                pass
            told.append(session.video(path).damage)
        with open_session(**NANO) as session:
            events = session.ask(path, "Which number is spoken?")
            told.append("; ".join(event.text for event in events if isinstance(event, Notice) and "damaged" in event.text))
    assert "some of the sound" in told[0]
    assert "some of the picture" not in told[0]  # it was not looked at yet
    assert set(told[1].split("; ")) == set(told[2].split("; ")) == set(told[3].split("; "))
    assert len(told[1].split("; ")) == 2


def test_one_line_of_python() -> None:
    assert sage_cli.ask(SPOKEN, "Which number is spoken?", **NANO).answer == "The number is seven."
    assert [segment.text for segment in sage_cli.transcribe(str(SPOKEN), speech_model="nano", threads=1)][-1] == "Welcome to Vienna."


@pytest.mark.parametrize("events", [1, 2, 100])
def test_a_session_that_is_dropped_frees_its_model(events: int) -> None:
    """In the midst of a run, too."""
    session = open_session(**NANO)
    model, run = session.model, session.ask(SHORT, "Which shape appears first?")
    for _ in zip(range(events), run, strict=False):
        pass
    del session, run
    gc.collect()
    with pytest.raises(ModelError, match="the model is closed"):
        model.count_tokens([])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_a_fork_that_drops_a_session_leaves_it_to_its_parent() -> None:
    code = """
import gc, os, sage_cli
session = sage_cli.open_session(model="nano", threads=1)
folder = session._scratch
if (child := os.fork()) == 0:
    del session
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)
print(folder.is_dir())
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_importing_loads_nothing() -> None:
    program = "import sage_cli, sys; print(sorted(name for name in sys.modules if name.startswith('sage_cli.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "['sage_cli.hardware', 'sage_cli.hardware.openmp', 'sage_cli.version']\n"


def test_questions_share_models_videos_and_frames() -> None:
    with open_session(**NANO) as session:
        first = answer(session.ask(SHORT, "Which shape appears last?"))
        second = answer(session.ask(SHORT, "Which shape appears first?"))
        assert (first.answer, second.answer) == ("A red star appears last.", "A blue circle appears first.")
        assert first.usage.images_reused == 0 < second.usage.images_reused
        assert session.agent(session.video(SHORT)) is session.agent(session.video(str(SHORT)))


def test_damage_is_told_with_each_answer_and_once_in_a_conversation(tmp_path: Path) -> None:
    data = make_video(tmp_path / "cut.mkv", seconds=8, size=(64, 48)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    told = []
    with open_session(**NANO, tools=False) as session:
        for earlier in ([], [], [("Which shape appears last?", "A red star.")]):
            events = session.ask(tmp_path / "cut.mkv", "Which shape appears first?", earlier=earlier)
            told.append([event.text for event in events if isinstance(event, Notice) and "cut short" in event.text])
    assert [len(texts) for texts in told] == [1, 1, 0]


def in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


@pytest.mark.parametrize("kind", ["ask", "transcribe"])
def test_a_second_thread_is_refused_while_a_run_is_unfinished(kind: str) -> None:
    with open_session(**NANO, cache_limit=0) as session:

        def run() -> Generator[Any]:
            return session.ask(SPOKEN, "Which number is spoken?") if kind == "ask" else session.transcribe(SPOKEN)

        first = run()
        next(first)
        with pytest.raises(UsageError, match="in use by another thread"):
            in_thread(lambda: list(run()))
        *_, last = in_thread(lambda: list(first))  # any thread may go on with a run
        assert "seven" in last.answer if kind == "ask" else last.text


def test_two_threads_at_once_end_neither_the_process_nor_both_runs() -> None:
    barrier = Barrier(2)

    def work(question: str) -> str:
        barrier.wait()
        try:
            return str(answer(session.ask(SHORT, question)).answer)
        except UsageError:
            return "refused"

    with open_session(**NANO, cache_limit=0) as session, ThreadPoolExecutor(2) as threads:
        answers = set(threads.map(work, ["Which shape appears first?", "Which shape appears last?"]))
    assert answers & {"A blue circle appears first.", "A red star appears last."}


def test_a_run_that_its_session_ended_says_so() -> None:
    session = open_session(**NANO)
    begun, not_begun, done = (session.ask(SHORT, "Which shape appears last?") for _ in range(3))
    next(begun)
    assert [*done][-1].type == "answer"
    session.close()
    for run in (begun, not_begun):
        for _ in range(2):
            with pytest.raises(UsageError, match="session was closed"):
                next(run)
        run.close()
    assert [*done] == []


def test_a_session_in_use_is_not_closed() -> None:
    began, ended = ThreadEvent(), ThreadEvent()

    def work() -> Generator[int]:
        began.set()
        ended.wait()
        yield 1

    session = open_session(**NANO)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(list, session._turns.run(work()))
        began.wait()
        with pytest.raises(UsageError, match="still uses this session"):
            session.close()
        ended.set()
        assert running.result() == [1]
    session.close()


def test_a_replaced_video_and_new_subtitles_are_read_again(tmp_path: Path) -> None:
    """As a server's session must that lives for weeks."""
    path, new = tmp_path / "v.mp4", tmp_path / "new.mp4"
    shutil.copy(SHORT, path)
    shutil.copy(SPOKEN, new)
    with open_session(**NANO) as session:
        first = session.video(path)
        agent = session.agent(first)
        assert session.video(path) is first
        new.replace(path)
        second = session.video(path)
        assert (second.id, session.agent(second) is agent) == (session.video(SPOKEN).id, False)
        for said in ("Four.", "Five."):
            path.with_suffix(".srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n")
            agent = session.agent(session.video(path))
            assert agent.subtitles is not None
            assert [cue.text for cue in agent.subtitles.cues] == [said]
        path.unlink()
        with pytest.raises(VideoError, match="does not exist"):
            session.video(path)


def test_equal_videos_keep_their_own_names_and_subtitles(tmp_path: Path) -> None:
    with open_session(**NANO) as session:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            shutil.copy(SHORT, tmp_path / name / "talk.mp4")
            (tmp_path / name / "talk.srt").write_text(f"1\n00:00:01,000 --> 00:00:02,000\nThis is {name}.\n")
        videos = [session.video(tmp_path / name / "talk.mp4") for name in ("one", "two")]
        assert videos[0].id == videos[1].id
        assert [session.agent(video).video for video in videos] == videos
        assert [[one.text for part in session.parts(video, session.subtitles(video)) for one in part.segments] for video in videos] == [
            ["This is one."],
            ["This is two."],
        ]


def test_a_broken_speech_model_is_no_answer(tmp_path: Path) -> None:
    broken = tmp_path / "ggml-tiny.bin"
    broken.write_bytes(NANO_MODEL.speech.read_bytes()[:100_000])
    with open_session(**NANO, speech_model=str(broken)) as session, pytest.raises(ModelError, match="broken or cut short"):
        answer(session.ask(SPOKEN, "Which number is spoken?"))


@pytest.mark.parametrize("name", [b"caf\xe9", "\N{CJK UNIFIED IDEOGRAPH-6F22}".encode() * 20], ids=["no unicode", "long"])
def test_names_that_a_model_could_stumble_over(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".mp4"))
    shutil.copy(SHORT, path)
    with open_session(**NANO) as session:
        assert answer(session.ask(path, "Which shape appears last?")).answer == "A red star appears last."


def test_a_run_ends_before_the_model_it_uses() -> None:
    with open_session(**NANO) as session:
        run = session.ask(SHORT, "Which shape appears last?")
        assert any(event.type == "text_delta" for event in run)  # somewhere in a reply
    with pytest.raises(UsageError, match="session was closed"):
        next(run)
    session.close()
    assert answer(session.ask(SHORT, "Which shape appears last?")).answer == "A red star appears last."  # loaded anew
    session.close()


def test_web_pages_without_a_cache_go_with_the_session() -> None:
    session = open_session(**NANO, web="on", cache_limit=0)
    before = session.allowed_tools
    session.close()
    assert session.allowed_tools != before  # those keep pages in a folder that is gone, and would make it again
    session.close()


def test_a_cache_limit_of_0_writes_nothing(home: Path) -> None:
    with open_session(**NANO, cache_limit=0) as session:
        assert answer(session.ask(SPOKEN, "Which number is spoken?")).answer == "The number is seven."
        assert list(session.transcribe(SPOKEN))
    assert not (home / "cache").exists()


def test_transcribing_loads_no_vision_model() -> None:
    with open_session(speech_model="nano") as session:
        assert next(iter(session.transcribe(SPOKEN, start=9, end=12))).text == "The secret number is seven."
        assert "model" not in vars(session)


def test_the_path_is_looked_at_before_the_model() -> None:
    with open_session() as session:
        with pytest.raises(VideoError, match=r"nonesuch\.mp4"):
            list(session.ask("nonesuch.mp4", "What?"))
        with pytest.raises(ModelError, match="no model"):
            list(session.ask(SHORT, "What?"))
        with pytest.raises(UsageError, match="question is empty"):
            list(session.ask(SHORT, " "))


def test_a_missing_model_is_offered_unless_offline() -> None:
    offered: list[NotInstalledError] = []

    def offer(missing: NotInstalledError) -> str:
        offered.append(missing)
        return "nano"

    with open_session(offer=offer, threads=1) as session:
        assert session.files.bundled
    assert len(offered) == 1
    with open_session(offer=offer, offline=True) as session, pytest.raises(NotInstalledError):
        _ = session.files
    assert len(offered) == 1


def test_tools_follow_the_options() -> None:
    def names(**options: Any) -> set[str]:
        with open_session(**NANO, **options) as session:
            return {tool.name for tool in session.agent(session.video(SPOKEN)).tools}

    everything = names()
    assert "transcribe-speech" in everything
    assert names(tools=False) == names(direct=True) == set()
    assert names(no_tool=["ground-event"]) == everything - {"ground-event"}
    assert names(web="on") == everything | {"web-search", "parse-website"}
    with pytest.raises(UsageError, match="no such tool"):
        names(no_tool=["telepathy"])
    with open_session(**NANO, tools=False) as session:  # "/tools on" in a conversation
        assert {tool.name for tool in session.agent(session.video(SPOKEN), tools=True).tools} == everything


def test_names_in_errors_are_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open_session(**NANO) as session:
        for name in ("./e", "a/"):
            with pytest.raises(VideoError, match=r"^\w+ does not exist; check the path$"):
                session.video(name)


def test_offline_allows_no_connection() -> None:
    require_network(Options(), "the judge")
    with pytest.raises(UsageError, match=r"the judge needs a connection.*offline"):
        require_network(Options(offline=True), "the judge")


def test_a_pipe_can_be_asked_about(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(open({str(SHORT)!r}, 'rb').read())"])
    with open_session(**NANO) as session:
        assert answer(session.ask(pipe, "Which shape appears last?")).answer == "A red star appears last."
    assert writer.wait() == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows counts no file descriptors")
def test_many_videos_do_not_fill_the_process_with_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sage_cli.session.session._MOST_VIDEOS", 4)
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write(open({str(SHORT)!r}, 'rb').read())"])
    gc.collect()  # closes what earlier tests left
    before = Process().num_fds()
    with open_session(**NANO) as session:
        first = session.video(pipe)
        assert writer.wait() == 0
        for number in range(12):
            copy = tmp_path / f"{number}.mp4"
            shutil.copy(SHORT, copy)
            video = session.video(copy)
            assert len(list(video.frames([0.0, 1.0], (32, 32)))) == 2
            assert session.subtitles(video) is None
            assert session.video(copy) is video
        assert Process().num_fds() <= before + 4  # a database and its log
        assert len(session._videos) == len(session._subtitles) == 4
        assert session.video(pipe).id == first.id  # its copy is kept: a pipe cannot be read again
    assert Process().num_fds() <= before


def test_only_a_part_is_asked_about() -> None:
    with open_session(model="nano", start=1, end=100) as session:
        video = session.video(SHORT)
        assert session.span(video) == (1, video.duration)
        assert session.span(video, 2, 3) == (2, 3)
        assert session.span(video, "0:02", "3") == (2, 3)
        for wrong in ((3, 3), (-5, 3), (float("nan"), 3), (1, float("nan")), (1, "soon"), (1, [2])):
            with pytest.raises(UsageError, match=r"the start is not before the end|(start|end) cannot be .*: expected a time"):
                session.span(video, *wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"video": io.BytesIO()}, r"the video is a path or a link \(str or Path\), not BytesIO"),
        ({"video": None}, "not NoneType"),
        ({"video": b"a.mp4"}, "not bytes"),
        ({"video": np.zeros((9, 9))}, "not ndarray"),
        ({"video": "file:///a/b.mp4"}, "file:///a/b.mp4 is no link that sage can open"),
        ({"question": None}, "the question is text"),
        ({"question": ["Why?"]}, "the question is text"),
        ({"earlier": ["x"]}, "earlier is a list of pairs"),
        ({"earlier": [("x", None)]}, "earlier is a list of pairs"),
        ({"earlier": [(b"x", b"y")]}, "earlier is a list of pairs"),
        ({"earlier": [{"x", "y"}]}, "earlier is a list of pairs"),
        ({"tools": "no way"}, "tools cannot be 'no way': expected true or false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_of_a_wrong_type_are_told(wrong: dict[str, Any], said: str) -> None:
    with open_session(model="nano") as session, pytest.raises(UsageError, match=said):
        list(session.ask(**{"video": SHORT, "question": "Why?", **wrong}))


def test_sessions_with_and_without_caches_do_not_mind_each_other(home: Path) -> None:
    with open_session(**NANO, cache_limit=0) as nothing, open_session(**NANO) as everything:
        assert not nothing.video(SHORT).changed
        _ = nothing.transcriber
        assert not (home / "cache").exists()
        everything.video(SHORT)
        assert (home / "cache").exists()


def test_subtitles_that_are_asked_for_are_converted_whatever_answers_questions(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").write_bytes(SPOKEN.read_bytes())
    (tmp_path / "talk.srt").write_text("1\n00:00:01,000 --> 00:00:05,000\nHello there.\n")
    (tmp_path / "config.toml").write_text("subtitles = false\n")
    with open_session(source="subtitles") as session:
        assert session.subtitles(session.video(tmp_path / "talk.mp4")) is None
        assert [segment.text for segment in session.transcribe(tmp_path / "talk.mp4")] == ["Hello there."]


def test_subtitles_are_no_translation_unless_they_are_english(tmp_path: Path) -> None:
    shutil.copy(SPOKEN, video := tmp_path / "talk.mp4")
    text = "1\n00:00:01,000 --> 00:00:05,000\nHello there.\n"
    with open_session(source="auto", translate=True) as session:
        for suffix, kept in (".de.srt", False), (".srt", False), (".en.srt", True):
            (tmp_path / f"talk{suffix}").write_text(text)
            assert (session.converted(session.video(video)) is not None) == kept
    with open_session(source="subtitles", translate=True) as session, pytest.raises(UsageError, match="--translate is for speech"):
        list(session.transcribe(video))


def test_the_language_chooses_the_track(tmp_path: Path) -> None:
    path = tmp_path / "film.mka"
    with av.open(str(path), "w") as output:
        tracks: list[Any] = [output.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in range(3)]
        for track, language in zip(tracks, ("ger", "eng", "fra"), strict=True):
            track.metadata["language"] = language
        for track, value in zip(tracks, (4000, 8000, 16000), strict=True):
            sound = av.AudioFrame.from_ndarray(np.full((1, 32000), value, np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
            output.mux(track.encode(sound))
    many = str(write_whisper(tmp_path / "many.bin", multilingual=True))
    heard = {}
    for language, model in ("auto", many), ("auto", "nano"), ("de", many), ("en", many), ("fr", many), ("es", many):
        with open_session(language=language, speech_model=model) as session:
            video = session.video(path)
            assert session.language_trouble(video) == ""
        heard[language, model] = (round(float(video.audio(0.5, 1.5).mean()) * 32768, -2), video.sound_id == video.id)
    assert heard == {
        ("auto", many): (4000, True),
        ("auto", "nano"): (8000, False),  # it knows English only
        ("de", many): (4000, True),
        ("en", many): (8000, False),
        ("fr", many): (16000, False),
        ("es", many): (4000, True),
    }


def test_sound_in_a_language_that_the_speech_model_does_not_know_is_told(tmp_path: Path) -> None:
    path = tmp_path / "film.mka"
    with av.open(str(path), "w") as output:
        track = output.add_stream("pcm_s16le", rate=16000, layout="mono")
        track.metadata["language"] = "spa"
        sound = av.AudioFrame.from_ndarray(np.full((1, 32000), 4000, np.int16), format="s16", layout="mono")
        sound.sample_rate, sound.pts = 16000, 0
        output.mux(track.encode(sound))
    for language, told in (
        ("auto", "the sound is marked es, and ggml-sage-nano.bin knows English only: use a multilingual model"),
        ("en", ""),
    ):
        with open_session(language=language, speech_model="nano") as session:
            assert session.language_trouble(session.video(path)) == told
