"""Memory plans for real models and machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_cli.hardware.plan import GIB, LADDER, OVERHEAD, Machine, MemoryPlan, Needs, plan_memory
from sage_cli.store import ModelFiles
from tests.models import write_qwen3_vl

# From the headers of the released conversions: 36 layers, 8 KV heads of 128, in Q4_K_M, with the F16 encoder.
QWEN_4B = Needs(weights=2_497_000_000, vision=836_000_000, kv=147_456, layers=36, limit=262_144)
QWEN_8B = Needs(weights=5_028_000_000, vision=1_159_000_000, kv=147_456, layers=36, limit=262_144)


def machine(memory: float, gpu: float = 0, cores: int = 8) -> Machine:
    return Machine(int(memory * GIB), int(gpu * GIB), cores, "a machine")


def chosen(found: MemoryPlan) -> tuple[int, int, str, int | None]:
    return found.frames, found.context, found.kv_type, found.gpu_layers


@pytest.mark.parametrize(
    ("needs", "given", "wanted"),
    [
        (QWEN_8B, machine(64, 24), (128, 16384, "f16", None)),
        (QWEN_8B, machine(64, 8.5), (128, 16384, "q8_0", None)),
        (QWEN_8B, machine(64, 7.5), (64, 8192, "q8_0", None)),
        (QWEN_8B, machine(64, 7), (16, 4096, "q8_0", None)),
        (QWEN_4B, machine(16, 6), (128, 16384, "q8_0", None)),
        (QWEN_4B, machine(16, 0, cores=4), (32, 16384, "f16", None)),
        (QWEN_4B, machine(16, 0, cores=32), (128, 16384, "f16", None)),
        (QWEN_4B, machine(16, 0, cores=1), (16, 16384, "f16", None)),
        (QWEN_4B, machine(5, 0), (64, 12288, "q8_0", None)),
    ],
)
def test_the_best_that_fits(needs: Needs, given: Machine, wanted: tuple[int, int, str, int | None]) -> None:
    found = plan_memory(needs, given)
    assert chosen(found) == wanted
    assert found.fits
    assert found.bytes == needs.total(found.context, found.kv_type) + OVERHEAD <= (given.gpu or given.memory)
    assert found.reduced == ((found.frames, found.context, found.kv_type) != LADDER[0])


def test_more_memory_never_gives_less() -> None:
    ranks = [
        next(number for number, rung in enumerate(LADDER) if rung[1:] == (found.context, found.kv_type))
        for tenths in range(20, 200)
        for found in [plan_memory(QWEN_8B, machine(0.1, tenths / 10))]
        if found.fits
    ]
    assert ranks == sorted(ranks, reverse=True)
    assert set(ranks) == set(range(len(LADDER)))


def test_what_the_user_says_holds() -> None:
    small = machine(4)
    assert chosen(plan_memory(QWEN_8B, small, frames=100, context=9000, kv_type="f16", gpu_layers=3)) == (100, 9000, "f16", 3)
    assert plan_memory(QWEN_4B, machine(5), frames=100).frames == 100
    assert plan_memory(QWEN_4B, machine(5), kv_type="f16").context == 6144
    assert plan_memory(QWEN_4B, machine(5), context=16384).kv_type == "q8_0"
    assert not plan_memory(QWEN_4B, machine(64, 24), frames=32).reduced
    assert not plan_memory(QWEN_8B, machine(5), gpu_layers=3).fits, "without a GPU there are no layers on it"
    assert chosen(plan_memory(QWEN_8B, machine(64, 8.5), gpu_layers=99)) == (128, 16384, "q8_0", 99)


def test_a_model_larger_than_the_gpu_is_shared_out() -> None:
    found = plan_memory(QWEN_8B, machine(32, 5))
    assert found.fits
    assert found.gpu_layers is not None
    assert 0 < found.gpu_layers < QWEN_8B.layers
    assert plan_memory(QWEN_8B, machine(32, 2)).gpu_layers == 0
    assert plan_memory(QWEN_8B, machine(32, 1), gpu_layers=0).context == 16384  # then it is a matter of main memory alone
    assert plan_memory(QWEN_8B, machine(3, 5)).fits
    assert not plan_memory(QWEN_8B, machine(1, 5)).fits


def test_a_model_larger_than_the_machine() -> None:
    found = plan_memory(QWEN_8B, machine(4))
    assert not found.fits
    assert chosen(found) == (16, 4096, "q8_0", None)


def test_a_short_trained_context_is_not_passed() -> None:
    assert plan_memory(Needs(1, 1, 1, 1, limit=8192), machine(64)).context == 8192


def test_it_is_told_in_words() -> None:
    assert plan_memory(QWEN_4B, machine(16, 6)).text == (
        "128 frames, context 16384, KV cache q8_0: about 5.6 GB of memory (a machine, 6.4 GB free)"
    )
    assert "layers on the GPU" in plan_memory(QWEN_8B, machine(32, 5)).text
    assert plan_memory(QWEN_4B, machine(16)).text.endswith("(a machine, 17.2 GB free)")


def test_needs_are_read_from_the_header(tmp_path: Path) -> None:
    tiny = write_qwen3_vl(tmp_path)
    needs = Needs.of(ModelFiles(tiny.text, tiny.mmproj))
    from gguf import GGUFReader

    fields = GGUFReader(tiny.text).fields
    read = {name.partition(".")[2]: field.contents() for name, field in fields.items() if name.startswith("qwen")}
    assert needs.weights == tiny.text.stat().st_size
    assert needs.vision == tiny.mmproj.stat().st_size
    assert needs.layers == read["block_count"]
    assert needs.limit == read["context_length"]
    assert needs.kv == 4 * read["block_count"] * read["attention.head_count_kv"] * read["attention.key_length"]


def test_a_header_need_not_tell_the_size_of_a_head(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    header = GGUFWriter(tmp_path / "model.gguf", "qwen2vl")
    header.add_block_count(3)
    header.add_embedding_length(1024)
    header.add_head_count(16)
    header.add_head_count_kv(2)
    header.write_header_to_file()
    header.write_kv_data_to_file()
    header.write_tensors_to_file()
    header.close()
    needs = Needs.of(ModelFiles(tmp_path / "model.gguf", tmp_path / "model.gguf"))
    assert (needs.layers, needs.kv) == (3, 2 * 2 * 3 * 2 * 1024 // 16)


def test_a_number_of_layers_shares_the_weights_between_both_memories() -> None:
    large = Needs(weights=20 * GIB, vision=GIB, kv=147_456, layers=40, limit=262_144)
    given = machine(64, 16)
    automatic = plan_memory(large, given)
    assert automatic.gpu_layers is not None
    found = plan_memory(large, given, gpu_layers=automatic.gpu_layers - 1)
    assert (found.fits, found.frames, found.context) == (True, automatic.frames, automatic.context)
    assert not plan_memory(large, given, gpu_layers=40).fits
    assert not plan_memory(large, machine(4, 16), gpu_layers=10).fits, "what is not on the GPU has to fit main memory"
