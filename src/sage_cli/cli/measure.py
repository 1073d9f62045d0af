"""Quick measurements of this machine's speed: seconds of work, not a benchmark."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sage_cli.hardware.plan import MemoryPlan
    from sage_cli.store import ModelFiles

FRAMES = 8
WIDTH, HEIGHT = 1280, 720
CLIP_SECONDS, CLIP_FPS = 4, 25


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """Speed of a vision-language model.

    Attributes:
        device, vision_device: where its two parts run.
        load_s: seconds to load it.
        encode_s: seconds to encode a pair of frames.
        read_s: seconds to read the embedding of a pair from disk; ``None`` if none can be stored.
        stored: whether embeddings are cached: reading is faster than encoding by enough.
        prefill: prompt tokens per second.
        decode: reply tokens per second.
        pair_tokens: tokens per pair of frames.
    """

    name: str
    device: str
    vision_device: str
    load_s: float
    encode_s: float
    read_s: float | None
    stored: bool
    prefill: float
    decode: float
    pair_tokens: float

    def first_look_s(self, frames: int) -> float:
        """Seconds until the first reply to a question about a new video: some 1800 tokens of instructions, 250 of reply."""
        pairs = frames / 2
        return self.encode_s * pairs + (self.pair_tokens * pairs + 1800) / self.prefill + 250 / self.decode


def measure_model(files: ModelFiles, fit: MemoryPlan, threads: int) -> ModelSpeed:
    """Load a model, encode frames, and generate a reply.

    Raises:
        ModelError: it cannot be loaded.
    """
    import numpy as np

    from sage_cli.model import Frames, Message, Reply, Text
    from sage_cli.model.disk import ModelCache
    from sage_cli.model.llama import LlamaModel
    from sage_cli.store import cache_dir
    from sage_cli.store.private import private_folder
    from sage_cli.store.scratch import scratch_folder
    from sage_cli.video import Frame

    with ExitStack() as stack:
        try:  # on the disk of the real cache, if it is writable
            private_folder(cache_dir())
            folder = stack.enter_context(scratch_folder(cache_dir()))
        except OSError:
            folder = stack.enter_context(scratch_folder())
        cache = stack.enter_context(closing(ModelCache(folder, prefixes=0)))
        began = time.perf_counter()
        model = stack.enter_context(
            LlamaModel(
                files.text,
                files.mmproj,
                context_size=min(fit.context, 8192),
                gpu_layers=fit.gpu_layers,
                threads=threads,
                kv_type=fit.kv_type,
                cache=cache,
            )
        )
        load_s = time.perf_counter() - began
        width, height = model.frame_size(WIDTH, HEIGHT)
        noise = np.random.default_rng(0)
        images = noise.integers(0, 255, (2 * FRAMES, height, width, 3), np.uint8)

        def ask(first: int, words: int) -> Reply:
            frames = tuple(Frame(float(number), images[first + number], f"doctor@{first + number}") for number in range(FRAMES))
            prompt = [Message("user", (Frames(frames), Text("look " * words)))]
            # The schema gives the reply a minimum length.
            *_, reply = model.stream(prompt, schema={"type": "string", "minLength": 100, "maxLength": 200}, max_tokens=64)
            assert isinstance(reply, Reply)
            return reply

        ask(0, 10)  # the first use allocates
        cache.embeddings.flush()
        usage = ask(FRAMES, 400).usage
        prefilled = usage.prompt_tokens - usage.prompt_reused
        text = model.count_tokens([Message("user", (Text("look " * 400),))])
        return ModelSpeed(
            model.info.name,
            model.info.device,
            model.info.vision_device,
            load_s,
            usage.encode_s / max(1, usage.images),
            cache.embeddings.read_s,
            cache.embeddings.keeps,
            prefilled / usage.prefill_s,
            usage.output_tokens / usage.decode_s,
            (usage.prompt_tokens - text) / max(1, usage.images),
        )


def measure_speech(model: Path, threads: int | None) -> tuple[float, str | None]:
    """Seconds of sound that Whisper transcribes per second, and the device that it runs on."""
    import numpy as np

    from sage_cli.speech.options import SpeechOptions
    from sage_cli.speech.whisper import RATE, Whisper

    whisper = Whisper(model, threads=threads)
    noise = np.random.default_rng(0).normal(0, 0.05, whisper.longest).astype(np.float32)
    try:
        whisper.decode(noise[:RATE], SpeechOptions())  # loads it
        began = time.perf_counter()
        whisper.decode(noise, SpeechOptions())
        return len(noise) / RATE / (time.perf_counter() - began), whisper.device
    finally:
        whisper.close()


def measure_decoding(folder: Path) -> tuple[float, str]:
    """Frames of 720p video passed per second while sampling a clip, and the codec."""
    from sage_cli.video import Video, fit_size, uniform_times

    path = folder / "clip.mp4"
    codec = _write_clip(path)
    video = Video(path)
    # As in benchmarks/frames.py: the frames of a first look, without the one-time work for a file.
    times = uniform_times(video.duration, 128)
    size = fit_size(WIDTH, HEIGHT, min_pixels=128 * 28 * 28, max_pixels=192 * 28 * 28, multiple=32)
    for _ in video.frames(times[:1], size):
        pass
    began = time.perf_counter()
    for _ in video.frames(times, size):
        pass
    return CLIP_SECONDS * CLIP_FPS / (time.perf_counter() - began), codec


def _write_clip(path: Path) -> str:
    """A moving pattern, in H.264 if PyAV can write it."""
    import av
    import numpy as np

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=CLIP_FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "ultrafast"}
        for number in range(CLIP_SECONDS * CLIP_FPS):
            shade = ((rows + 3 * number) ^ (columns + 5 * number)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="gray8").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return "H.264" if codec == "libx264" else "MPEG-4"
