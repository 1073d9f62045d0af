"""A second process starts where the first one ended, and only then."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sage_cli.model.base import Prompt, Reply
from sage_cli.model.disk import PREFIXES_LIMIT, ModelCache
from sage_cli.model.llama import LlamaModel
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
    load: Load, folder: Path, prompt: Prompt, *, max_tokens: int = 2, prefixes: int = PREFIXES_LIMIT, **options: object
) -> Reply:
    """One question to a model that finds what earlier ones left in the folder, and leaves its own."""
    model = load(cache=ModelCache(folder, prefixes=prefixes), **options)
    reply = complete(model, prompt, max_tokens=max_tokens)
    model.persist()
    return reply


def test_a_second_question_in_another_process_decodes_only_itself(load: Load, family: str, folder: Path) -> None:
    frames = clip(8, family=family)
    first, second = ask("What is shown?", frames), ask("And who is it?", frames)
    cold = complete(load(), second, max_tokens=16)
    in_a_process(load, folder, first, max_tokens=4)
    warm = in_a_process(load, folder, second, max_tokens=16)
    assert warm.text == cold.text
    assert (warm.usage.images, warm.usage.images_reused) == (4, 4)
    # The question and what closes it, and not a token more; in the same process no more than that either.
    model = load()
    own = 2 + sum(len(model.tokenize(text)) for text in ("And who is it?", "\n", "assistant\n"))
    assert warm.usage.prompt_tokens - warm.usage.prompt_reused == own
    complete(model, first, max_tokens=4)
    same = complete(model, second, max_tokens=4).usage
    assert same.prompt_tokens - same.prompt_reused == own


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


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_entry_is_computed_again(
    load: Load, family: str, folder: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = ask("What?", clip(8, family=family))
    good = in_a_process(load, folder, prompt, max_tokens=16).text
    for path in folder.rglob("*.val"):
        data = path.read_bytes()
        path.write_bytes(damage if damage is not None else data[: len(data) // 2])
    reply = in_a_process(load, folder, prompt, max_tokens=16)
    assert reply.text == good
    assert reply.usage.prompt_reused == 0
    assert "computed again" in caplog.text
    assert in_a_process(load, folder, prompt, max_tokens=4).usage.prompt_reused > 0


def test_a_quick_look_is_not_kept(load: Load, family: str, folder: Path) -> None:
    prompt = ask("What?", clip(2, family=family), pairs=False)
    in_a_process(load, folder, prompt, context_size=4096)
    usage = in_a_process(load, folder, prompt, context_size=4096).usage
    assert (usage.prompt_reused, usage.images_reused) == (0, 2)


def test_what_was_interrupted_leaves_nothing(tiny: TinyModel, family: str, folder: Path) -> None:
    prompt = ask("What?", clip(8, family=family))
    load = partial(LlamaModel, tiny.text, tiny.mmproj, context_size=512, threads=1)
    with pytest.raises(KeyboardInterrupt), load(cache=ModelCache(folder)) as model:
        complete(model, prompt, max_tokens=2)
        raise KeyboardInterrupt
    with load(cache=ModelCache(folder)) as model:
        assert complete(model, prompt, max_tokens=2).usage.prompt_reused == 0
    with load(cache=ModelCache(folder)) as model:
        assert complete(model, prompt, max_tokens=2).usage.prompt_reused > 0


def test_a_damaged_index_is_done_without(load: Load, family: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompt = ask("What?", clip(8, family=family))
    good = in_a_process(load, folder, prompt, max_tokens=8).text
    for path in folder.rglob("cache.db*"):
        path.write_bytes(b"not a database" * 1000)
    with caplog.at_level(logging.WARNING):
        assert in_a_process(load, folder, prompt, max_tokens=8).text == good
    assert "is not used" in caplog.text


def test_a_folder_that_cannot_be_made_is_done_without(load: Load, family: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert complete(load(cache=ModelCache(tmp_path / "file")), ask("What?", clip(2, family=family)), max_tokens=4).text


def test_the_stores_keep_to_their_limits(folder: Path) -> None:
    limit, index = 16 << 20, 8 << 20  # the index has a size of its own
    cache = ModelCache(folder, embeddings=limit, prefixes=0)
    shape = (1000, 128)
    for number in range(100):
        cache.keep_embedding(f"frame {number}", np.full(shape, number, np.float32))
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < limit + index
    found = [cache.embedding(f"frame {number}", shape) is not None for number in range(100)]
    assert found[-1]
    assert 10 < sum(found) < 50
    assert not any(found[:50])


def test_a_prefix_too_large_for_the_store_is_not_written(folder: Path) -> None:
    cache = ModelCache(folder, prefixes=1000)
    cache.keep_prefix("key", 600, lambda path: pytest.fail("written"))
    assert not cache.prefix("key", lambda path: True)
