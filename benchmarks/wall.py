"""Wall times from the frames of a video to an answer, compared with llama-bench and llama-server: ``python -m benchmarks.wall WORK``.

Run it on an idle machine, with or without a GPU; times are those that a user waits. The model has the dimensions of a
released one (``--model``) and random weights. llama-server gets as many vision slices, a frame each, since its API merges
no pairs; "the same slices" is the row to compare with it.

Build the programs first (:mod:`benchmarks.peers`; for a GPU add its options, such as ``--define GGML_CUDA=ON``). The figures are
printed as a table at the end, and written to ``WORK/wall-MODEL.json`` after each row: a run that is cut off keeps its results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.busy import PROMPT, STORY
from benchmarks.decoding import SCHEMA
from benchmarks.models import model
from benchmarks.report import show
from benchmarks.second_question import SYSTEM, peer_text
from sage_cli.model.base import Delta, Frames, Message, Prompt, Reply, Text
from sage_cli.model.batches import BatchSizes
from sage_cli.model.disk import ModelCache
from sage_cli.model.llama import LlamaModel
from sage_cli.video import Frame, Video, uniform_times
from tests.media import make_video

QUESTIONS = ("What is shown here, and where?", "Why did she leave the room?", "When did she leave the room?")
TEXT = "the man walks to the door and says that the red car is gone " * 150  # some 4096 tokens of the models that are made here
VARIANTS = (
    BatchSizes(512, 448, 512),
    BatchSizes(256, 182, 256),
    BatchSizes(768, 660, 768),
    BatchSizes(1024, 928, 1024),
    BatchSizes(2048, 1920, 2048),
)


@dataclass
class Figures:
    """Results, saved at once."""

    path: Path
    rows: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.exists():  # another run measured other parts
            self.rows = json.loads(self.path.read_text(encoding="utf-8"))

    def add(self, name: str, value: Any) -> None:
        self.rows[name] = value
        self.path.write_text(json.dumps(self.rows, indent=1), encoding="utf-8")
        print(f"{time.strftime('%X')} {name}: {value if not isinstance(value, float) else f'{value:.3f}'}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Subject:
    """The model and how it is loaded."""

    work: Path
    name: str
    context: int
    threads: int | None
    disk: bool
    figures: Figures

    @property
    def cache(self) -> ModelCache | None:
        """The cache on disk, opened."""
        return ModelCache(self.folder) if self.disk else None

    @property
    def folder(self) -> Path:
        return self.work / f"wall-cache-{self.name}"

    @contextmanager
    def loaded(self, cache: ModelCache | None = None, **more: Any) -> Iterator[LlamaModel]:
        files = model(self.work, self.name)
        llama = LlamaModel(files.text, files.mmproj, context_size=self.context, threads=self.threads, cache=cache, stop_loops=False, **more)
        try:
            for _ in llama.stream([Message("user", (Text("hello"),))], max_tokens=8):  # the first use of a GPU takes long
                pass
            yield llama
        finally:
            llama.close()


def asked(frames: Sequence[Frame], question: str, *, pairs: bool = True) -> Prompt:
    return [Message("system", (Text(SYSTEM),)), Message("user", (Frames(tuple(frames), pairs), Text(question)))]


def ask(loaded: LlamaModel, prompt: Prompt, **options: Any) -> dict[str, Any]:
    """Seconds to the first text and to the end, with what the reply cost."""
    began, first = time.perf_counter(), None
    reply: Reply | None = None
    for item in loaded.stream(prompt, **options):
        if isinstance(item, Delta) and first is None:
            first = time.perf_counter() - began
        if isinstance(item, Reply):
            reply = item
    assert reply is not None
    usage = reply.usage
    return {
        "first_s": first,
        "total_s": time.perf_counter() - began,
        "prompt_tokens": usage.prompt_tokens,
        "prompt_reused": usage.prompt_reused,
        "images_reused": usage.images_reused,
        "encode_s": usage.encode_s,
        "prefill_s": usage.prefill_s,
        "output_tokens": usage.output_tokens,
        "output_forced": usage.output_forced,
        "output_tok_s": usage.output_tokens / max(1e-9, usage.decode_s),
        "text": reply.text[:200],
    }


# ---- sage ----------------------------------------------------------------------------------------------------------


def first_and_second(subject: Subject, video: Video, count: int) -> None:
    """As ``sage ask`` does it: frames are encoded while others are read, and what was computed is kept on disk."""
    figures = subject.figures
    shutil.rmtree(subject.folder, ignore_errors=True)
    times = uniform_times(video.duration, count)
    cache = subject.cache
    began = time.perf_counter()
    with subject.loaded(cache) as loaded:
        figures.add("load", time.perf_counter() - began)
        figures.add("device", str(loaded.info))
        size = loaded.frame_size(video.width, video.height)
        began = time.perf_counter()
        frames: list[Frame] = []
        for frame in video.frames(times, size):
            frames.append(frame)
            if len(frames) % 2 == 0:
                loaded.prefetch(asked(frames, QUESTIONS[0]))
        read = time.perf_counter() - began
        figures.add("frames read, encoded, and prefilled but for the last", read)
        first = ask(loaded, asked(frames, QUESTIONS[0]), max_tokens=64)
        figures.add("first question, then", first)
        figures.add("from frames to first token", read + first["first_s"])
        figures.add("second question, same process", ask(loaded, asked(frames, QUESTIONS[1]), max_tokens=64))
        began = time.perf_counter()
        loaded.persist()
        figures.add("wait for the prefix at the end", time.perf_counter() - began)
    warm: dict[str, Any] | None = None
    if cache is not None:
        figures.add("an embedding read", cache.embeddings.read_s)
        figures.add("embeddings stored", cache.embeddings.keeps)
        cache.close()
        figures.add("cache on disk, MB", sum(path.stat().st_size for path in subject.folder.rglob("*") if path.is_file()) / 1e6)
        cache = subject.cache
        with subject.loaded(cache) as loaded:
            warm = ask(loaded, asked(frames, QUESTIONS[2]), max_tokens=64)
            figures.add("second question, new process", warm)
        assert cache is not None
        cache.close()
    with subject.loaded() as loaded:
        cold = ask(loaded, asked(frames, QUESTIONS[2]), max_tokens=64)
        figures.add("first question, nothing in advance", cold)
        figures.add("prefill", prefilled(loaded, asked(frames, QUESTIONS[2])))
    if warm is not None:
        figures.add("cold and warm replies are equal", cold["text"] == warm["text"])
    began = time.perf_counter()
    for _ in video.frames(times, size):
        pass
    figures.add("frames read alone", time.perf_counter() - began)


def prefilled(loaded: LlamaModel, prompt: Prompt) -> dict[str, Any]:
    """The prefill of a prompt whose frames are encoded, by a device that has done it before: llama-bench, too, measures the second time."""
    told: dict[str, Any] = {}
    for _ in range(2):
        loaded.forget()
        told = ask(loaded, prompt, max_tokens=1)
    # A device goes on computing after llama.cpp has been given a batch, so the clock stops at the first text.
    return {**told, "prefill_tok_s": told["prompt_tokens"] / told["first_s"]}


def texts(subject: Subject) -> None:
    with subject.loaded() as loaded:
        subject.figures.add("free text", ask(loaded, [Message("user", (Text(STORY),))], max_tokens=257))
        ask(loaded, [Message("user", (Text(STORY),))], schema=SCHEMA, max_tokens=1000)  # makes the tokenizer of the grammar
        subject.figures.add("schema", ask(loaded, [Message("user", (Text(f"{STORY} Again."),))], schema=SCHEMA, max_tokens=1000))
        subject.figures.add("text prefill", prefilled(loaded, [Message("user", (Text(TEXT),))]))


def variants(subject: Subject, frames: Sequence[Frame]) -> None:
    for sizes in VARIANTS:
        with subject.loaded(batch_sizes=sizes) as loaded:
            subject.figures.add(f"first question, {sizes}", ask(loaded, asked(frames, QUESTIONS[2]), max_tokens=1))
            subject.figures.add(f"prefill, {sizes}", prefilled(loaded, asked(frames, QUESTIONS[2])))


# ---- the others ----------------------------------------------------------------------------------------------------


def bench(subject: Subject) -> None:
    command = [peers.find(subject.work, "llama-bench"), "-m", model(subject.work, subject.name).text, "-p", 4096, "-n", 256]
    command += ["-r", 2, "-fa", 1, "-o", "json"] + (["-t", subject.threads] if subject.threads else [])
    told = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, env=peers.environment()).stdout)
    for row in told:
        subject.figures.add(f"llama-bench {'pp4096' if row['n_prompt'] else 'tg256'}", row["avg_ts"])


def server(subject: Subject, frames: Sequence[Frame]) -> None:
    import cv2

    figures, files = subject.figures, model(subject.work, subject.name)
    half = frames[::2]
    pngs = [cv2.imencode(".png", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR))[1].tobytes() for frame in half]
    at = [frame.time for frame in half]
    threads = subject.threads or 8
    with peers.server(subject.work, files.text, files.mmproj, threads=threads, context=subject.context) as running:
        running.complete("hello", [], n_predict=8)
        figures.add("llama-server, first", running.first_token(peer_text(running.marker, at, QUESTIONS[0]), pngs, n_predict=1).wall)
        figures.add("llama-server, second", running.first_token(peer_text(running.marker, at, QUESTIONS[1]), pngs, n_predict=1).wall)
        told = running.complete(PROMPT, [], n_predict=256)
        figures.add("llama-server, free text", told["timings"]["predicted_per_second"])
        began = time.perf_counter()
        running.complete(PROMPT, [], n_predict=1000, json_schema=SCHEMA)
        figures.add("llama-server, schema", time.perf_counter() - began)
    with subject.loaded() as loaded:
        figures.add("sage, as llama-server, first", ask(loaded, asked(half, QUESTIONS[0], pairs=False), max_tokens=1))
        figures.add("sage, as llama-server, second", ask(loaded, asked(half, QUESTIONS[1], pairs=False), max_tokens=1))


# ---- the table -----------------------------------------------------------------------------------------------------


def table(subject: Subject) -> None:
    rows = subject.figures.rows

    def value(name: str, part: str = "first_s") -> float | None:
        found = rows.get(name)
        return found[part] if isinstance(found, dict) else found

    def line(about: str, ours: float | None, theirs: float | None, unit: str) -> list[str]:
        def told(number: float | None) -> str:
            return "not measured" if number is None else f"{number:.3g} {unit}"

        return [about, told(ours), told(theirs), f"{ours / theirs:.2f}" if ours and theirs else ""]

    both = value("sage, as llama-server, first"), value("llama-server, first")
    show(
        f"Wall time: {subject.name}, {rows.get('device')}",
        subject.threads or 0,
        ["", "sage", "llama.cpp", "sage / llama.cpp"],
        [
            line("load", value("load"), None, "s"),
            line("frames read", value("frames read alone"), None, "s"),
            line("the same, encoded and prefilled at once", value("frames read, encoded, and prefilled but for the last"), None, "s"),
            line("from frames to first token", value("from frames to first token"), value("llama-server, first"), "s"),
            line("the same slices, encoding and prefill; llama-server", *both, "s"),
            line("second question, same process; llama-server", value("second question, same process"), value("llama-server, second"), "s"),
            line("second question, new process; llama-server", value("second question, new process"), value("llama-server, second"), "s"),
            line("prefill, llama-bench pp4096", value("prefill", "prefill_tok_s"), value("llama-bench pp4096"), "tokens/s"),
            line("free text, llama-bench tg256", value("free text", "output_tok_s"), value("llama-bench tg256"), "tokens/s"),
            line("a reply under a schema, llama-server", value("schema", "total_s"), value("llama-server, schema"), "s"),
            line("wait at the end", value("wait for the prefix at the end"), None, "s"),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--model", choices=["2b", "4b", "8b"], default="4b")
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--threads", type=int, help="default: as sage chooses")
    parser.add_argument("--video", type=Path, help="default: one that is made, two minutes of 720p")
    parser.add_argument("--no-cache", action="store_true", help="without the cache on disk")
    parser.add_argument("--only", nargs="+", choices=["sage", "bench", "texts", "server", "variants"], help="parts to measure")
    options = parser.parse_args()
    name = f"qwen3-vl-{options.model}"
    figures = Figures(options.work / f"wall-{options.model}.json")
    subject = Subject(options.work, name, options.context, options.threads, not options.no_cache, figures)
    model(options.work, name)
    video = Video(options.video or make_video(options.work / "wall.mp4", seconds=120, fps=25, size=(1280, 720)))

    @cache
    def frames() -> tuple[Frame, ...]:
        with subject.loaded() as loaded:
            size = loaded.frame_size(video.width, video.height)
        return tuple(video.frames(uniform_times(video.duration, options.frames), size))

    parts: dict[str, Callable[[], None]] = {
        "sage": lambda: first_and_second(subject, video, options.frames),
        "bench": lambda: bench(subject),
        "texts": lambda: texts(subject),
        "server": lambda: server(subject, frames()),
        "variants": lambda: variants(subject, frames()),
    }
    for part in options.only or parts:
        try:
            parts[part]()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (the other rows are worth having)
            figures.add(f"{part} failed", repr(error)[:300])
    table(subject)


if __name__ == "__main__":
    main()
