"""analyze: a question answered by a model that looks closely at a few extracted frames, or at a clip, or just thinks."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import groupby
from typing import Final

from pydantic import Field

from sage_cli.model.base import Frames, Message, Prompt, Text
from sage_cli.tools.base import Arguments, Looked, Outcome, Tool, ToolError, ToolNotice, ToolProgress, ToolRun, What
from sage_cli.tools.schema import EMPTY, Schema, array, either, one_of, record, text
from sage_cli.tools.workspace import Media, Workspace
from sage_cli.video import Frame, uniform_times

_QUERY_LENGTH: Final = 1000
_MOST_FRAMES: Final = 20
_REPLY_TOKENS: Final = 512


class AnalyzeArguments(Arguments):
    query: str = Field(description="The question to answer.")
    media_paths: list[str] = Field(description="Paths of the extracted frames, or of one extracted clip, to look at; may be empty.")


class Analyze(Tool[AnalyzeArguments]):
    name = "analyze"
    description = (
        "Answer a question by looking closely at extracted frames or at one extracted clip. "
        "Without media it is a question to a language model."
    )
    arguments = AnalyzeArguments

    def schema(self, workspace: Workspace) -> Schema:
        frames = [media.name for media in workspace.media.values() if media.frame]
        clips = [media.name for media in workspace.media.values() if not media.frame]
        choices = [array(one_of(names), 1, most) for names, most in ((frames, _MOST_FRAMES), (clips, 1)) if names]
        return record(query=text(_QUERY_LENGTH), media_paths=either(*choices, EMPTY))

    def span(self, arguments: AnalyzeArguments, workspace: Workspace) -> tuple[float, float] | None:
        media = self._media(arguments, workspace)
        return (min(item.start for item in media), max(item.end for item in media)) if media else None

    def run(self, arguments: AnalyzeArguments, workspace: Workspace) -> ToolRun:
        media = self._media(arguments, workspace)
        clips = [item for item in media if item.frame is None]
        if clips and len(media) > 1:
            yield ToolNotice(f"only {clips[0].name} is analyzed: a clip cannot be looked at together with other media")
            media = clips[:1]
        frames = yield from self._frames(media, workspace)

        def build(frames: Sequence[Frame]) -> Prompt:
            shown = (Frames(tuple(frames), pairs=bool(clips)),) if frames else ()
            return [
                Message("system", (Text(workspace.prompts.render("analyze")),)),
                Message("user", (*shown, Text(arguments.query))),
            ]

        prompt = yield from workspace.fit(frames, build, _REPLY_TOKENS)
        reply = yield from workspace.ask(prompt, max_tokens=_REPLY_TOKENS)
        if reply.finish == "length":
            yield ToolNotice(f"the analysis was cut off after {_REPLY_TOKENS} tokens")
        answer = reply.text.strip()
        return Outcome({"answer": answer}, " ".join(answer.split()), _looked(media), reply.usage)

    def _media(self, arguments: AnalyzeArguments, workspace: Workspace) -> list[Media]:
        """The media meant, without repetitions, in time order."""
        media = {}
        for name in arguments.media_paths:
            if name not in workspace.media:
                known = ", ".join(workspace.media) or "none yet: extract some first"
                raise ToolError(f"there is no {name!r}; the media are: {known}")
            media[name] = workspace.media[name]
        return sorted(media.values(), key=lambda item: item.start)

    def _frames(self, media: Sequence[Media], workspace: Workspace) -> Generator[ToolProgress, None, list[Frame]]:
        frames: list[Frame] = []
        for item in media:
            if item.frame is not None:
                frames.append(item.frame)
            else:
                # From the video, not from the clip's file: these frames may have been looked at before, and are then not encoded again.
                times = uniform_times(workspace.video.duration, workspace.frame_budget, start=item.start, end=item.end)
                frames += yield from workspace.frames(times)
        return frames


def _looked(media: Sequence[Media]) -> tuple[Looked, ...]:
    """The stretches seen: a clip's, and for frames the stretch of each group that was extracted together."""
    looked = []
    for _, group in groupby(sorted(media, key=lambda item: item.path.parent), key=lambda item: item.path.parent):
        items = list(group)
        what: What = "frames analyzed" if items[0].frame else "clip analyzed"
        looked.append(Looked(min(item.start for item in items), max(item.end for item in items), what))
    return tuple(looked)
