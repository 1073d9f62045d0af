"""Questions about one's own videos from a teacher behind an OpenAI-compatible address, in the structure of the paper's question prompt:
10 to 20 per video, most of them hard, about what is seen, what is said and both, with answers and spans that together cover the video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sage_cli.bench.choices import choices
from sage_cli.errors import ModelError, UsageError
from sage_cli.model.base import ChatModel, Frames, Message, Prompt, Reply, Text
from sage_cli.timecode import format_clock, parse
from sage_cli.tools.reply import json_object
from sage_cli.tools.schema import Schema, array, one_of, record, text
from sage_cli.video import Video, uniform_times
from training.qwen.settings import Data

_OPTIONS: Final = 6
_REPLY_TOKENS: Final = 8192
_ASK: Final = """\
Write questions about this video of {duration} for a benchmark of video understanding. Its frames come with their times; the words spoken in
it follow.

- Between {least} and {most} questions. Lean to hard and very hard ones, which take several parts of the video together.
- At least {visual} that the pictures alone answer; others need the words, or both.
- Some are multiple-choice, with at most {options} options written into the question as "(A) ..."; the others are open-ended.
- Each with the right answer, the span of the video that it rests on, a rationale, and whether it needs the web.
- The spans of all questions together cover at least {covered:.0%} of the video.

Speech:
{speech}
{complaint}"""

_QUESTION: Final[Schema] = record(
    question=text(1500),
    answer=text(600),
    ques_type=one_of(["mcq", "open_ended"]),
    difficulty=one_of(["easy", "medium", "hard", "very_hard"]),
    modality=one_of(["visual", "verbal", "both"]),
    rationale=text(1000),
    needs_web={"type": "boolean"},
    start=text(12),
    end=text(12),
)


def covered(questions: Sequence[Mapping[str, Any]], duration: float) -> float:
    """Share of a video that the spans of questions cover together."""
    spans = sorted((max(0.0, question["start"]), min(duration, question["end"])) for question in questions)
    reached = total = 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / duration


def read_questions(reply: str, duration: float) -> list[dict[str, Any]]:
    """The questions of a reply with their spans in seconds. Those with an unreadable or empty span are left out, and those whose answer is
    none of their options.

    Raises:
        ValueError: there is no JSON object in the reply.
    """
    found = []
    questions = json_object(reply).get("questions")
    for given in questions if isinstance(questions, list) else []:
        try:
            start, end = parse(str(given["start"])), min(parse(str(given["end"])), duration)
            kept = {"question": str(given["question"]), "answer": str(given["answer"])}
            asked = choices({**kept, "ques_type": given.get("ques_type")}, False, {})
        except (KeyError, TypeError, ValueError, AttributeError, UsageError):
            continue
        if start < end and (asked.letter or not asked.options or given.get("ques_type") == "open_ended"):
            rest = {key: given.get(key) for key in ("ques_type", "difficulty", "modality", "rationale", "needs_web")}
            found.append({**kept, **rest, "start": start, "end": end})
    return found


def lacking(questions: Sequence[Mapping[str, Any]], duration: float, settings: Data) -> str:
    """What is wrong with a set of questions, in words for the teacher; empty if nothing is."""
    if not settings.least <= len(questions) <= settings.most:
        return f"There were {len(questions)} questions; between {settings.least} and {settings.most} are needed."
    visual = sum(question["modality"] == "visual" for question in questions)
    if visual < settings.visual:
        return f"Only {visual} questions were visual; {settings.visual} are needed."
    share = covered(questions, duration)
    return "" if share >= settings.covered else f"The spans covered {share:.0%} of the video; {settings.covered:.0%} are needed."


def ask_questions(teacher: ChatModel, video: Video, speech: str, settings: Data) -> list[dict[str, Any]]:
    """Questions about a video, asked for again with a complaint while they lack something; the most that came, if they always do.

    Args:
        speech: what is said in the video, with times.

    Raises:
        ModelError: the teacher cannot be reached, or gave no question at all.
    """
    size = teacher.frame_size(video.width, video.height)
    frames = tuple(video.frames(uniform_times(video.duration, settings.frames), size))
    best: list[dict[str, Any]] = []
    complaint = ""
    for _ in range(settings.attempts):
        task = _ASK.format(
            duration=format_clock(video.duration),
            options=_OPTIONS,
            speech=speech or "nobody speaks",
            complaint=complaint and f"\nYour last questions were not good enough. {complaint}\n",
            **settings.model_dump(include={"least", "most", "visual", "covered"}),
        )
        prompt: Prompt = [Message("user", (Frames(frames), Text(task)))]
        try:
            questions = read_questions(_reply(teacher, prompt, settings.most), video.duration)
        except ValueError:
            complaint = "They were no JSON object."
            continue
        best = max(best, questions, key=len)
        complaint = lacking(questions, video.duration, settings)
        if not complaint:
            return questions
    if not best:
        raise ModelError("the teacher wrote no questions; use a stronger one, or raise `attempts`")
    return best


def _reply(teacher: ChatModel, prompt: Prompt, most: int) -> str:
    schema = record(questions=array(_QUESTION, 1, most))
    return next(item.text for item in teacher.stream(prompt, schema=schema, max_tokens=_REPLY_TOKENS) if isinstance(item, Reply))
