"""Saved KV prefixes: prompts up to the last frame of their video, so that a later process need not prefill them again.

llama.cpp writes and reads the KV cells of one sequence (``llama_state_seq_save_file``). Writing continues while the reply is decoded. For
that the prefix gets a sequence of its own that shares the cells: they stay unchanged, whatever happens to the sequence of the reply.
llama.cpp reads its list of cells only before it copies their contents, and decoding waits for that.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sage_cli.model.batches import Boundary, cells_of, end_of_frames
from sage_cli.model.decoder import Decoder
from sage_cli.model.disk import Saving, StateFiles
from sage_cli.model.kvcache import MAX_SEQUENCES, CachedSequence
from sage_cli.model.libraries import llama
from sage_cli.model.qwen import Item, VisionBlock, item_positions
from sage_cli.signals import signals_held

SEQUENCES: Final = MAX_SEQUENCES + 1  # that a context needs
_SPARE: Final = MAX_SEQUENCES  # id of the sequence that is being written
_CELL_HEAD: Final = 32  # more bytes than llama.cpp writes about a cell before the first contents


class Prefixes:
    """Saves and restores the prefixes of one model's prompts.

    Args:
        decoder: of the model; holds :data:`SEQUENCES` sequences.
        files: where to store them.
        identity: identifies everything the cells depend on, except the prompt.
        concurrent: whether cells may be read while the device computes. If not, :meth:`finish` writes them.
    """

    def __init__(self, decoder: Decoder, files: StateFiles, identity: str, *, concurrent: bool) -> None:
        self._decoder, self._files, self._identity, self._concurrent = decoder, files, identity, concurrent
        self._saving: Saving | None = None

    def restore(self, sequence: CachedSequence, items: Sequence[Item]) -> None:
        """Load the prefix into the sequence if it is on disk and longer than what the sequence holds."""
        end = end_of_frames(items)
        if end <= len(sequence.items):
            return
        cache = self._decoder.cache

        def load(path: Path) -> bool:
            cache.truncate(sequence, 0)
            tokens, count = (llama.llama_token * 1)(), ctypes.c_size_t(0)
            arguments = (self._decoder.context, os.fsencode(path), sequence.id, tokens, 1, ctypes.byref(count))
            while not (loaded := llama.llama_state_seq_load_file(*arguments)) and cache.make_room(sequence):
                pass
            return bool(loaded)

        if self._files.load(self._key(items[:end]), load):
            for item in items[:end]:
                sequence.push(item)
            sequence.boundaries.append(Boundary(end, end))
        elif not sequence.items:
            cache.truncate(sequence, 0)  # what a damaged file may have left

    def keep(self, sequence: CachedSequence, spent_s: float) -> None:
        """Save the sequence up to its last frames in the background, if that pays and is not done yet.

        Args:
            spent_s: seconds spent computing it.
        """
        end = end_of_frames(sequence.items)
        items = sequence.items[:end]
        cells = cells_of(items)
        size = cells * self._cell_size(sequence)
        if not end or not self._files.wants(self._key(items), size, spent_s):
            return
        self.finish()
        context, memory = self._decoder.context, llama.llama_get_memory(self._decoder.context)
        llama.llama_memory_seq_cp(memory, sequence.id, _SPARE, 0, sum(map(item_positions, items)))
        none = (llama.llama_token * 1)()

        def write(path: Path) -> bool:
            return bool(llama.llama_state_seq_save_file(context, os.fsencode(path), _SPARE, none, 0))

        key = self._key(items)
        with signals_held():  # the thread must not outlive the context
            self._saving = self._files.save(key, size, 4096 + _CELL_HEAD * cells, write)
        if self._saving is not None:
            if self._concurrent:
                self._saving.wait_for_head()
            else:
                self.finish()
        else:
            self._drop()

    def release(self) -> bool:
        """Once a prefix is saved, free the cells that only the saving held; returns whether there were any."""
        if self._saving is None:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Wait until the current save is complete."""
        if self._saving is not None:
            self._saving.wait()
            self._drop()

    def _drop(self) -> None:
        self._saving = None
        llama.llama_memory_seq_rm(llama.llama_get_memory(self._decoder.context), _SPARE, -1, -1)

    def _cell_size(self, sequence: CachedSequence) -> int:
        """Bytes per cell on disk."""
        return int(llama.llama_state_seq_get_size(self._decoder.context, sequence.id)) // sequence.cells

    def _key(self, items: Sequence[Item]) -> str:
        """The fingerprint of the video whose frames the items end with, and a digest of the model and the items."""
        digest = hashlib.blake2b(self._identity.encode(errors="surrogateescape"), digest_size=16)
        for item in items:
            digest.update(repr(item.identity if isinstance(item, VisionBlock) else item).encode(errors="surrogateescape") + b"\n")
        last = next(item for item in reversed(items) if isinstance(item, VisionBlock))
        return f"{last.slices[-1].frames[-1].media}-{digest.hexdigest()}"
