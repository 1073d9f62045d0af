"""Ask a model forty questions about talks that it can only answer by listening, or not at all; count the outcomes.

``python -m benchmarks.speech_questions make WORK`` writes ten videos of some 3.5 minutes (speech by espeak-ng) and ``set.jsonl``, a
question set that ``sage bench`` takes, too. ``... ask WORK RUN --model MODEL`` asks; ``... table RUN...`` prints the counts of runs side by
side, and ``... evidence RUN`` how well the evidence of the right answers fits. Half of the questions need one sentence of the speech, a
quarter two that are minutes apart, and a quarter have no answer.

``make WORK --between TEXT`` writes one recording of sound instead, with subtitles: the ten talks, and before each a tenth of the words of a
text; ``--language de`` asks in German. ``search WORK --model MODEL`` counts how many answers the passages hold that the model would read.

Questions about a video are asked one after another by one session, as ``sage ask VIDEO QUESTION QUESTION...`` does, so the model reads
frames and instructions once.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import time
from ast import literal_eval
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import tomlkit
from numpy.typing import NDArray

from sage_cli import open_session
from sage_cli.agent import Event, as_record
from sage_cli.agent.events import Answer, NoAnswer, StepFinished, TextDelta, ToolCalled, Working
from sage_cli.agent.evidence import rested_on
from sage_cli.prompts import Prompts
from sage_cli.speech.formats import Srt
from sage_cli.speech.merge import Entry
from sage_cli.speech.segment import Segment
from sage_cli.timecode import format_clock, parse
from sage_cli.tools import TranscribeSpeech, Workspace, complete
from sage_cli.tools.base import EvidenceSpan, WindowArguments
from tests.media import make_audio, make_video

SPEECH: Final = ("speech", "two facts")
RATE: Final = 22050  # of espeak-ng
_LONG: Final = "long.flac"
_SILENCE: Final = 8000  # samples a second of the recording, whose words are in its subtitles
_CUE: Final = 14  # words of a subtitle
_WORDS_A_SECOND: Final = 2.5
# Phrases of an answer that found nothing.
_DENIES: Final = re.compile(
    r"\b(no|not|nothing|never|none|cannot|can't|doesn't|don't|didn't|isn't|aren't|wasn't|unknown|unclear|unable|without)\b", re.IGNORECASE
)


def talks() -> list[dict[str, Any]]:
    data = tomlkit.parse(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).unwrap()
    found: list[dict[str, Any]] = data["talk"]
    return found


def video_name(talk: Mapping[str, Any]) -> str:
    return str(talk["title"]).lower().replace(" ", "-") + ".mp4"


# ---- videos --------------------------------------------------------------------------------------------------------


def make(work: Path) -> None:
    """Write the videos and the question set into ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "set.jsonl").open("w", encoding="utf-8") as table:
        for talk in talks():
            name = video_name(talk)
            sound = _speech(talk["said"], talk["voice"])
            seconds = len(sound) / RATE
            if not (work / name).exists():
                make_video(
                    work / name, seconds=seconds, fps=2, size=(320, 240), painter=_painter(talk["title"]), audio=sound, audio_rate=RATE
                )
            for row in _rows(talk):
                table.write(json.dumps({**row, "duration": round(seconds, 3)}) + "\n")


def _rows(talk: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The questions about a talk, but for the duration of their video."""
    name = video_name(talk)
    for number, (kind, question, right) in enumerate(talk["ask"]):
        yield {
            "id": f"{Path(name).stem}-{number}",
            "video_path": name,
            "question": question,
            "answer": right[0] if right else "The video does not say.",
            "right": right,
            "kind": kind,
            "modality": "verbal",
        }


def make_long(work: Path, between: Path, language: str | None = None) -> None:
    """Write one recording with the talks between stretches of a text, as subtitles, and the question set about it. In another language
    it has the questions that have an answer."""
    words, rows, at = between.read_text(encoding="utf-8").split(), [], 0.0
    length = len(words) // len(talks())
    subtitles = Srt()
    work.mkdir(parents=True, exist_ok=True)
    with (work / _LONG).with_suffix(".srt").open("w", encoding="utf-8") as file:

        def write(start: float, text: str) -> float:
            end = start + len(text.split()) / _WORDS_A_SECOND
            file.write(subtitles.cue(Segment(start, end, text, 1.0)))
            return end

        for number, talk in enumerate(talks()):
            for first in range(number * length, (number + 1) * length, _CUE):
                at = write(at, " ".join(words[first : first + _CUE]))
            at = max(write(at + second, text) for second, text in talk["said"])
            asked = [{**row, "video_path": _LONG} for row in _rows(talk)]
            rows += [{**row, "question": said} for row, said in zip(asked, talk[language], strict=False)] if language else asked
    (work / "set.jsonl").write_text("".join(json.dumps({**row, "duration": round(at, 3)}) + "\n" for row in rows), encoding="utf-8")
    make_audio(work / _LONG, np.zeros(round(at * _SILENCE), np.float32), rate=_SILENCE)


def _speech(said: Iterable[tuple[float, str]], voice: str) -> NDArray[np.float32]:
    """The sentences at their times, mono at :data:`RATE`, with two seconds of silence behind the last one."""
    pieces = []
    for start, text in said:
        raw = subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "--stdout", text], check=True, capture_output=True).stdout
        pieces.append((round(start * RATE), np.frombuffer(raw[44:], np.int16).astype(np.float32) / 32768))
    for (start, samples), (following, _) in pairwise(pieces):
        assert start + len(samples) < following, "a sentence runs into the next one"
    sound = np.zeros(pieces[-1][0] + len(pieces[-1][1]) + 2 * RATE, np.float32)
    for start, samples in pieces:
        sound[start : start + len(samples)] = samples
    return sound


def _painter(title: str) -> Any:
    def paint(moment: float, index: int) -> NDArray[np.uint8]:
        image = np.full((240, 320, 3), (235, 230, 220), np.uint8)
        cv2.putText(image, title, (24, 110), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (40, 40, 60), 2, cv2.LINE_AA)
        cv2.circle(image, (20 + index * 7 % 280, 200), 12, (60, 90, 170), -1)
        return image

    return paint


# ---- counting ------------------------------------------------------------------------------------------------------


def right(row: Mapping[str, Any], answer: str | None) -> bool:
    """Whether an answer contains the fact, or says correctly that there is none."""
    if not row["right"]:
        return answer is None or bool(_DENIES.search(answer))
    words = re.sub(r"[^\w ]", " ", (answer or "").lower())
    return any(all(re.search(rf"\b{word}", words) for word in wanted.split()) for wanted in row["right"])


def degenerate(answer: str | None) -> bool:
    """An answer without words, or one that repeats a phrase."""
    if answer is None:
        return False
    words = re.findall(r"\w+", answer.lower())
    return not words or (len(words) > 20 and len(set(words)) < len(words) / 4)


def table(runs: list[Path]) -> str:
    """A Markdown table with a column per run."""
    return columns(runs, _count)


def columns(runs: list[Path], count: Callable[[list[dict[str, Any]]], dict[str, str]]) -> str:
    """The same for any count of a run's rows."""
    counted = [count(read(run)) for run in runs]
    lines = ["| | " + " | ".join(run.stem for run in runs) + " |", "| --- " * (len(runs) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(count[name] for count in counted) + " |" for name in counted[0]]
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def share(chosen: Iterable[bool]) -> str:
    values = list(chosen)
    return f"{sum(values)}/{len(values)} ({100 * sum(values) / len(values):.0f} %)" if values else "-"


def _count(rows: list[dict[str, Any]]) -> dict[str, str]:
    def mean(key: str, digits: int, rows: list[dict[str, Any]] = rows) -> str:
        return f"{sum(row[key] for row in rows) / len(rows):.{digits}f}" if rows else "-"

    timed = [row for row in rows if "cpu" in row]
    new = {row["id"] for number, row in enumerate(rows) if not number or row["video_path"] != rows[number - 1]["video_path"]}
    spoken = [row for row in rows if row["kind"] in SPEECH]
    return {
        "questions": str(len(rows)),
        "transcript called, questions about speech": share("transcribe-speech" in row["tools"] for row in spoken),
        "its words read, questions about speech": share(right(row, _heard(row)) for row in spoken),
        **{f"right, {kind}": share(right(row, row["answer"]) for row in rows if row["kind"] == kind) for kind in (*SPEECH, "none")},
        "right, speech and two facts": share(right(row, row["answer"]) for row in spoken),
        "degenerate answers": share(degenerate(row["answer"]) for row in rows),
        "replies over their limit": str(sum(row["over"] for row in rows)),
        "steps per question": mean("steps", 1),
        "prompt tokens per question (of them reused)": f"{mean('prompt', 0)} ({mean('reused', 0)})",
        "reply tokens per question (longest reply)": f"{mean('output', 0)} ({max(row['longest'] for row in rows)})",
        "seconds per question": mean("seconds", 1),
        "processor seconds, a video's first question": mean("cpu", 1, [row for row in timed if row["id"] in new]),
        "processor seconds, later questions": mean("cpu", 1, [row for row in timed if row["id"] not in new]),
    }


def _heard(row: Mapping[str, Any]) -> str:
    """All that the model read of transcripts."""
    return " ".join(str(event["result"]) for event in row["events"] if event.get("tool") == "transcribe-speech" and "result" in event)


# ---- asking --------------------------------------------------------------------------------------------------------


def ask(work: Path, run: Path, limit: int | None = None, **options: Any) -> None:
    """Ask the questions that ``run`` does not answer yet, and append the results."""
    rows, done = read(work / "set.jsonl")[:limit], {row["id"] for row in read(run)}
    with open_session(**options) as session, run.open("a", encoding="utf-8") as file:
        for row in rows:
            if row["id"] in done:
                continue
            started, worked = time.monotonic(), time.process_time()
            found = summary(session.ask(work / row["video_path"], row["question"]), session.settings.reply_tokens)
            record = {**row, **found, "seconds": time.monotonic() - started, "cpu": time.process_time() - worked}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            print(f"{row['id']} ({row['kind']}): {record['tools']} {record['answer']!r} {record['seconds']:.0f} s", flush=True)


def search(work: Path, **options: Any) -> str:
    """How many answers are in the passages that a model reads of the transcripts, and how many words these have."""
    held, words = [], []
    with open_session(**options) as session:
        for row in read(work / "set.jsonl"):
            video = session.video(work / row["video_path"])
            subtitles = session.subtitles(video)
            with Workspace(session.model, video, prompts=Prompts("general"), subtitles=subtitles, asked=row["question"]) as workspace:
                whole = {"timestamp_start": "00:00:00", "timestamp_end": format_clock(ceil(video.duration))}
                arguments = WindowArguments(video_path=workspace.video_path, **whole)
                transcript = complete(TranscribeSpeech().run(arguments, workspace)).result["transcript"]
            words.append(len(transcript.split()))
            if row["right"]:
                held.append(right(row, transcript))
    return f"the answers of {share(held)} questions are in the passages, which have {round(sum(words) / len(words))} words on average"


def evidence(run: Path) -> str:
    """How many right answers of a run name the sentences that say them as evidence, and in how much of the recording."""
    held, shares = [], []
    for row in read(run):
        said = [entry for event in row["events"] if event.get("tool") == TranscribeSpeech.name for entry in _entries(event.get("result"))]
        if not (said and row["right"] and row["answer"] and right(row, row["answer"])):
            continue
        span = EvidenceSpan(0.0, row["duration"], "speech transcribed", tuple(said))
        rests = rested_on([span], row["question"], row["answer"])
        shares.append(sum(one.span.end - one.span.start for one in rests) / row["duration"])
        inside = [entry.text for entry in said if any(one.span.start <= entry.start and entry.end <= one.span.end for one in rests)]
        held.append(right(row, " ".join(inside)))
    return f"the evidence of {share(held)} right answers holds what they say, in {100 * sum(shares) / len(shares):.1f} % of the recording"


def _entries(result: Mapping[str, Any] | None) -> Iterator[Entry]:
    """The entries of a transcript as the model read it; none of a text that is none."""
    with suppress(ValueError, SyntaxError):
        for entry in literal_eval((result or {}).get("transcript", "{}")).values():
            yield Entry(parse(entry["start"]), parse(entry["end"]), entry["text"])


def summary(run: Iterable[Event], reply_tokens: int) -> dict[str, Any]:
    """What came of a run, and its events without the streamed text."""
    events = [event for event in run if not isinstance(event, Working | TextDelta)]
    last = events[-1]
    assert isinstance(last, Answer | NoAnswer)
    written = [event.usage.output_tokens for event in events if isinstance(event, StepFinished)]
    return {
        "answer": last.answer if isinstance(last, Answer) else None,
        "tools": [event.tool for event in events if isinstance(event, ToolCalled)],
        "over": sum(tokens > reply_tokens for tokens in written),
        "longest": max(written),
        "steps": last.steps,
        "prompt": last.usage.prompt_tokens,
        "reused": last.usage.prompt_reused,
        "output": last.usage.output_tokens,
        "events": [as_record(event) for event in events],
    }


def ask_options(asking: argparse.ArgumentParser) -> None:
    asking.add_argument("work", type=Path)
    asking.add_argument("run", type=Path, help="JSONL file for what came of it; questions that it has already are left out")
    asking.add_argument("--model", required=True)
    asking.add_argument("--mmproj", type=Path)
    asking.add_argument("--speech-model", required=True)
    asking.add_argument("--prompts")
    asking.add_argument("--frames", type=int, default=4)
    asking.add_argument("--ctx-size", type=int, default=8192)
    asking.add_argument("--max-steps", type=int, default=4)
    asking.add_argument("--threads", type=int)
    asking.add_argument("--limit", type=int, help="only the first questions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("work", type=Path)
    making.add_argument("--between", type=Path, help="text file")
    making.add_argument("--language", choices=["de", "zh"], help="of the questions, with --between")
    ask_options(commands.add_parser("ask"))
    searching = commands.add_parser("search")
    searching.add_argument("work", type=Path)
    searching.add_argument("--model", required=True)
    searching.add_argument("--mmproj", type=Path)
    searching.add_argument("--ctx-size", type=int, default=8192)
    commands.add_parser("evidence").add_argument("run", type=Path)
    commands.add_parser("table").add_argument("run", type=Path, nargs="+")
    given = vars(parser.parse_args())
    match given.pop("command"):
        case "make":
            make_long(**given) if given["between"] else make(given["work"])
        case "ask":
            ask(**{name: value for name, value in given.items() if value is not None})
        case "search":
            print(search(**given))
        case "evidence":
            print(evidence(**given))
        case "table":
            print(table(given["run"]))


if __name__ == "__main__":
    main()
