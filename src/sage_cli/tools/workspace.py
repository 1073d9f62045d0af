"""The workspace of a run: a video, the media made from it so far, and the models that tools may use."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, final

import numpy as np

from sage_cli import timecode
from sage_cli.errors import SageError
from sage_cli.model.base import ChatModel, Delta, Message, Part, Progress, Prompt, Reply, Text, Usage
from sage_cli.prompts import Prompts
from sage_cli.text import from_argument
from sage_cli.tools.base import ToolError, ToolNotice, ToolProgress, WindowArguments
from sage_cli.tools.reply import without_thinking
from sage_cli.tools.schema import Schema
from sage_cli.tools.sizes import FrameSize, FrameSizes, Size, blank_frames
from sage_cli.video import Frame, uniform_times

if TYPE_CHECKING:
    from sage_cli.speech.segment import Progress as Heard
    from sage_cli.speech.subtitles import Subtitles
    from sage_cli.video import Video

T = TypeVar("T")
Build: TypeAlias = Callable[[Sequence[Frame]], Prompt]

_TOKENS_PER_S = 8.0  # of a transcript, at most, together with the rest of the prompt and the reply; people speak some four
_UNKNOWN_FPS = 30.0  # assumed if the video does not say
# Frames and clips that were never made: their times would count from somewhere else.
_OWN_NAME = re.compile(r"(.*/)?(c\d+\.mp4|[^/]*\.(jpe?g|png))")
_TWIN = "_no_audio"  # SAGE's training data had copies of its videos without sound; the weights name them at times


class SpeechModel(Protocol):
    """The speech recognition interface that tools need: see :class:`sage_cli.speech.Transcript`.

    Attributes:
        source: what hears, for people, e.g. ``"ggml-base on CPU"``; it may only be known after the first segments.
    """

    @property
    def source(self) -> str: ...

    def is_cached(self, start: float, end: float) -> bool: ...

    def parts(self, start: float, end: float) -> Iterator[Heard]: ...


@dataclass(frozen=True, slots=True)
class Media:
    """A frame or clip of the video, named in this run. Nothing is written to disk: its frames are decoded when they are needed.

    Attributes:
        name: the model's name for it: ``f1/00:45.jpg``, ``c1.mp4``.
        start, end: the time span it shows, in seconds; equal for a frame.
        frame: the frame; ``None`` for a clip.
    """

    name: str
    start: float
    end: float
    frame: Frame | None


@final
class Workspace:
    """What the tools of one run work on and with. A context manager: closing it forgets the media made in it.

    Args:
        model: used by tools that need a model.
        video: the only video that tools can examine.
        span: the part of it that may be examined, in seconds; the whole video by default.
        prompts: the texts given to models.
        transcriber: loads the speech model; called when one is first needed, and may raise a :class:`~sage_cli.errors.SageError`.
        subtitles: the video's own, which serve as its transcript before any speech model.
        frames: maximum frames that a tool shows a model at once.
        frame_tokens: maximum vision tokens per frame or frame pair, in the first look and in tools; ``None``: set by ``frame_size``.
        frame_size: the size of frames: as in the released configuration, or as in the paper.
        addresses: web addresses that may be opened; searches add their results.
        asked: the question that passages of a long transcript are selected for.

    Attributes:
        spoken: people speak all along, as far as samples show.
        searched: the question as a long transcript was searched for it, with its translation; ``""`` if none was.
        usage: sum over the model calls that tools made, also those that failed in the end.
    """

    def __init__(
        self,
        model: ChatModel,
        video: Video,
        *,
        span: tuple[float, float] | None = None,
        prompts: Prompts | None = None,
        transcriber: Callable[[], SpeechModel] | None = None,
        subtitles: Subtitles | None = None,
        frames: int = 128,
        frame_tokens: int | None = None,
        frame_size: FrameSize = "reference",
        addresses: Iterable[str] = (),
        asked: str = "",
    ) -> None:
        self.model = model
        self.video = video
        self.start, self.end = span or (0.0, video.duration)
        self.prompts = prompts or Prompts()
        self.frame_limit = frames
        self.frame_style = self.prompts.style.of_frames(model.info.family)
        shape = (video.width, video.height) if video.has_video else (0, 0)
        self.sizes = FrameSizes(model, shape, self.frame_style, kind=frame_size, frames=frames, tokens=frame_tokens)
        self.media: dict[str, Media] = {}
        self.addresses: list[str] = []
        self.allow_addresses(addresses)
        self.subtitles = subtitles
        self.asked, self.searched = asked, ""
        self.spoken = False
        self._load_speech = transcriber
        self.usage = Usage()
        self._made = {"f": 0, "c": 0}

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.media.clear()

    @property
    def video_path(self) -> str:
        """The video's name for the model: short, because it is copied token by token, and without the user's directories."""
        name = from_argument(self.video.label)  # prompts and schemas are valid Unicode, which file names need not be
        longest = self.prompts.style.longest_name
        return "video.mp4" if self.video.copied or 0 < longest < len(name.encode()) else name

    @property
    def transcript_first(self) -> bool:
        """Whether the first call has to be a transcript: of untrained models, which search frames for what was said, where it costs little
        or people speak all along, and of a recording without a picture, which has nothing else."""
        best = self.transcript_whole or (self._untrained and (self.spoken or self.transcript_exists))
        return self.video.has_audio and (not self.video.has_video or best)

    @property
    def speech_unknown(self) -> bool:
        """Whether it depends on the speech, which is not known yet, what an untrained model has to begin with."""
        return self._untrained and self._load_speech is not None and self.video.has_audio and not self.transcript_first

    @property
    def _untrained(self) -> bool:
        return self.prompts.style.whole_transcript_s > 0

    @cached_property
    def transcript_exists(self) -> bool:
        """Whether the whole span has subtitles, or its transcript is in the cache."""
        if self.subtitles is not None or self._load_speech is None:
            return self.subtitles is not None
        try:
            return self.transcriber.is_cached(self.start, self.end)
        except SageError:  # told when it is needed
            return False

    @property
    def transcript_whole(self) -> bool:
        """Whether a transcript has to cover the whole span, which the model reads at once."""
        longest = self.prompts.style.whole_transcript_s if self.video.has_video else self.model.info.context_size / _TOKENS_PER_S
        return self.video.has_audio and self.end - self.start <= longest

    @cached_property
    def transcriber(self) -> SpeechModel:
        """The speech model, loaded at first use.

        Raises:
            ToolError: this run has no speech model.
            ModelError: it is broken or does not know the language.
        """
        if self._load_speech is None:
            raise ToolError("speech recognition is not available in this run")
        return self._load_speech()

    # ---- times -----------------------------------------------------------------------------------------------------

    def window(self, arguments: WindowArguments) -> tuple[float, float, list[str]]:
        """The time span that a call means: start and end in seconds, and a line for each correction that was necessary.

        Raises:
            ToolError: it belongs to another video, is outside the allowed part, or a time cannot be parsed.
        """
        clip = self.media.get(arguments.video_path)
        if clip is not None and clip.frame is None:  # times of an extracted clip count from its start
            first, length = clip.start, clip.end - clip.start
        elif not self.is_video(arguments.video_path) and _OWN_NAME.fullmatch(arguments.video_path):
            raise ToolError(f"there is no video {arguments.video_path!r}; the video is {self.video_path!r}")
        else:  # there is but one, whatever a model calls it
            first, length = 0.0, self.video.duration
        style, given = self.prompts.style, (arguments.timestamp_start, arguments.timestamp_end)
        try:
            start, end, notes = timecode.repair_window(*given, length, style.smallest_window_s, fix_units=style.fix_units)
        except ValueError as error:
            raise ToolError(str(error)) from error
        start, end = first + start, first + end
        inside = max(start, self.start), min(end, self.end)
        part = timecode.format_span(self.start, self.end)
        if inside[0] >= inside[1]:
            raise ToolError(f"only the part {part} of the video is asked about; choose times inside it")
        # The schema offers whole seconds, which may be slightly outside a part that begins or ends between two.
        if inside[0] - start > 1 or end - inside[1] > 1:
            notes.append(f"only the part {part} of the video is asked about; the window was cut to it")
        return *inside, notes

    def is_video(self, name: str) -> bool:
        """Whether a path from the model is that of the video, or of its copy without sound. Case and blanks do not matter, and it may lack
        its suffix; ``video.mp4`` is what prompts of other agents call any video."""
        given, own = PurePath(name.strip().casefold()), PurePath(self.video_path.casefold())
        return given.name in (own.name, own.stem, "video.mp4") or (given.stem == own.stem + _TWIN and given.suffix == own.suffix)

    def times(self, start: float, end: float) -> list[float]:
        """The times, in seconds, of the frames that show a time span to a model; none without a picture."""
        if not self.video.has_video:
            return []
        fps = self.frame_style.fps or self.video.fps or _UNKNOWN_FPS
        return uniform_times(self.video.duration, self.frame_limit, fps=fps, start=start, end=end)

    def noted(self, result: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
        """A result with the notes about its window, if the model is to read them: results of trained models never had any."""
        return result | {"note": "; ".join(notes)} if notes and self.prompts.style.notes else result

    # ---- frames ----------------------------------------------------------------------------------------------------

    def frames(self, times: Sequence[float], size: Size) -> Generator[ToolProgress, None, tuple[Frame, ...]]:
        """Decode the frames at these times. Two times may share a frame: there can be fewer frames than times."""
        frames: dict[str, Frame] = {}
        with closing(self.video.frames(times, size)) as reader:
            for done, frame in enumerate(reader, start=1):
                frames.setdefault(frame.key, frame)
                yield ToolProgress("frames", done, len(times))
        return tuple(frames.values())

    def show_clip(self, start: float, end: float, build: Build, max_tokens: int) -> Generator[ToolProgress | ToolNotice, None, Prompt]:
        """The prompt with the frames of a time span; trained models expect a clip that starts at 0.

        Args:
            build: makes the prompt for given frames.
            max_tokens: of the reply.

        Raises:
            ToolError: the prompt does not fit the context even with one frame.
        """
        times = self.times(start, end)
        frames = yield from self.frames(times, self.sizes.clip(len(times), self._holds(times, build, max_tokens)))
        if self.prompts.style.clips_from_zero:
            frames = tuple(frame.at(max(0.0, frame.time - start)) for frame in frames)
        return (yield from self._fit(frames, build, max_tokens))

    def show_stills(self, media: Sequence[Media], build: Build, max_tokens: int) -> Generator[ToolProgress | ToolNotice, None, Prompt]:
        """The prompt with extracted frames, in order; the other arguments are those of :meth:`show_clip`."""
        times = [item.start for item in media]
        size = self.sizes.still(len(times), self._holds(times, build, max_tokens))
        frames = tuple(item.frame for item in media if item.frame is not None)
        if any((frame.width, frame.height) != size for frame in frames):  # extracted together with more, or fewer
            frames = yield from self.frames(times, size)
        return (yield from self._fit(frames, build, max_tokens))

    # ---- media -----------------------------------------------------------------------------------------------------

    def add_frames(self, frames: Sequence[Frame]) -> list[str]:
        """Name frames as one group, by their times: ``f1/00:45.jpg`` is at 00:45."""
        group = self._next("f")
        stems = _stems([frame.time for frame in frames], ":" if self.prompts.style.clock_names else "")
        names = [f"{group}/{stem}.jpg" for stem in stems]
        for name, frame in zip(names, frames, strict=True):
            self.media[name] = Media(name, frame.time, frame.time, frame)
        return names

    def add_clip(self, start: float, end: float) -> str:
        """Name a time span as a clip: ``c1.mp4``, unless the video is called so."""
        while self.is_video(name := f"{self._next('c')}.mp4"):
            pass
        self.media[name] = Media(name, start, end, None)
        return name

    def find_media(self, name: str) -> Media:
        """The media behind a path from the model; the video itself counts as a clip.

        Trained models know paths such as ``holiday_frames/holiday_frame_1320_00:44.jpg`` and shorten or lengthen the ones they are given:
        the folder and what precedes the time do not matter. Of several frames of that time, the one extracted last is meant.

        Raises:
            ToolError: there are no such media.
        """
        if name in self.media:
            return self.media[name]
        if self.is_video(name):
            return Media(self.video_path, self.start, self.end, None)
        end = PurePath(name).name.rpartition("_")[2]
        if similar := [media for media in self.media.values() if PurePath(media.name).name == end]:
            return similar[-1]
        known = ", ".join(self.media) or "none yet: extract some first"
        raise ToolError(f"there is no {name!r}; the media are: {known}")

    def _next(self, kind: str) -> str:
        self._made[kind] += 1
        return f"{kind}{self._made[kind]}"

    # ---- the web ---------------------------------------------------------------------------------------------------

    def allow_addresses(self, addresses: Iterable[str]) -> None:
        """Allow these addresses to be opened."""
        self.addresses = list(dict.fromkeys([*self.addresses, *addresses]))

    # ---- the model -------------------------------------------------------------------------------------------------

    def holds(self, text: str, divisor: int) -> bool:
        """Whether the model's context holds a text ``divisor`` times."""
        return divisor * self.model.count_tokens([Message("user", (Text(text),))]) <= self.model.info.context_size

    def question(self, *parts: Part, system: Literal["system", "analyze"] = "system") -> Prompt:
        """A single question, after the pack's system turn if it has one.

        Args:
            system: the text of that turn.
        """
        text = self.prompts.render(system)
        return [*([Message("system", (Text(text),))] if text else []), Message("user", parts)]

    def ask(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        schema: Schema | None = None,
        wrap: tuple[str, str] = ("", ""),
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Generator[ToolProgress | ToolNotice, None, Reply]:
        """Ask the model, by default greedily, as the reference's tools do. The reply is what it meant, without thinking."""
        pieces = 0
        items = self.model.stream(prompt, schema=schema, wrap=wrap, max_tokens=max_tokens, temperature=temperature, seed=seed)
        with closing(items) as stream:
            for item in stream:
                match item:
                    case Progress(stage, done, total):
                        yield ToolProgress(stage, done, total)
                    case Delta(text):
                        pieces += bool(text)
                        yield ToolProgress("decode", pieces, max_tokens)
                    case Reply():
                        reply = replace(item, text=without_thinking(item.said), closing="")
                        self.usage += item.usage
                        if item.notice:
                            yield ToolNotice(item.notice, item.advice)
        return reply

    def _holds(self, times: Sequence[float], build: Build, max_tokens: int) -> Callable[[Size], bool]:
        """Whether the context holds the frames at these times in a size, together with a reply."""
        room = self.model.info.context_size - max_tokens
        return lambda size: self.model.count_tokens(build(blank_frames(times, size))) <= room

    def _fit(self, frames: Sequence[Frame], build: Build, max_tokens: int) -> Generator[ToolNotice, None, Prompt]:
        """The prompt with as many of the frames as fit the model's context together with a reply of ``max_tokens``."""
        room = self.model.info.context_size - max_tokens
        count = most(len(frames), lambda n: self.model.count_tokens(build(thin(frames, n))) <= room)
        if count == 0 and (frames or self.model.count_tokens(build(())) > room):
            raise ToolError(f"the question does not fit the model's context of {self.model.info.context_size} tokens")
        if count < len(frames):
            yield ToolNotice(
                f"{count} of {len(frames)} frames shown to the model: more do not fit its context of {self.model.info.context_size} tokens"
            )
        return build(thin(frames, count))


def most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 0 to ``limit`` that fits, assuming that every smaller one fits too. 0 is not tested."""
    if limit == 0 or fits(limit):
        return limit
    return bisect.bisect_left(range(1, limit + 1), True, key=lambda number: not fits(number))


def thin(items: Sequence[T], count: int) -> tuple[T, ...]:
    """``count`` of the items, spread evenly, in order; all of them if there are fewer."""
    if count >= len(items):
        return tuple(items)
    return tuple(items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int))


def _stems(times: Sequence[float], separator: str) -> list[str]:
    """File stems for frames at these times: ``00:45``, with hours ``01:00:45``, with as many decimals as needed to distinguish them."""
    for digits in range(7):
        whole = [divmod(round(time * 10**digits), 10**digits) for time in times]
        stems = [_stem(seconds, separator) + (f".{rest:0{digits}}" if digits else "") for seconds, rest in whole]
        if len(set(stems)) == len(stems):
            break
    return stems


def _stem(seconds: int, separator: str) -> str:
    hours = [seconds // 3600] if seconds >= 3600 else []
    return separator.join(f"{field:02}" for field in (*hours, seconds // 60 % 60, seconds % 60))
