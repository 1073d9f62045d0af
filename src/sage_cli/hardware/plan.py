"""The memory plan: frames, context size, KV cache type and GPU layers for a model on this machine.

A conservative estimate: the sizes of weights, vision encoder and KV cache are exact, everything else is assumed to take
:data:`OVERHEAD`. Nothing is measured; the numbers come from a model's header and from the system.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

from rich.filesize import decimal

from sage_cli.store.gguf import number, read_metadata
from sage_cli.store.models import ModelFiles, shards

KVType: TypeAlias = Literal["f16", "q8_0"]

GIB: Final = 1 << 30
OVERHEAD: Final = 900 << 20  # compute buffers of both models, embeddings of the frames, Python and its libraries
LEAST_CONTEXT: Final = 4096  # the instructions, a few frames and a reply

# Frames of the first look, context, KV type: the reference's settings first, then what gives up least for the memory it saves. A frame
# pair takes some 90 tokens, the instructions and a reply 4000.
LADDER: Final[tuple[tuple[int, int, KVType], ...]] = (
    (128, 16384, "f16"),
    (128, 16384, "q8_0"),
    (128, 12288, "q8_0"),
    (64, 8192, "q8_0"),
    (32, 6144, "q8_0"),
    (16, LEAST_CONTEXT, "q8_0"),
)
_KV_SHARE: Final[dict[KVType, float]] = {"f16": 1.0, "q8_0": 34 / 64}  # 32 numbers in 34 bytes

# A CPU takes seconds per frame pair where a GPU takes milliseconds, so use fewer frames.
_FRAMES_PER_CORE: Final = 8


@dataclass(frozen=True, slots=True)
class Machine:
    """The resources of a machine.

    Attributes:
        memory: available bytes of main memory.
        gpu: bytes of free memory of the largest GPU that llama.cpp can use; 0 without one.
        cores: CPU cores this process may use.
        name: of the GPU, or of the CPU.
    """

    memory: int
    gpu: int
    cores: int
    name: str


@dataclass(frozen=True)
class Needs:
    """The memory that a model needs, in bytes.

    Attributes:
        weights: of the language model.
        vision: of the vision encoder.
        kv: per token of context in the KV cache, at 16 bits.
        layers: of the language model.
        limit: the longest context it was trained for.
    """

    weights: int
    vision: int
    kv: int
    layers: int
    limit: int

    @classmethod
    def of(cls, files: ModelFiles) -> Needs:
        """Read from the header of a model on disk.

        Raises:
            ModelError: the header is broken.
        """
        header = read_metadata(files.text)
        family = header.get("general.architecture")
        heads = number(header, f"{family}.attention.head_count", 1)
        size = number(header, f"{family}.attention.key_length", number(header, f"{family}.embedding_length", 0) // max(1, heads))
        layers = number(header, f"{family}.block_count", 1)
        kv = 2 * 2 * layers * number(header, f"{family}.attention.head_count_kv", heads) * size
        weights = sum(path.stat().st_size for path in shards(files.text))
        return cls(weights, files.mmproj.stat().st_size, kv, layers, number(header, f"{family}.context_length", 32768))

    def beside(self, gpu_layers: int | None) -> int:
        """Weights that stay in main memory with that many layers on the GPU; ``None`` for all."""
        return 0 if gpu_layers is None else self.weights * max(0, self.layers - gpu_layers) // max(1, self.layers)

    def total(self, context: int, kv_type: KVType) -> int:
        return self.weights + self.vision + int(self.kv * _KV_SHARE[kv_type] * context)


@dataclass(frozen=True)
class MemoryPlan:
    """Settings for a model on a machine.

    Attributes:
        frames: maximum frames of the first look.
        context: in tokens.
        gpu_layers: layers to put on the GPU; ``None`` for all.
        bytes: estimated memory use.
        fits: whether that much is available.
        reduced: whether a setting is lower than on a machine without limits.
    """

    frames: int
    context: int
    kv_type: KVType
    gpu_layers: int | None
    bytes: int
    fits: bool
    machine: Machine
    reduced: bool

    @cached_property
    def text(self) -> str:
        """In words."""
        place = f"{self.machine.name}, {decimal(self.machine.gpu or self.machine.memory)} free"
        layers = "" if self.gpu_layers is None else f", {self.gpu_layers} layers on the GPU"
        settings = f"{self.frames} frames, context {self.context}, KV cache {self.kv_type}{layers}"
        return f"{settings}: about {decimal(self.bytes)} of memory ({place})"


def plan_memory(
    needs: Needs,
    machine: Machine,
    *,
    frames: int | None = None,
    context: int | None = None,
    kv_type: KVType | None = None,
    gpu_layers: int | None = None,
) -> MemoryPlan:
    """Choose the settings that the user left open.

    Takes the first rung of the ladder that fits the GPU's memory, or main memory without a GPU. If not even the last rung fits the GPU, as
    many layers as fit are placed there, and the rest of the model in main memory. A number of layers that was given stays as it is.
    """
    on_gpu = machine.gpu > 0 and gpu_layers != 0
    room = machine.gpu if on_gpu else machine.memory
    beside = needs.beside(gpu_layers) if on_gpu else 0
    most = LADDER[0][0] if on_gpu else max(16, _FRAMES_PER_CORE * machine.cores)

    def rung(number: int) -> tuple[int, int, KVType, int]:
        ladder_frames, ladder_context, ladder_kv = LADDER[number]
        chosen = context or min(ladder_context, needs.limit)
        kind = kv_type or ladder_kv
        return frames or min(ladder_frames, most), chosen, kind, needs.total(chosen, kind) + OVERHEAD

    rungs = [rung(number) for number in range(len(LADDER))]
    found = next((number for number, (*_, size) in enumerate(rungs) if size - beside <= room and beside <= machine.memory), None)
    layers = gpu_layers
    if found is None and on_gpu and gpu_layers is None:
        # The vision encoder and the KV cache stay on the GPU: a first look spends most of its time on them.
        found = next((number for number, (*_, size) in enumerate(rungs) if size <= machine.memory + machine.gpu), None)
        *_, size = rungs[found if found is not None else -1]
        spare = room - (size - needs.weights)
        layers = max(0, spare * needs.layers // max(1, needs.weights))
    chosen_frames, chosen_context, chosen_kv, size = rungs[found if found is not None else -1]
    less = found != 0 or (frames is None and chosen_frames < LADDER[0][0])
    return MemoryPlan(chosen_frames, chosen_context, chosen_kv, layers, size, found is not None, machine, less)


def speech_memory(size: int) -> int:
    """Bytes that Whisper takes, given the size of its file: its buffers grow with the model."""
    return size * 3 // 2 + (300 << 20)
