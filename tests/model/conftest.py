from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from sage_cli.model.llama import LlamaModel
from tests.models import TinyModel, write_qwen2_5_vl, write_qwen3_vl

WRITERS = {"qwen3-vl": write_qwen3_vl, "qwen2.5-vl": write_qwen2_5_vl}
Load: TypeAlias = Callable[..., LlamaModel]


@pytest.fixture(scope="session", params=WRITERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def tiny(family: str, tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    return WRITERS[family](tmp_path_factory.mktemp(family))


@pytest.fixture
def load(tiny: TinyModel) -> Iterator[Load]:
    """Loads the tiny model of the family with whatever options; closed at the end of the test."""
    opened: list[LlamaModel] = []

    def load(**options: object) -> LlamaModel:
        opened.append(LlamaModel(tiny.text, tiny.mmproj, **{"context_size": 2048, "threads": 1, **options}))  # type: ignore[arg-type]
        return opened[-1]

    yield load
    for model in opened:
        model.close()
