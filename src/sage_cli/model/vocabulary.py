"""A model's vocabulary: text to tokens and back."""

from __future__ import annotations

import ctypes
from functools import cached_property
from typing import Any

from sage_cli.errors import ModelError, loading
from sage_cli.model.libraries import llama

with loading("llguidance"):
    from llguidance import LLTokenizer

_SPECIAL = b"\xff"  # before the text of a special token, for llguidance


class Vocabulary:
    """The vocabulary of a loaded model (``llama_model *``), which must outlive this object."""

    def __init__(self, model: Any) -> None:
        self._vocab = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._vocab))
        self._buffer = ctypes.create_string_buffer(256)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens spelled out in it are ordinary text (llama_tokenize)."""
        data = text.encode(errors="replace")
        room = len(data) + 8
        buffer = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, room, False, False)
        return list(buffer[:count])

    def control(self, text: str) -> int:
        """The id of a control token by its text.

        Raises:
            ModelError: there is none.
        """
        buffer = (llama.llama_token * 8)()
        data = text.encode()
        count = llama.llama_tokenize(self._vocab, data, len(data), buffer, 8, False, True)
        if count != 1:
            raise ModelError(f"the model's vocabulary has no {text} token: this is not a Qwen-VL chat model")
        return int(buffer[0])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token; of a control token only with ``special``."""
        size = llama.llama_token_to_piece(self._vocab, token, self._buffer, len(self._buffer), 0, special)
        if size < 0:  # a token that is longer
            self._buffer = ctypes.create_string_buffer(-size)
            return self.piece(token, special=special)
        return self._buffer.raw[:size]

    def ends_reply(self, token: int) -> bool:
        """Whether the model stops with this token."""
        return bool(llama.llama_vocab_is_eog(self._vocab, token))

    @cached_property
    def grammar(self) -> LLTokenizer:
        """The vocabulary for llguidance. Takes about a second for 150k tokens, so it is made on first use.

        As ``llguidance.llamacpp.lltokenizer_from_vocab``, which calls a deprecated function of llama-cpp-python for each token.
        """
        made: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
            tokens=[self._grammar_piece(token) for token in range(self.size)],
            vocab_ptr=self._vocab,
            tokenize_fptr=ctypes.cast(llama._lib.llama_tokenize, ctypes.c_void_p).value,
            eos_token=llama.llama_vocab_eos(self._vocab),
            slices=None,
        )
        return made

    def _grammar_piece(self, token: int) -> bytes:
        piece, kind = self.piece(token, special=True), llama.llama_vocab_get_attr(self._vocab, token)
        tagged = kind & llama.LLAMA_TOKEN_ATTR_USER_DEFINED and piece.startswith(b"<") and piece.endswith(b">")
        return _SPECIAL + piece if tagged or kind & llama.LLAMA_TOKEN_ATTR_CONTROL else piece
