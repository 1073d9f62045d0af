"""What a run leaves on disk serves a later one, if it is the same that is asked about, and changes no answer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sage_cli.agent import Agent, Settings
from sage_cli.agent.events import FramesSampled, StepFinished, TextDelta
from sage_cli.model.disk import ModelCache
from sage_cli.model.llama import LlamaModel
from sage_cli.video import FrameTimeCache, Video
from tests.media import make_video
from tests.models import TinyModel, write_qwen3_vl


@dataclass(frozen=True)
class Seen:
    """What came of a question, and what of it was there already.

    Attributes:
        said: all texts of the model.
    """

    said: str
    method: str
    prefix: bool
    images: int
    images_reused: int


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_qwen3_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_video(tmp_path / "day.mp4", seconds=8, fps=10, size=(96, 64))


@pytest.fixture
def later(tmp_path: Path, files: TinyModel) -> Callable[..., Seen]:
    """Asks as a new process would; the first time, there is nothing to be found."""

    def ask(
        path: Path,
        question: str,
        model: TinyModel = files,
        *,
        tokens: int = 6,
        cached: bool = True,
        opened: Callable[[], None] = lambda: None,
    ) -> Seen:
        folder = tmp_path / "cache"
        video = Video(path, cache=FrameTimeCache(folder / "times") if cached else None)
        cache = ModelCache(folder, everything=True) if cached else None
        settings = Settings(frames=8, frame_tokens=tokens, max_steps=1, reply_tokens=120)
        opened()
        # f32 and no flash attention: what else the KV cache holds must not move a logit.
        with LlamaModel(
            model.text, model.mmproj, context_size=2048, threads=1, kv_type="f32", flash_attention=False, cache=cache
        ) as loaded:
            events = list(Agent(loaded, video, tools=[], settings=settings).run(question))
        if cache is not None:
            cache.embeddings.flush()
        (sampled,) = (event for event in events if isinstance(event, FramesSampled))
        usage = next(event.usage for event in events if isinstance(event, StepFinished))
        said = "".join(event.text for event in events if isinstance(event, TextDelta))
        return Seen(said, sampled.method, usage.prompt_reused > usage.prompt_tokens // 2, usage.images, usage.images_reused)

    return ask


def test_a_second_question_needs_no_frame_of_the_video(later: Callable[..., Seen], path: Path) -> None:
    cold = later(path, "And who is it?", cached=False)
    first = later(path, "What is it?")
    assert (first.prefix, first.images, first.images_reused) == (False, 4, 0)
    # No frame can be decoded from here on: the file is gone.
    warm = later(path, "And who is it?", opened=path.unlink)
    assert warm == Seen(cold.said, "cached", True, 4, 4)
    assert cold.said


def test_the_video_may_have_another_name(later: Callable[..., Seen], path: Path) -> None:
    later(path, "What is it?")
    moved = path.with_name("another.mp4")
    moved.write_bytes(path.read_bytes())
    cold = later(moved, "And who is it?", cached=False)
    assert later(moved, "And who is it?") == Seen(cold.said, "cached", True, 4, 4)


def test_another_video_under_the_same_name_is_another(later: Callable[..., Seen], path: Path) -> None:
    first = later(path, "What is it?")
    # An edit: the same pictures a little longer.
    make_video(path, seconds=8.2, fps=10, size=(96, 64))
    edited = later(path, "What is it?")
    assert (edited.method, edited.prefix, edited.images_reused) == (first.method, False, 0)
    assert edited.said == later(path, "What is it?", cached=False).said


def test_another_size_of_frames_is_encoded_anew(later: Callable[..., Seen], path: Path) -> None:
    later(path, "What is it?")
    small = later(path, "What is it?", tokens=2)
    assert (small.prefix, small.images_reused) == (False, 0)
    assert small.said == later(path, "What is it?", tokens=2, cached=False).said


def test_another_vision_encoder_finds_nothing(later: Callable[..., Seen], path: Path, files: TinyModel, tmp_path: Path) -> None:
    later(path, "What is it?")
    other = TinyModel(files.text, write_qwen3_vl(tmp_path / "other", seed=7).mmproj)
    found = later(path, "What is it?", other)
    assert (found.prefix, found.images_reused) == (False, 0)
    assert found.said == later(path, "What is it?", other, cached=False).said


def test_another_language_model_reads_the_video_itself(later: Callable[..., Seen], path: Path, files: TinyModel, tmp_path: Path) -> None:
    """What the vision encoder made does not depend on it."""
    later(path, "What is it?")
    other = TinyModel(write_qwen3_vl(tmp_path / "other", seed=7).text, files.mmproj)
    found = later(path, "What is it?", other)
    assert (found.prefix, found.images, found.images_reused) == (False, 4, 4)
    assert found.said == later(path, "What is it?", other, cached=False).said


def test_frames_are_decoded_when_their_embeddings_are_gone(later: Callable[..., Seen], path: Path, tmp_path: Path) -> None:
    first = later(path, "What is it?")
    for kind in "embeddings", "prefixes":
        shutil.rmtree(tmp_path / "cache" / kind)
    assert later(path, "What is it?") == Seen(first.said, "cached", False, 4, 0)
