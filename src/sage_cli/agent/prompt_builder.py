"""Builds the prompts of a run, cut to fit the context."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sage_cli.agent.asking import Steps
from sage_cli.agent.events import Notice
from sage_cli.agent.protocol import tool_lines
from sage_cli.agent.results import Result, Results
from sage_cli.agent.stopwatch import Stopwatch
from sage_cli.agent.structured import AnswerSchema
from sage_cli.errors import ModelError
from sage_cli.model.base import Frames, Message, Prompt, Text
from sage_cli.timecode import format_clock
from sage_cli.tools import TranscribeSpeech
from sage_cli.tools.base import AnyTool
from sage_cli.tools.workspace import Workspace, most
from sage_cli.video import Frame

_EXAMPLE_S: Final = 4 * 3600.0  # longest span that a call in an example has transcribed


@dataclass(frozen=True)
class PromptBuilder:
    """Builds the prompts of a run.

    Attributes:
        question: the user's.
        workspace: the run's.
        tools: the enabled tools.
        room: tokens available to a prompt.
    """

    question: str
    workspace: Workspace
    tools: Sequence[AnyTool]
    room: int

    def first(self, frames: Sequence[Frame]) -> Prompt:
        """The prompt of the first look: the frames, the question, and facts about the video."""
        prompts = self.workspace.prompts
        system = prompts.render("context_vlm", tools=tool_lines(prompts, self.tools), **self._example)
        facts = f"{self._facts} You see {_count(frames)}."
        message = prompts.render("context_vlm_msg", query=self.question, video_info=self._video_info, facts=facts)
        return [Message("system", (Text(system),)), Message("user", (Frames(tuple(frames)), Text(message)))]

    def again(self, before: Prompt, said: str) -> Prompt:
        """The request for a tool call after a first look that denies: to the same prompt, a server without schemas would reply the same.
        Where the context does not hold it, the prompt as it was.

        Args:
            before, said: the prompt and the reply that denied.
        """
        request = Message("user", (Text(self.workspace.prompts.render("second_look")),))
        prompt = [*before, Message("assistant", (Text(said),)), request]
        return prompt if self.fits(prompt) else before

    def direct(self, frames: Sequence[Frame]) -> Prompt:
        """The prompt of the paper's direct baseline: frames and question, answered in plain text after thinking."""
        text = self.workspace.prompts.render("direct", question=self.question)
        return self.workspace.question(Frames(tuple(frames)), Text(text))

    def later(self, results: Results, video_context: str, watch: Stopwatch, *, last: bool) -> Steps[Prompt]:
        """The prompt of the reasoner: the newest results, as many as the context holds.

        Raises:
            ModelError: the question alone does not fit.
        """
        kept = results.kept()
        newest = kept[-1]

        def build(results: Sequence[Result], cut: int | None = None) -> Prompt:
            return self._later(newest, "".join(self._told(result, cut) for result in results), video_context, last)

        count = most(len(kept), lambda number: self.fits(build(kept[-number:])))
        if count:
            if count < len(kept):
                yield Notice(watch.elapsed, f"only the newest {count} of {len(kept)} tool results fit the model's context")
            return build(kept[-count:])
        length = most(len(newest.output), lambda number: self.fits(build([newest], number)))
        if not length:
            raise self.too_long()
        yield Notice(watch.elapsed, f"the result of {newest.key} was cut to its first {length} characters to fit the model's context")
        return build([newest], length)

    def _told(self, result: Result, cut: int | None) -> str:
        """A result in the prompt; for models that were not trained to do without them, with the arguments that it is for."""
        arguments = result.arguments if self.workspace.prompts.style.arguments_shown else {}
        return f"{result.key}{f' with arguments {arguments}' if arguments else ''} output: {result.output[:cut]}\n"

    def _later(self, newest: Result, outputs: str, video_context: str, last: bool) -> Prompt:
        prompts = self.workspace.prompts
        system = prompts.render("iterative_reasoner", tools=tool_lines(prompts, self.tools))
        message = prompts.render(
            "iterative_reasoner_msg",
            previous_tool_call=f"{newest.key} with arguments {newest.arguments}\n",
            visual_context=video_context,
            query=self.question,
            video_info=self._video_info,
            facts=self._facts,
            tools_so_far=outputs + (prompts.render("last_step") if last else ""),
        )
        return [Message("system", (Text(system),)), Message("user", (Text(message),))]

    def in_shape(self, before: Prompt, said: str, answer: str, shape: AnswerSchema) -> Prompt:
        """Of an answer in the shape of a schema: what the model saw and said goes on, or, where the context does not hold both, the
        question and the answer alone.

        Args:
            before, said: the prompt and the reply that answered.
        """
        text = self.workspace.prompts.render("structured", question=self.question, answer=answer, schema=shape.text)
        request = Message("user", (Text(text),))
        whole = [*before, Message("assistant", (Text(said),)), request]
        return whole if self.fits(whole) else [request]

    def confirm(self, video_context: str, heard: str) -> Prompt | None:
        """Of the question whether a description or a transcript holds the answer at all; ``None`` if the context does not hold them."""
        return self._alone("confirm", visual_context=video_context, told=heard)

    def found(self, answer: str) -> Prompt | None:
        """Of the question whether an answer gives what was asked, or says that the video does not hold it; ``None`` as :meth:`confirm`."""
        return self._alone("found", answer=answer)

    def _alone(self, name: str, **values: str) -> Prompt | None:
        prompt = [Message("user", (Text(self.workspace.prompts.render(name, query=self.question, **values)),))]
        return prompt if self.fits(prompt) else None

    def fits(self, prompt: Prompt) -> bool:
        return self.workspace.model.count_tokens(prompt) <= self.room

    def too_long(self) -> ModelError:
        """What to raise if the question alone does not fit."""
        size = self.workspace.model.info.context_size
        return ModelError(f"the question and its instructions do not fit a context of {size} tokens: shorten it, or raise --ctx-size")

    @property
    def _video_info(self) -> str:
        start, end, duration = self.workspace.start, self.workspace.end, self.workspace.video.duration
        info = f"Video Path: {self.workspace.video_path} of duration {format_clock(duration)}."
        if not self.workspace.video.has_video:
            info += " It has no picture, only sound."
        if (start, end) == (0.0, duration):
            return info
        return f"{info} Only the part from {format_clock(start)} to {format_clock(end)} is asked about."

    @property
    def _example(self) -> dict[str, str]:
        """The arguments of a call in an example: copied as they are, they make sense. JSON, without quotation marks."""
        start, end = self.workspace.start, self.workspace.end
        last = end if end - start <= _EXAMPLE_S or self.workspace.transcript_exists else start + _EXAMPLE_S
        path = json.dumps(self.workspace.video_path, ensure_ascii=False)[1:-1]
        return {"video_path": path, "begin": format_clock(start), "end": format_clock(math.ceil(last))}

    @property
    def _facts(self) -> str:
        """Facts that frames do not show, for models that were not trained to call tools."""
        audible = any(tool.name == TranscribeSpeech.name for tool in self.tools)
        if not self.workspace.video.has_audio:
            lost = any(notice.part == "audio" for notice in self.workspace.video.notices)
            return "It has sound that cannot be listened to." if lost else "It has no sound."
        return "It has sound." if audible else "It has sound that cannot be listened to."


def _count(frames: Sequence[Frame]) -> str:
    """How many frames there are, and how far apart."""
    if len(frames) < 2:
        return "one frame of it" if frames else "no frames of it"
    gap = (frames[-1].time - frames[0].time) / (len(frames) - 1)
    return f"{len(frames)} frames of it, one every {f'{gap:.0f}' if gap >= 10 else f'{gap:.2g}'} s"
