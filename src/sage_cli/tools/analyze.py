"""analyze: a model answers a question about a few extracted frames or a clip, or by reasoning alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from sage_cli.model.base import Frames, Prompt, Text
from sage_cli.tools.base import Arguments, EvidenceSpan, Outcome, Tool, ToolNotice, ToolRun, What
from sage_cli.tools.reply import unquoted
from sage_cli.tools.schema import EMPTY, Schema, array, either, one_of, record, text
from sage_cli.tools.workspace import Media, Workspace
from sage_cli.video import Frame

_QUERY_LENGTH: Final = 1000
_MOST_FRAMES: Final = 20
_REPLY_TOKENS: Final = 512


def _paths(value: object) -> object:
    """Paths in a list; a single one, or a list written as text, as models write them too."""
    value = unquoted(value)
    return [value] if isinstance(value, str) and value else value or []


class AnalyzeArguments(Arguments):
    query: str
    media_paths: Annotated[list[str], BeforeValidator(_paths)] = Field(default_factory=list)


class Analyze(Tool[AnalyzeArguments]):
    name = "analyze"
    title = "Looked closely"
    looks = True
    arguments = AnalyzeArguments

    def schema(self, workspace: Workspace) -> Schema | None:
        style = workspace.prompts.style
        frames = [media.name for media in workspace.media.values() if media.frame]
        clips = [media.name for media in workspace.media.values() if not media.frame]
        clips += [workspace.video_path] if style.whole_video else []
        choices = [array(one_of(names), 1, most) for names, most in ((frames, _MOST_FRAMES), (clips, 1)) if names]
        if style.empty_media:
            choices.append(EMPTY)
        return record(query=text(_QUERY_LENGTH), media_paths=either(*choices)) if choices else None

    def span(self, arguments: AnalyzeArguments, workspace: Workspace) -> tuple[float, float] | None:
        media = self._media(arguments, workspace)
        return (min(item.start for item in media), max(item.end for item in media)) if media else None

    def run(self, arguments: AnalyzeArguments, workspace: Workspace) -> ToolRun:
        media = self._media(arguments, workspace)
        clip = bool(media) and media[0].frame is None
        if clip and len(set(arguments.media_paths)) > 1:
            yield ToolNotice(f"only {media[0].name} is analyzed: a clip cannot be looked at together with other media")

        def build(frames: Sequence[Frame]) -> Prompt:
            timed = clip or workspace.prompts.style.timed_frames
            return workspace.question(Frames(tuple(frames), pairs=clip, timed=timed), Text(arguments.query), system="analyze")

        if clip:
            prompt = yield from workspace.show_clip(media[0].start, media[0].end, build, _REPLY_TOKENS)
        else:
            prompt = yield from workspace.show_stills(media, build, _REPLY_TOKENS)
        reply = yield from workspace.ask(prompt, max_tokens=_REPLY_TOKENS)
        answer = reply.text.strip()
        return Outcome({"answer": answer}, " ".join(answer.split()), _evidence(media))

    def _media(self, arguments: AnalyzeArguments, workspace: Workspace) -> list[Media]:
        """The media to look at: the first clip that the arguments name, or else the frames, without duplicates, in time order."""
        media = {item.name: item for item in map(workspace.find_media, arguments.media_paths)}
        clips = [item for item in media.values() if item.frame is None]
        return clips[:1] or sorted(media.values(), key=lambda item: item.start)


def _evidence(media: Sequence[Media]) -> tuple[EvidenceSpan, ...]:
    """The time spans shown: a clip's, and for frames the span of each group that was extracted together."""
    spans = []

    def group_of(item: Media) -> str:
        return item.name.rpartition("/")[0]

    for _, group in groupby(sorted(media, key=group_of), key=group_of):
        items = list(group)
        what: What = "frames analyzed" if items[0].frame else "clip analyzed"
        spans.append(EvidenceSpan(min(item.start for item in items), max(item.end for item in items), what))
    return tuple(spans)
