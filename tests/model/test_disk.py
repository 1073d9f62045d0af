"""A second process starts where the first one ended, and only then."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from sage_cli.model.base import Delta, Progress, Prompt, Reply
from sage_cli.model.disk import PREFIXES_LIMIT, ModelCache, StateFiles
from sage_cli.model.libraries import llama
from sage_cli.model.llama import LlamaModel
from sage_cli.model.prefixes import SEQUENCES
from tests.model.conftest import WRITERS, Load
from tests.model.prompts import ask, clip, complete
from tests.models import TinyModel


@pytest.fixture
def load(load: Load) -> Load:
    """Contexts so small that a prompt with a few frames is worth keeping."""
    return partial(load, context_size=512)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def in_a_process(
    load: Load,
    folder: Path,
    prompt: Prompt,
    *,
    max_tokens: int = 2,
    prefixes: int = PREFIXES_LIMIT,
    everything: bool = True,
    **options: object,
) -> Reply:
    """One question to a model that finds what earlier ones left in the folder, and leaves its own."""
    cache = ModelCache(folder, prefixes=prefixes, everything=everything)
    model = load(cache=cache, **options)
    reply = complete(model, prompt, max_tokens=max_tokens)
    model.persist()
    cache.embeddings.flush()
    return reply


def test_a_second_question_in_another_process_decodes_only_itself(load: Load, family: str, folder: Path) -> None:
    frames = clip(8, family=family)
    first, second = ask("What is shown?", frames), ask("And who is it?", clip(8, family=family))
    cold = complete(load(), second, max_tokens=16)
    in_a_process(load, folder, first, max_tokens=4)
    warm = in_a_process(load, folder, second, max_tokens=16)
    assert warm.text == cold.text
    assert (warm.usage.images, warm.usage.images_reused) == (4, 4)
    # The question and what closes it, and not a token more; in the same process no more than that either.
    model = load()
    own = 2 + sum(len(model._vocabulary.tokenize(text)) for text in ("And who is it?", "\n", "assistant\n"))
    assert warm.usage.prompt_tokens - warm.usage.prompt_reused == own
    complete(model, first, max_tokens=4)
    same = complete(model, second, max_tokens=4).usage
    assert same.prompt_tokens - same.prompt_reused == own


def test_a_prefix_takes_the_place_of_a_shorter_one(load: Load, family: str, folder: Path) -> None:
    prompt = ask("What?", clip(16, family=family))
    good = in_a_process(load, folder, prompt, max_tokens=16)
    model = load(cache=ModelCache(folder, everything=True))
    complete(model, ask("What?", clip(14, family=family)), max_tokens=2)
    warm = complete(model, prompt, max_tokens=16)
    assert warm.text == good.text
    again = complete(model, ask("Who?", clip(16, family=family)), max_tokens=2)
    for usage in (warm.usage, again.usage):
        assert usage.prompt_tokens - usage.prompt_reused < 20  # the question


def test_a_prefix_that_a_sequence_holds_is_not_read(load: Load, family: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = clip(8, family=family)
    model = load(cache=ModelCache(folder, everything=True))
    complete(model, ask("What?", frames), max_tokens=2)
    model.persist()
    (path,) = folder.rglob("*.state")
    path.write_bytes(b"garbage")
    assert complete(model, ask("Who?", frames), max_tokens=2).usage.prompt_reused > 0
    assert not caplog.text


def test_room_is_made_for_a_prefix(load: Load, family: str, folder: Path) -> None:
    prompt = ask("What?", clip(16, family=family))
    good = in_a_process(load, folder, prompt, max_tokens=8)
    model = load(cache=ModelCache(folder, everything=True))
    for number in range(3):
        complete(model, ask("word " * 25, system=f"Role {number}."), max_tokens=2)
    warm = complete(model, prompt, max_tokens=8)
    assert warm.text == good.text
    assert warm.usage.prompt_reused > 0


def test_a_prefix_is_written_once_and_its_size_is_known_before(
    load: Load, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, wants = [], StateFiles.wants

    def noted(self: StateFiles, key: str, size: int, spent_s: float) -> bool:
        sizes.append(size)
        return wants(self, key, size, spent_s)

    monkeypatch.setattr(StateFiles, "wants", noted)
    in_a_process(load, folder, ask("What?", clip(8, family=family)))
    (path,) = folder.rglob("*.state")
    before = path.stat()
    assert 0.9 * before.st_size < sizes[0] <= before.st_size
    in_a_process(load, folder, ask("Who?", clip(8, family=family)))
    assert path.stat().st_ino == before.st_ino
    assert len(sizes) == 2


def test_a_reply_does_not_wait_for_the_writing_of_its_prefix(
    load: Load, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, replied, order = llama.llama_state_seq_save_file, Event(), []

    def patient(*arguments: Any) -> int:
        saved = save(*arguments)
        replied.wait(5)
        order.append("written")
        return int(saved)

    monkeypatch.setattr(llama, "llama_state_seq_save_file", patient)
    model = load(cache=ModelCache(folder, everything=True))
    complete(model, ask("What?", clip(4, family=family)), max_tokens=8)
    order.append("replied")
    replied.set()
    model.persist()
    assert order == ["replied", "written"]


def test_cells_that_only_a_saved_prefix_holds_are_freed_for_the_next_prompt(load: Load, family: str, folder: Path) -> None:
    model = load(cache=ModelCache(folder, everything=True))
    complete(model, ask("What?", clip(16, family=family)), max_tokens=2)
    assert complete(model, ask("word " * 80, system="Another role."), max_tokens=2).text


def test_one_prefix_is_written_after_the_other(load: Load, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share the sequence from which they are written."""
    save, order = llama.llama_state_seq_save_file, []

    def slow(*arguments: Any) -> int:
        order.append("begin")
        saved = save(*arguments)
        time.sleep(0.1)
        order.append("end")
        return int(saved)

    monkeypatch.setattr(llama, "llama_state_seq_save_file", slow)
    model = load(cache=ModelCache(folder, everything=True))
    for name in ("one", "other"):
        complete(model, ask("What?", clip(4, family=family, name=name)), max_tokens=2)
    model.close()
    assert order == ["begin", "end"] * 2
    assert len(list(folder.rglob("*.state"))) == 2


def test_frames_met_before_are_not_encoded_in_another_prompt(load: Load, family: str, folder: Path) -> None:
    in_a_process(load, folder, ask("What?", clip(8, family=family)), prefixes=0)
    prompt = ask("What?", clip(4, family=family, first=2), system="Another role.")
    cold = complete(load(), prompt, max_tokens=16)
    warm = in_a_process(load, folder, prompt, prefixes=0, max_tokens=16)
    assert warm.text == cold.text
    assert (warm.usage.images_reused, warm.usage.prompt_reused) == (2, 0)


@pytest.mark.parametrize("limit", [0, 1 << 30])
def test_frames_are_encoded_once_in_a_process_whether_they_can_be_kept_or_not(load: Load, family: str, folder: Path, limit: int) -> None:
    model = load(cache=ModelCache(folder, embeddings=limit, prefixes=0))
    frames = clip(8, family=family)
    first = complete(model, ask("What?", frames), max_tokens=2).usage
    other = complete(model, ask("What?", frames, system="Another role."), max_tokens=2).usage
    assert (first.images_reused, other.images_reused) == (0, 4)


def test_nothing_else_is_ever_a_hit(load: Load, family: str, folder: Path, tmp_path: Path) -> None:
    prompt = ask("What?", clip(8, family=family))
    in_a_process(load, folder, prompt)

    def reused(prompt: Prompt = prompt, load: Load = load, **options: object) -> tuple[int, int]:
        usage = in_a_process(load, folder, prompt, **options).usage  # type: ignore[arg-type]
        return usage.prompt_reused, usage.images_reused

    other = WRITERS[family](tmp_path / "other", seed=1)
    assert reused(ask("What?", clip(8, family=family, name="edited"))) == (0, 0)
    assert reused(ask("What?", clip(8, family=family), pairs=False)) == (0, 0)
    assert reused(kv_type="q8_0") == (0, 4)  # the cells are others, the frames are the same
    assert reused(load=partial(LlamaModel, other.text, other.mmproj, context_size=512, threads=1)) == (0, 0)
    assert reused()[0] > 0


def test_the_model_may_have_another_name(tiny: TinyModel, family: str, folder: Path, tmp_path: Path) -> None:
    renamed = [tmp_path / f"renamed-{path.name}" for path in (tiny.text, tiny.mmproj)]
    for path, copy in zip((tiny.text, tiny.mmproj), renamed, strict=True):
        copy.write_bytes(path.read_bytes())
    prompt = ask("What?", clip(8, family=family))
    for (text, mmproj), hit in (((tiny.text, tiny.mmproj), False), (renamed, True)):
        load = partial(LlamaModel, text, mmproj, context_size=512, threads=1)
        assert (in_a_process(load, folder, prompt).usage.prompt_reused > 0) == hit


def flipped(data: bytes, at: float) -> bytes:
    """With one bit of the byte at that share of the length changed."""
    place = min(len(data) - 1, int(len(data) * at))
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"garbage",
    "half": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "the inside is missing": lambda data: data[:-500] + data[-100:],
    "longer": lambda data: data + b"more",
    **{f"bit at {share}": partial(flipped, at=share) for share in (0.0, 0.01, 0.3, 0.777, 0.95, 1.0)},
}


@pytest.mark.parametrize("family", ["qwen3-vl"], indirect=True)  # a file is one to whoever checks it
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_prefix_is_computed_again(load: Load, family: str, folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    prompt = ask("What?", clip(8, family=family))
    good = in_a_process(load, folder, prompt, max_tokens=16).text
    (path,) = folder.rglob("*.state")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    reply = in_a_process(load, folder, prompt, max_tokens=16)
    assert reply.text == good
    assert (reply.usage.prompt_reused, reply.usage.images_reused) == (0, 4)  # the embeddings are whole
    assert "has damaged entries" in caplog.text
    assert in_a_process(load, folder, prompt, max_tokens=4).usage.prompt_reused > 0


def test_the_prefix_of_another_prompt_is_computed_again(
    load: Load, family: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, and under the wrong name."""
    prompts = ask("What?", clip(8, family=family)), ask("What?", clip(8, family=family, name="other"))
    good = [in_a_process(load, folder, prompt, max_tokens=16).text for prompt in prompts]
    one, two = folder.rglob("*.state")
    one.rename(tmp_path / "spare")
    two.rename(one)
    (tmp_path / "spare").rename(two)
    for number, prompt in enumerate(prompts):
        reply = in_a_process(load, folder, prompt, max_tokens=16)
        assert (reply.text, reply.usage.prompt_reused) == (good[number], 0)
    assert caplog.text.count("has damaged entries") == 2
    assert [in_a_process(load, folder, prompt, max_tokens=16).usage.prompt_reused > 0 for prompt in prompts] == [True, True]


def test_damaged_embeddings_are_computed_again(load: Load, family: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = ask("What?", clip(8, family=family))
    good = in_a_process(load, folder, prompt, prefixes=0, max_tokens=16).text
    with closing(sqlite3.connect(folder / "embeddings" / "cache.db")) as index, index:
        rows = index.execute("SELECT rowid, value FROM Cache WHERE value IS NOT NULL").fetchall()
        for number, (row, value) in enumerate(rows):
            damage = list(DAMAGES.values())[number % len(DAMAGES)]
            index.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (damage(value), row))
    for number, path in enumerate(folder.rglob("*.val")):
        path.write_bytes(list(DAMAGES.values())[number % len(DAMAGES)](path.read_bytes()))
    reply = in_a_process(load, folder, prompt, prefixes=0, max_tokens=16)
    assert reply.text == good
    assert (reply.usage.prompt_reused, reply.usage.images_reused) == (0, 0)
    assert "has damaged entries" in caplog.text


def test_what_is_quick_to_compute_is_not_kept(folder: Path) -> None:
    files = ModelCache(folder).prefixes
    assert [files.wants("key", 1 << 30, spent_s) for spent_s in (0.5, 2.0)] == [False, True]
    assert [files.wants("key", 1000, spent_s) for spent_s in (0.05, 0.2)] == [False, True]


def test_embeddings_are_written_only_where_encoding_is_slower_than_reading(folder: Path) -> None:
    shape = (100, 128)
    cache = ModelCache(folder)
    assert cache.embeddings.read_s is None
    cache.embeddings.keep("first", np.ones(shape, np.float16), encode_s=1e-9)  # to see how fast it is read
    cache.embeddings.flush()
    assert cache.embeddings.read_s is not None
    cache.embeddings.keep("quick", np.ones(shape, np.float16), encode_s=cache.embeddings.read_s)
    assert not cache.embeddings.keeps
    cache.embeddings.keep("slow", np.ones(shape, np.float16), encode_s=1000 * cache.embeddings.read_s)
    assert cache.embeddings.keeps
    cache.embeddings.flush()
    assert [cache.embeddings.get(key, shape) is not None for key in ("first", "quick", "slow")] == [True, False, True]


def test_what_was_interrupted_is_computed_again_or_right(tiny: TinyModel, family: str, folder: Path) -> None:
    prompt = ask("What?", clip(8, family=family))
    load = partial(LlamaModel, tiny.text, tiny.mmproj, context_size=512, threads=1)
    with load() as model:
        good = complete(model, prompt, max_tokens=8).text
    for kind in Progress, Delta:
        with (
            pytest.raises(KeyboardInterrupt),
            load(cache=ModelCache(folder)) as model,
            closing(model.stream(prompt, max_tokens=8)) as items,
        ):
            for item in items:
                if isinstance(item, kind):
                    raise KeyboardInterrupt
        assert not list(folder.rglob("*.part"))
        with load(cache=ModelCache(folder)) as model:
            assert complete(model, prompt, max_tokens=8).text == good


def test_a_prefix_is_written_while_the_reply_is_decoded(load: Load, family: str, folder: Path) -> None:
    """What is written is the video as it was, whatever is decoded meanwhile."""
    prompt, other = ask("What?", clip(8, family=family)), ask("Word " * 60, clip(6, family=family, name="other"))
    good = complete(load(), prompt, max_tokens=8).text
    model = load(cache=ModelCache(folder, everything=True))
    for number in range(6):
        complete(model, prompt if number % 2 == 0 else other, max_tokens=60, temperature=1.0, seed=number)
    model.close()
    assert len(list(folder.rglob("*.state"))) == 2
    reply = in_a_process(load, folder, prompt, max_tokens=8)
    assert reply.usage.prompt_reused > 0
    assert reply.text == good


def test_a_damaged_index_is_done_without(load: Load, family: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = ask("What?", clip(8, family=family))
    good = in_a_process(load, folder, prompt, prefixes=0, max_tokens=8).text
    for path in folder.rglob("cache.db*"):
        path.write_bytes(b"not a database" * 1000)
    with caplog.at_level(logging.WARNING):
        assert in_a_process(load, folder, prompt, prefixes=0, max_tokens=8).text == good
    assert "has damaged entries" in caplog.text


@pytest.mark.parametrize("place", ["file", "cache"])
def test_saving_leaves_no_cells_taken_nor_needs_its_folder(load: Load, family: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    model = load(cache=ModelCache(tmp_path / place, everything=True))
    assert complete(model, ask("What?", clip(2, family=family)), max_tokens=4).text
    model.persist()
    assert len(list(tmp_path.rglob("*.state"))) == (place == "cache")
    memory = llama.llama_get_memory(model._opened()[0].context)
    assert [sequence for sequence in range(SEQUENCES) if llama.llama_memory_seq_pos_max(memory, sequence) >= 0] == [0]


def test_cells_that_cannot_be_read_beside_other_work_are_written_first(
    load: Load, family: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(cache=ModelCache(folder, everything=True))
    monkeypatch.setattr(model._prefixes, "_concurrent", False)
    stream = model.stream(ask("What?", clip(8, family=family)), max_tokens=8)
    written = [len(list(folder.rglob("*.state"))) for item in stream if isinstance(item, Delta)]
    assert written[0] == 0
    assert set(written[1:]) == {1}


def test_the_stores_keep_to_their_limits(folder: Path) -> None:
    limit, index = 16 << 20, 8 << 20  # the index has a size of its own
    cache = ModelCache(folder, embeddings=limit, prefixes=0)
    shape = (1000, 128)
    for number in range(100):
        cache.embeddings.keep(f"frame {number}", np.full(shape, number, np.float32), encode_s=60.0)
        cache.embeddings.flush()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < limit + index
    found = [cache.embeddings.get(f"frame {number}", shape) is not None for number in range(100)]
    assert found[-1]
    assert 10 < sum(found) < 50
    assert not any(found[:50])


def test_a_prefix_too_large_for_the_store_is_not_written(folder: Path) -> None:
    files = ModelCache(folder, prefixes=1000).prefixes
    assert [files.wants("key", size, spent_s=9.0) for size in (400, 600)] == [True, False]
    everything = ModelCache(folder, prefixes=1000, everything=True).prefixes
    assert [everything.wants("key", size, spent_s=0.0) for size in (600, 1600)] == [True, False]


def test_a_prefix_in_a_folder_that_cannot_be_written_to_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, key = ModelCache(folder, prefixes=5000, everything=True).prefixes, f"{'0' * 24}-{'d' * 32}"
    saving = files.save(key, 1000, 100, lambda path: path.write_bytes(bytes(1000)) == 1000)
    assert saving is not None
    saving.wait()

    def read_only(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("sage_cli.model.disk.os.utime", read_only)
    assert files.load(key, lambda path: True)


def test_the_longest_unused_prefixes_go_first(folder: Path) -> None:
    files = ModelCache(folder, prefixes=5000, everything=True).prefixes

    def write(path: Path) -> bool:
        return path.write_bytes(bytes(1000)) == 1000

    keys = [f"{number:024x}-{'d' * 32}" for number in range(8)]
    for number, key in enumerate(keys):
        saving = files.save(key, 1000, 100, write)
        assert saving is not None
        saving.wait()
        os.utime(folder / "prefixes" / f"{key}.state", (number, number))
        assert files.load(keys[0], lambda path: True)  # used again every time
    assert sorted(path.stem for path in folder.rglob("*.state")) == [keys[number] for number in (0, 5, 6, 7)]


def test_a_full_disk_costs_nothing_but_the_prefix(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = ModelCache(folder, everything=True).prefixes
    for write in (lambda path: False, lambda path: path.write_bytes(bytes(10)) == 10):  # llama.cpp fails, or the last bytes do not fit
        saving = files.save("key", 1000, 100, write)
        if saving is not None:
            saving.wait()
    assert caplog.text.count("prefixes is not used") == 1
    assert not list(folder.rglob("*.state")) + list(folder.rglob("*.part"))
