"""The first look: selects the frames that the model sees, and decodes them once for all questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from sage_cli.agent.asking import Steps
from sage_cli.agent.events import FramesSampled, Notice, Working
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.errors import SageError
from sage_cli.model.base import ChatModel, Prompt
from sage_cli.tools.sizes import blank_frames
from sage_cli.tools.workspace import Workspace, most, thin
from sage_cli.video import Frame, Sampling

_SAMPLES: Final = 4  # of the speech
_SAMPLE_S: Final = 12.0  # seconds of a sample


@dataclass(frozen=True, slots=True)
class Choice:
    """The frames available to a first look; a recording of sound has none.

    Attributes:
        times: times of all requested frames, in seconds.
        count: how many of them fit the context together with the question.
        size: ``(width, height)`` of a frame in pixels.
    """

    times: tuple[float, ...]
    count: int
    size: tuple[int, int]


def choose(workspace: Workspace, build: Callable[[Sequence[Frame]], Prompt], room: int) -> Choice:
    """Select as many frames as the limit and the context allow. Decodes nothing: only the frame size matters.

    Args:
        build: makes the prompt for given frames.
        room: tokens available to the prompt.
    """
    times = workspace.times(workspace.start, workspace.end)
    blanks = blank_frames(times, workspace.sizes.first)
    count = most(len(times), lambda number: workspace.model.count_tokens(build(thin(blanks, number))) <= room)
    return Choice(tuple(times), count, workspace.sizes.first)


class FirstLook:
    """Decodes the frames of one video's first looks and keeps them: the next question uses the same frames, or a subset."""

    def __init__(self, model: ChatModel, sampling: Sampling) -> None:
        self._model, self._sampling = model, sampling
        self._frames: tuple[Frame, ...] = ()
        self._count = 0  # number of times that the kept frames were decoded for
        self._spoken: bool | None = None

    def listen(self, workspace: Workspace, watch: Stopwatch) -> Steps[None]:
        """Find out from samples whether people speak all along, if that decides what a model has to begin with."""
        if workspace.speech_unknown and self._spoken is None:
            from sage_cli.speech.transcript import near_beginnings

            times, silent = near_beginnings(workspace.start, workspace.end, _SAMPLES), 0
            with suppress(SageError):  # told when a transcript is needed
                for number, time in enumerate(times):
                    yield Working(watch.elapsed, 0, "speech", round(number * _SAMPLE_S), round(len(times) * _SAMPLE_S))
                    heard = False
                    for part in workspace.transcriber.parts(time, time + _SAMPLE_S):
                        heard = heard or bool(part.segments)
                        watch.check()
                    silent += not heard
                self._spoken = 2 * silent < len(times)
        workspace.spoken = bool(self._spoken)

    def frames(
        self, workspace: Workspace, choice: Choice, build: Callable[[Sequence[Frame]], Prompt], watch: Stopwatch
    ) -> Steps[tuple[Frame, ...]]:
        """The selected frames. While they are decoded, the model prepares the prompt that ``build`` makes of them.

        Raises:
            VideoError: they cannot be decoded.
        """
        if choice.count < len(choice.times):
            yield Notice(watch.elapsed, f"{choice.count} of {len(choice.times)} frames: more do not fit the model's context")
        if self._count >= choice.count:
            frames = self._frames if self._count == choice.count else thin(self._frames, choice.count)
            yield FramesSampled(watch.elapsed, tuple(frame.time for frame in frames), "reused" if frames else "none")
            return frames
        reader = workspace.video.frames(thin(choice.times, choice.count), choice.size, sampling=self._sampling)
        method = reader.method
        found: dict[str, Frame] = {}
        with closing(reader):
            for number, frame in enumerate(reader, start=1):
                if frame.key not in found:
                    found[frame.key] = frame
                    # Frames from the cache may need no encoding, and then no decoding.
                    if len(found) % 2 == 0 and method != "cached":
                        self._model.prefetch(build([*found.values()]))
                yield Working(watch.elapsed, 0, "frames", number, choice.count)
                watch.check()
        self._frames, self._count = tuple(found.values()), choice.count
        if method == "keyframe" and len(found) < choice.count:
            few = f"{len(found)} keyframe{'s'[: len(found) > 1]} instead of {choice.count} frames"
            yield Notice(watch.elapsed, f"{few}: there are no others near the times to look at")
        elif method not in ("keyframe", "cached") and self._sampling == "keyframe":
            yield Notice(watch.elapsed, "there is no keyframe in the part asked about: its frames are decoded")
        yield FramesSampled(watch.elapsed, tuple(frame.time for frame in self._frames), method)
        return self._frames
