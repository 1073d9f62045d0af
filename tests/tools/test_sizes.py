"""Sizes of frames. Golden values are those of the reference's ``smart_resize`` under its own limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sage_cli.errors import UsageError
from sage_cli.model.base import Frames, Prompt, Text, bounded_frame_size
from sage_cli.prompts import Prompts
from sage_cli.tools import Analyze, GroundEvent, Workspace, complete
from sage_cli.tools.analyze import AnalyzeArguments
from sage_cli.tools.ground_event import GroundEventArguments
from sage_cli.tools.sizes import FrameSize, FrameSizes, Size
from sage_cli.video import Video
from tests.agent.scripted import ScriptedModel
from tests.media import make_video

UNITS = {"qwen3-vl": 32, "qwen2.5-vl": 28}
PLENTY = 1_000_000


class SizingModel(ScriptedModel):
    """Sizes frames and counts their tokens as a family of models does."""

    def __init__(self, *replies: Any, family: str = "qwen3-vl", context_size: int = PLENTY) -> None:
        super().__init__(*replies, context_size=context_size)
        self.info = replace(self.info, family=family)
        self.unit = UNITS[family]

    def frame_size(self, width: int, height: int, max_tokens: int | None = None, pixels: tuple[int, int] | None = None) -> Size:
        return bounded_frame_size(width, height, self.unit, max_tokens, pixels)

    def count_tokens(self, prompt: Prompt) -> int:
        parts = [part for message in prompt for part in message.parts]
        shown = [part for part in parts if isinstance(part, Frames) and part.frames]
        slices = [(-(-len(part.frames) // (1 + part.pairs)), part.frames[0]) for part in shown]
        images = sum(count * frame.width * frame.height // self.unit**2 for count, frame in slices)
        return images + sum(len(part.text) // 4 for part in parts if isinstance(part, Text))


def sizes(source: Size, pack: str, family: str, kind: FrameSize = "reference", frames: int = 128, tokens: int | None = None) -> FrameSizes:
    style = Prompts(pack).style.of_frames(family)
    return FrameSizes(SizingModel(family=family), source, style, kind=kind, frames=frames, tokens=tokens)


def always(size: Size) -> bool:
    return True


@pytest.mark.parametrize(
    ("family", "kind", "source", "first", "still"),
    [
        ("qwen3-vl", "reference", (1280, 720), (416, 224), (512, 288)),
        ("qwen3-vl", "reference", (1920, 1080), (416, 224), (512, 288)),
        ("qwen3-vl", "reference", (640, 480), (352, 256), (448, 320)),
        ("qwen3-vl", "reference", (320, 240), (384, 288), (384, 288)),
        ("qwen3-vl", "paper", (1280, 720), (512, 288), (512, 288)),
        ("qwen2.5-vl", "reference", (1280, 720), (252, 140), (1288, 728)),
        ("qwen2.5-vl", "reference", (720, 1280), (140, 252), (728, 1288)),
        ("qwen2.5-vl", "reference", (640, 360), (252, 140), (644, 364)),
        ("qwen2.5-vl", "reference", (160, 120), (168, 112), (168, 112)),
        ("qwen2.5-vl", "paper", (1280, 720), (504, 280), (1288, 728)),
    ],
)
def test_trained_models_see_frames_as_in_training(family: str, kind: FrameSize, source: Size, first: Size, still: Size) -> None:
    """Windows and clips as the first look, at any length; stills up to 150,528 pixels or in their own size."""
    found = sizes(source, "sage-mm", family, kind)
    assert found.first == first
    assert {found.clip(count, always) for count in (1, 20, 128)} == {first}
    assert {found.still(count) for count in (1, 10, 20)} == {still}


def test_qwen2_5_stills_get_smaller_before_any_is_left_out() -> None:
    found = sizes((1280, 720), "sage-mm", "qwen2.5-vl")
    assert found.still(10, lambda size: size[0] * size[1] <= 500_000) == (924, 504)
    assert found.still(10, lambda size: False) == (504, 280)  # the paper's size: fewer of these are shown
    assert sizes((1280, 720), "sage-mm", "qwen3-vl").still(10, lambda size: False) == (512, 288)


@pytest.mark.parametrize(
    ("frames", "stills"),
    [
        (128, {1: (1280, 704), 2: (1280, 704), 6: (1280, 704), 10: (1024, 576), 20: (704, 384)}),
        (16, {1: (1280, 704), 2: (960, 512), 6: (544, 288), 10: (512, 288)}),
    ],
)
def test_general_models_see_few_stills_large(frames: int, stills: dict[int, Size]) -> None:
    """Together they cost as much as the first look may, or as one still of the largest size; never less than in training."""
    found = sizes((1280, 720), "general", "qwen3-vl", frames=frames)
    assert {count: found.still(count) for count in stills} == stills


def test_general_models_see_short_clips_large() -> None:
    found = sizes((1280, 720), "general", "qwen3-vl")
    assert [found.clip(count, always) for count in (2, 12, 40, 128)] == [(1280, 704), (1280, 704), (704, 384), (512, 288)]


def test_nothing_is_larger_than_the_video_or_a_megapixel() -> None:
    assert sizes((640, 360), "general", "qwen3-vl").still(1) == (640, 352)
    assert sizes((3840, 2160), "general", "qwen3-vl").still(1) == (1344, 768)
    assert sizes((3840, 2160), "general", "qwen2.5-vl").still(1) == (1344, 756)


@pytest.mark.parametrize("pack", ["sage-mm", "general", "nano"])
@pytest.mark.parametrize("family", UNITS)
def test_frame_tokens_bound_every_size(pack: str, family: str) -> None:
    found = sizes((1280, 720), pack, family, tokens=64)
    every = {found.first, found.clip(2, always), found.clip(128, always), found.still(1), found.still(10)}
    assert every == {bounded_frame_size(1280, 720, UNITS[family], 64, None)}


def test_a_video_without_a_picture_has_no_size() -> None:
    assert sizes((0, 0), "general", "qwen3-vl").still(1) == (0, 0)


# ---- in the tools --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(make_video(tmp_path_factory.mktemp("video") / "slides.mp4", seconds=20, fps=2, size=(1280, 720)))


def shown(video: Video, pack: str, paths: list[str], context_size: int = PLENTY, **options: Any) -> Frames:
    """What a model is shown by ``analyze``; frames are named by their number among ten."""
    model = SizingModel("A title.", context_size=context_size)
    with Workspace(model, video, prompts=Prompts(pack), **options) as workspace:
        frames = [*video.frames([float(time) for time in range(10)], workspace.sizes.still(10))]
        names = workspace.add_frames(frames)
        names.append(workspace.add_clip(4.0, 8.0))
        complete(Analyze().run(AnalyzeArguments(query="What?", media_paths=[names[int(path)] for path in paths]), workspace))
    [frames_shown] = model.asked[0].frames
    return frames_shown


def size(frames: Frames) -> Size:
    return frames.frames[0].width, frames.frames[0].height


def test_one_of_ten_frames_is_decoded_again_in_its_own_size(slides: Video) -> None:
    one = shown(slides, "general", ["3"])
    assert (size(one), one.frames[0].time) == ((1280, 704), 3.0)
    assert one.frames[0].image.shape == (704, 1280, 3)
    ten = shown(slides, "general", [str(number) for number in range(10)])
    assert (size(ten), len(ten.frames)) == ((1024, 576), 10)
    assert (size(shown(slides, "sage-mm", ["3"])), size(shown(slides, "general", ["3"], frame_tokens=64))) == ((512, 288), (320, 192))


def test_stills_fit_a_small_context(slides: Video) -> None:
    ten = shown(slides, "general", [str(number) for number in range(10)], context_size=4096)
    assert len(ten.frames) == 10
    assert size(ten) == (800, 448)
    few = shown(slides, "general", [str(number) for number in range(10)], context_size=1500)
    assert size(few) == (512, 288)
    assert len(few.frames) == 6


def test_clips_and_windows_share_the_pixels_of_the_first_look(slides: Video) -> None:
    assert size(shown(slides, "general", ["10"])) == (1280, 704)
    assert size(shown(slides, "sage-mm", ["10"])) == (416, 224)
    reply = {"name": "x", "timestamps": {"start": None, "end": None}}
    found = []
    for pack in ("general", "sage-mm"):
        model = SizingModel(reply)
        with Workspace(model, slides, prompts=Prompts(pack)) as workspace:
            arguments = GroundEventArguments(video_path="slides.mp4", event="x", timestamp_start="00:00", timestamp_end="00:20")
            complete(GroundEvent().run(arguments, workspace))
        found.append(size(model.asked[0].frames[0]))
    assert found == [(704, 384), (416, 224)]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        *(("[100352, 105369]", sizes) for sizes in ("105369", "[105369]", "[1.5, 2.5]", "[0, 64]", '"large"')),
        *(("fps = 2.0", f"fps = {fps}") for fps in ("0", "nan")),
        *(('"reasoning", "verdict"]', f'"reasoning", {wrong}]') for wrong in ("1", '"name"')),
        *(('first_call = [["rationale", "name", "arguments"]]', f"first_call = {orders}") for orders in ("[]", '[["tool"]]')),
        ("shared = true", "sharde = true"),
        ("transcript_entry_s = 30.0", 'transcript_entry_s = "long"'),
        ("clock_names = true", ""),
        ("[replies]", "[answers]"),
    ],
)
def test_a_pack_holds_known_settings_of_the_right_kinds(tmp_path: Path, right: str, wrong: str) -> None:
    pack = Path(__file__).parents[2] / "src/sage_cli/prompts/packs/general/pack.toml"
    text = pack.read_text(encoding="utf-8")
    assert right in text
    (tmp_path / "pack.toml").write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.raises(UsageError, match=r"pack\.toml cannot be used") as caught:
        Prompts(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pack_without_sizes_leaves_them_to_the_model(tmp_path: Path) -> None:
    pack = Path(__file__).parents[2] / "src/sage_cli/prompts/packs/general/pack.toml"
    text = pack.read_text(encoding="utf-8").partition('[frames."')[0]
    (tmp_path / "pack.toml").write_text(f"{text}[frames]\n", encoding="utf-8")
    assert Prompts(tmp_path).style.of_frames("qwen3-vl").reference is None
