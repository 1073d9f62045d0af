"""llama.cpp's logging, its interruption by signals, and loading its weights and contexts.

llama.cpp prints to stderr by itself; here its output goes to :mod:`logging` (``sage_cli.llama``), which ``--verbose`` shows.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from sage_cli.errors import ModelError
from sage_cli.model.libraries import llama, mtmd
from sage_cli.nativelog import LogLine, NativeLog
from sage_cli.signals import Handler, interrupted, signals_held

logger = logging.getLogger("sage_cli.llama")
logger.addHandler(logging.NullHandler())  # silent unless the program that uses us sets logging up

# ---- logging -------------------------------------------------------------------------------------------------------

log = NativeLog(logger)


def _take(level: int, text: bytes | None, _data: object) -> None:
    log.take(level, (text or b"").decode("utf-8", "replace"))


_log_callback = llama.llama_log_callback(_take)  # referenced here for as long as llama.cpp may call it


def route_logs() -> None:
    """Send all output of llama.cpp and mtmd to :mod:`logging`. Safe to call again."""
    nothing = ctypes.c_void_p(0)
    llama.llama_log_set(_log_callback, nothing)
    mtmd.mtmd_log_set(_log_callback, nothing)
    mtmd.mtmd_helper_log_set(_log_callback, nothing)


# ---- signals -------------------------------------------------------------------------------------------------------


T = TypeVar("T")
_helping: ContextVar[bool] = ContextVar("helping", default=False)

_PART_NODES: Final = 32  # of some 500 to 1000 that the vision encoder's graph has


class Interruptible:
    """Makes long native calls stop on Ctrl-C and the other signals that end a process.

    Python runs a signal handler only between bytecodes, so inside one call that takes seconds a signal would go unheard, and an exception
    raised inside a ctypes callback is lost. So during the call signals only set a flag, which llama.cpp's callbacks read while a graph is
    computed or a model is loaded. The real handler is called after the call has returned and its state has been put in order.
    Other threads are interrupted as :func:`sage_cli.signals.interrupted_by` says.

    Attributes:
        abort_callback: of a llama.cpp context.
        progress_callback: of loading a model.
        eval_callback: of a scheduler without an abort callback, such as the vision encoder's. It cuts a graph into parts that are computed
            one after the other, so it is for CPUs alone. Call :meth:`begin_graph` before each graph, so that all are cut alike.
    """

    def __init__(self) -> None:
        self._requested = False
        self.abort_callback = llama.ggml_abort_callback(lambda _data: self.requested)
        self.progress_callback = llama.llama_progress_callback(lambda _share, _data: not self.requested)
        self.eval_callback = llama.ggml_backend_sched_eval_callback(self._evaluate)
        self._nodes = 0

    def begin_graph(self) -> None:
        self._nodes = 0

    def _evaluate(self, _tensor: object, ask: bool, _data: object) -> bool:
        """Asked before the nodes of a part whether to stop after them, told after a part; false ends the graph."""
        if ask:
            self._nodes += 1
            return self._nodes % _PART_NODES == 0
        return not self.requested

    def interrupt(self) -> None:
        """From any thread: stop the call under way, or the next one; the thread that makes it gets a KeyboardInterrupt."""
        self._requested = True

    @property
    def requested(self) -> bool:
        """Whether the call under way is to stop, and its result may be half made."""
        return self._requested or interrupted()

    def clear(self) -> None:
        """Discard an interrupt that came too late."""
        self._requested = False

    def check(self) -> None:
        """After a native call.

        Raises:
            KeyboardInterrupt: it is to end.
        """
        if self.requested and not _helping.get():
            self._requested = False
            raise KeyboardInterrupt

    def helped(self, work: Callable[[], T]) -> T:
        """Do work for a thread that waits for it under the guard: a signal or interrupt ends its calls, and that thread raises.

        Run it in a copy of that thread's context.
        """
        _helping.set(True)
        return work()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Guards a native call."""
        if _helping.get():
            yield
            return
        if threading.current_thread() is not threading.main_thread():
            try:
                yield
            finally:
                self.check()
            return
        came: Mapping[signal.Signals, Handler] = {}
        try:
            with signals_held(self.interrupt) as came:
                yield
        finally:
            requested, self._requested = self._requested, False
            if requested and not came:
                raise KeyboardInterrupt


# ---- weights and contexts ------------------------------------------------------------------------------------------


def c_array(values: Any, kind: Any) -> Any:
    """A contiguous numpy array as the ctypes pointer of ``kind``; the caller keeps the array alive."""
    return values.ctypes.data_as(ctypes.POINTER(kind))


KVType: TypeAlias = Literal["f32", "f16", "q8_0"]
_KV_TYPES: Final = {"f32": llama.GGML_TYPE_F32, "f16": llama.GGML_TYPE_F16, "q8_0": llama.GGML_TYPE_Q8_0}


def load_weights(path: Path, gpu_layers: int | None, interruptible: Interruptible) -> tuple[Any, str]:
    """``llama_model *`` and where it runs. Call it under the guard of ``interruptible``, which then ends the loading.

    Raises:
        ModelError: it cannot be loaded.
    """
    params = llama.llama_model_default_params()
    params.n_gpu_layers = -1 if gpu_layers is None else gpu_layers
    params.progress_callback = interruptible.progress_callback
    with log.lines() as lines:
        model = llama.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        reason = next((line.text.partition("error loading model: ")[2] for line in lines if "error loading model: " in line.text), "")
        raise ModelError(f"{path}: cannot be loaded{f' ({reason})' if reason else ''}; the file may be damaged: download it again")
    return model, _device(lines)


def _device(lines: Sequence[LogLine]) -> str:
    """The devices of the layers, from what llama.cpp logged (llama_model::load_tensors)."""
    names = [match[1] for line in lines if (match := re.search(r"using device (\S+)", line.text))]
    offloaded = next((match for line in lines if (match := re.search(r"offloaded (\d+)/(\d+) layers to GPU", line.text))), None)
    if not names or offloaded is None or offloaded[1] == "0":
        return "CPU"
    share = "" if offloaded[1] == offloaded[2] else f" ({offloaded[1]} of {offloaded[2]} layers)"
    return "+".join(names) + share


def make_context(
    model: Any,
    *,
    n_ctx: int,
    n_threads: int,
    capacity: int,
    n_sequences: int,
    kv_type: KVType,
    flash_attention: bool,
    offload: bool,
) -> Any:
    """``llama_context *``, for batches of ``capacity`` cells.

    Raises:
        ModelError: out of memory.
    """
    params = llama.llama_context_default_params()
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = capacity
    params.n_seq_max = n_sequences
    # Logits of a batch's last token are all that is looked at. The default reserves memory for those of every token: 0.6 MB each.
    params.n_outputs_max = n_sequences
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = n_threads
    params.type_k = params.type_v = _KV_TYPES[kv_type]
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_AUTO if flash_attention else llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.offload_kqv = params.op_offload = offload
    params.no_perf = True
    context = llama.llama_init_from_model(model, params)
    if not context:
        raise ModelError(f"no memory for a context of {n_ctx} tokens ({kv_type} KV cache); use a smaller --ctx-size or --kv-type q8_0")
    return context
