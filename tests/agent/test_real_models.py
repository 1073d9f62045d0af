"""The whole path on real models and real files. The models are untrained; what they say is noise, but it has to be proper noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz import FRAME_TOKENS, fuzz
from sage_cli.agent import Agent, Event, Settings
from sage_cli.agent.events import Answer, FramesSampled, NoAnswer, StepFinished, ToolFinished, Working
from sage_cli.model.base import Usage
from sage_cli.model.batches import ON_CPU
from sage_cli.model.llama import LlamaModel
from sage_cli.prompts import PACKS
from sage_cli.video import Video
from tests.media import make_video
from tests.models import TinyModel, write_qwen3_vl


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return write_qwen3_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(files: TinyModel) -> Iterator[LlamaModel]:
    with LlamaModel(files.text, files.mmproj, context_size=8192, threads=1) as model:
        yield model


def settings(seed: int = 0, temperature: float = 1.0) -> Settings:
    return Settings(frames=8, frame_tokens=FRAME_TOKENS, max_steps=3, reply_tokens=500, temperature=temperature, seed=seed)


@pytest.mark.parametrize(
    ("name", "video", "audio"),
    [("a.mp4", "libx264", "aac"), ("b.webm", "libvpx-vp9", "libopus"), ("c.mkv", "libx265", "aac"), ("d.avi", "mpeg4", "mp3")],
)
def test_every_common_kind_of_file_goes_from_start_to_end(model: LlamaModel, tmp_path: Path, name: str, video: str, audio: str) -> None:
    path = make_video(tmp_path / name, seconds=6, fps=10, size=(96, 64), codec=video, audio="tone", audio_codec=audio)
    events = list(Agent(model, Video(path), settings=settings()).run("What happens?"))
    assert isinstance(events[-1], Answer | NoAnswer)
    (sampled,) = (event for event in events if isinstance(event, FramesSampled))
    assert len(sampled.times) == 8
    assert sampled.times[0] == 0.0
    assert 5.5 < sampled.times[-1] <= 6.0


def test_nothing_is_prefilled_or_encoded_twice(files: TinyModel, video: Video) -> None:
    """Over a run of several steps, what a step prefills is what no earlier step left in the cache."""
    for seed in range(20):
        with LlamaModel(files.text, files.mmproj, context_size=8192, threads=1) as model:
            events = list(Agent(model, video, settings=settings(seed)).run("Why?"))
            assert model._vision is not None
            different = len(model._vision._memory)
        finished = [event for event in events if isinstance(event, StepFinished)]
        begun = {event.step: event.usage for event in reversed(finished)}  # without replies that were asked for again
        if len(begun) >= 3:
            break
    first, _, *later = (begun[step] for step in sorted(begun))
    assert later
    assert (first.prompt_reused, first.images, first.images_reused) == (0, 4, 0)
    for step in later:
        # The system prompt is shared with the step before it, up to a whole chunk.
        assert step.prompt_reused > 0
        assert step.prompt_reused % ON_CPU.text == 0
    assert sum(usage.images - usage.images_reused for usage in [*steps(events), *tools(events)]) == different


def test_the_second_question_starts_where_the_first_ended(model: LlamaModel, video: Video) -> None:
    agent = Agent(model, video, settings=settings())
    steps(list(agent.run("What is it?")))
    usage = steps(list(agent.run("Who is it, and why?")))[0]
    assert usage.images_reused == usage.images == 4
    assert usage.prompt_tokens - usage.prompt_reused < 100


def test_a_run_is_the_same_with_and_without_caches(files: TinyModel, video: Video) -> None:
    """Greedy, to the last token; without flash attention, whose rounding depends on what else the cache holds."""
    answers = []
    for reuse in (True, False):
        exact = {"kv_type": "f32", "flash_attention": False, "reuse": reuse}
        with LlamaModel(files.text, files.mmproj, context_size=8192, threads=1, **exact) as model:  # type: ignore[arg-type]
            agent = Agent(model, video, settings=settings(temperature=0.0))
            events = [event for question in ("What is it?", "And where?") for event in agent.run(question)]
        told = [event for event in events if not isinstance(event, Working)]
        answers.append([(event.type, getattr(event, "text", None) or getattr(event, "arguments", None)) for event in told])
    assert answers[0] == answers[1]


def test_an_untrained_model_finds_no_hole(tmp_path: Path) -> None:
    findings = fuzz(8, tmp_path)
    assert findings.seen["turns"] >= 8 * len(PACKS)
    assert not +findings.violations


def steps(events: list[Event]) -> list[Usage]:
    return [event.usage for event in events if isinstance(event, StepFinished)]


def tools(events: list[Event]) -> list[Usage]:
    return [event.usage for event in events if isinstance(event, ToolFinished)]
