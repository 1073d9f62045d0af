from collections.abc import Callable
from pathlib import Path

import pytest
from llama_cpp import Llama

from tests.models import TinyModel, write_qwen2_5_vl, write_qwen3_vl
from tests.models.bpe import CONTROL_TOKENS, vocabulary

Write = Callable[..., TinyModel]


@pytest.mark.parametrize("write", [write_qwen3_vl, write_qwen2_5_vl])
def test_the_seed_decides_every_byte(write: Write, tmp_path: Path) -> None:
    first, again, other = write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "c", seed=1)
    for part in ("text", "mmproj"):
        data = getattr(first, part).read_bytes()
        assert data == getattr(again, part).read_bytes() != getattr(other, part).read_bytes()
        assert len(data) < 700_000


def test_llama_cpp_reads_the_vocabulary(tmp_path: Path) -> None:
    llama = Llama(str(write_qwen3_vl(tmp_path).text), vocab_only=True, verbose=False)
    text = '{"name": "perform_reasoning", "query": "Wer ist das?\\n"} é 漢字 \t\x00 42'
    tokens = llama.tokenize(text.encode(), add_bos=False)
    assert llama.detokenize(tokens).decode() == text
    assert len(tokens) < len(text.encode()) * 0.7
    for token in CONTROL_TOKENS:
        assert llama.tokenize(token.encode(), add_bos=False, special=True) == [vocabulary().id(token)]
        assert len(llama.tokenize(token.encode(), add_bos=False, special=False)) > 1
    assert llama.token_eos() == vocabulary().id("<|im_end|>")
