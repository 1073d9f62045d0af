from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import ref

import numpy as np
import pytest

from sage_cli import nativelog
from sage_cli.errors import ModelError
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.whisper import Whisper, _native, binding, languages
from tests.models.tiny_whisper import TINY, Shape, write_whisper
from tests.speech.sounds import babble, hush


@pytest.fixture(scope="module")
def whisper(model: Path) -> Whisper:
    return Whisper(model, threads=1)


def test_hears_the_grammar(whisper: Whisper) -> None:
    tokens = whisper.decode(babble(30), SpeechOptions())
    said = [token.text.decode().strip() for token in tokens if token.text]
    assert len(said) == TINY.segments * TINY.slots
    assert all(word in slot for word, slot in zip(said, TINY.slot_words, strict=True))
    stamps = [token.time for token in tokens if token.time is not None]
    assert stamps == pytest.approx(sorted([0.0, *(5.6 * n for n in (1, 2, 3, 4, 5)), *(5.6 * n + 0.02 for n in (1, 2, 3, 4))]))
    assert all(-2 < token.logprob <= 0 for token in tokens)


def test_a_window_depends_on_its_own_arguments_only(whisper: Whisper) -> None:
    first, second = babble(8, 1), babble(8, 2)
    alone = whisper.decode(first, SpeechOptions())
    whisper.decode(second, SpeechOptions(beam_size=3), [1000, 2000])
    assert whisper.decode(first, SpeechOptions()) == alone


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space as Linux does")
@pytest.mark.parametrize("limit", [600, 800, 1000, 1200, 1400])
def test_too_little_address_space_is_told_and_not_crashed_into(model: Path, limit: int) -> None:
    code = f"""
import resource, sys
import numpy as np
from sage_cli.errors import ModelError
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.whisper import Whisper
resource.setrlimit(resource.RLIMIT_AS, ({limit} << 20, {limit} << 20))
try:
    whisper = Whisper(sys.argv[1], threads=2)
    whisper.decode(np.zeros(whisper.longest, np.float32), SpeechOptions())
    print("heard")
except ModelError as error:
    print("refused", "ulimit -v" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip() in ("heard", "refused True")) == (0, True), done.stdout + done.stderr


def test_an_abort_leaves_stdout_alone() -> None:
    """ggml runs a debugger otherwise, which prints to stdout."""
    code = "import os, sage_cli.speech.whisper; print(os.environ['GGML_NO_BACKTRACE'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_what_is_drawn_at_random_is_the_same_whatever_was_heard_before(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    whisper, sound = Whisper(model, threads=1), babble(20, 3)
    caplog.set_level("DEBUG", "sage_cli.speech.whisper")
    search, warm = SpeechOptions(beam_size=5), SpeechOptions(temperature=0.9)
    cold = whisper.decode(sound, SpeechOptions())
    first = whisper.decode(sound, search), whisper.decode(sound, warm)
    whisper.decode(babble(9, 4), search)
    assert (whisper.decode(sound, search), whisper.decode(sound, warm)) == first
    assert Whisper(model, threads=1).decode(sound, search) == first[0]
    assert first[1] != cold

    loaded = caplog.text.count("whisper_model_load: loading model")
    assert whisper.decode(sound, SpeechOptions()) == cold  # draws nothing: the model stays
    assert caplog.text.count("whisper_model_load: loading model") == loaded
    whisper.decode(sound, search)
    assert caplog.text.count("whisper_model_load: loading model") == loaded + 1


def test_a_sound_too_short_for_whisper_cpp_is_padded(whisper: Whisper) -> None:
    assert any(token.text for token in whisper.decode(babble(0.05), SpeechOptions()))


def test_a_window_too_long_is_a_mistake(whisper: Whisper) -> None:
    with pytest.raises(ValueError, match="at most"):
        whisper.decode(hush(30.1), SpeechOptions())


def test_language(tmp_path: Path, whisper: Whisper) -> None:
    assert whisper.language(babble(2)) == ("en", 1.0)
    german = Whisper(write_whisper(tmp_path / "m.bin", multilingual=True), threads=1)
    code, probability = german.language(babble(2))
    assert code == "de"
    assert probability > 0.5
    assert any(token.text for token in german.decode(babble(4), SpeechOptions(language="de")))
    assert {"en", "de", "zh", "yue"} <= set(languages())


def test_a_model_that_whisper_cpp_refuses(model: Path, tmp_path: Path) -> None:
    """The layout is right, a name is not."""
    path = tmp_path / "odd.bin"
    path.write_bytes(model.read_bytes().replace(b"decoder.ln.bias", b"decoder.ln.bibs"))
    with pytest.raises(ModelError, match=r"cannot load .*odd\.bin.*decoder\.ln\.bibs"):
        Whisper(path, threads=1).decode(babble(2), SpeechOptions())


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are Unicode")
def test_a_model_whose_name_is_not_utf8(model: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"ggml-\xff.bin")
    path.parent.mkdir()
    path.write_bytes(model.read_bytes())
    sound = babble(2)
    assert Whisper(path, threads=1).decode(sound, SpeechOptions()) == Whisper(model, threads=1).decode(sound, SpeechOptions())


class Instead:
    """The binding, with another way to load a model."""

    def __init__(self, load: Callable[..., Any]) -> None:
        self.whisper_init_from_file_with_params = load

    def __getattr__(self, name: str) -> Any:
        return getattr(binding(), name)


def test_ctrl_c_while_a_model_is_loaded_leaves_no_memory_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whisper = Whisper(model, threads=1)

    def load(*arguments: Any) -> Any:
        loaded = binding().whisper_init_from_file_with_params(*arguments)
        signal.raise_signal(signal.SIGINT)
        return loaded

    monkeypatch.setattr(whisper, "_binding", Instead(load))
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            whisper.decode(babble(2), SpeechOptions())
    finally:
        signal.signal(signal.SIGINT, old)
    assert whisper._context is not None  # so that closing frees it
    whisper.close()


def test_what_one_thread_is_told_is_not_told_to_another(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model fails while another one is loaded: only the first is refused."""
    broken, whole = Whisper(model, threads=1), Whisper(model, threads=1)

    def fail(*_: Any) -> Any:
        _native.take(nativelog.ERROR, "whisper_init_with_params_no_state: failed ")
        thread = Thread(target=whole.decode, args=(babble(2), SpeechOptions()))
        thread.start()
        thread.join()
        _native.take(nativelog.ERROR, "to load model\n")
        return None

    monkeypatch.setattr(broken, "_binding", Instead(fail))
    with pytest.raises(ModelError, match="failed to load model"):
        broken.decode(babble(2), SpeechOptions())
    assert whole._context is not None
    assert broken._context is None


def test_a_gpu_that_cannot_be_used_is_no_broken_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build for CUDA complains so where there is no GPU, or no driver, and computes on the processor."""
    whisper = Whisper(model, threads=1)

    def load(*arguments: Any) -> Any:
        _native.take(nativelog.ERROR, "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected\n")
        return binding().whisper_init_from_file_with_params(*arguments)

    monkeypatch.setattr(whisper, "_binding", Instead(load))
    assert whisper.decode(babble(2), SpeechOptions())
    assert whisper.device == "CPU"


def test_it_can_be_closed_and_goes_on_when_needed(model: Path) -> None:
    whisper = Whisper(model, threads=1)
    heard = whisper.decode(babble(3), SpeechOptions())
    whisper.close()
    whisper.close()
    assert whisper.decode(babble(3), SpeechOptions()) == heard


def test_the_terminal_stays_clean_and_the_process_ends_well(model: Path) -> None:
    program = (
        "import sys, numpy, logging\n"
        "from sage_cli.speech import SpeechOptions, Transcriber\n"
        "sound = numpy.sin(numpy.arange(32000) ** 1.1).astype('f')\n"
        "list(Transcriber(sys.argv[1], SpeechOptions(temperature=0.4), threads=1).stream(sound))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_log_goes_to_logging(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "sage_cli.speech.whisper"):
        Whisper(model, threads=1).decode(hush(1), SpeechOptions())
    assert any("n_audio_state" in message for message in caplog.messages)


def test_ctrl_c_stops_a_decode(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the waiting thread ends whisper.cpp's work, and the model is fit for the next window."""
    import threading
    import time

    whisper = Whisper(model, threads=1)
    sound = babble(29)
    whole = whisper.decode(sound, SpeechOptions(beam_size=8))
    old = signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        with pytest.raises(KeyboardInterrupt):  # the timer starts in here: on a busy machine it may go off at once
            threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)).start()
            for _ in range(100):
                whisper.decode(sound, SpeechOptions(beam_size=8))
            time.sleep(1)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert whisper.decode(sound, SpeechOptions(beam_size=8)) == whole
    assert np.isfinite(sum(token.logprob for token in whole))


def test_ctrl_c_before_a_decode_is_noted_leaves_none_behind(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two decodes at once in a context crash."""
    whisper = Whisper(model, threads=1)
    sound = babble(29)
    whole = whisper.decode(sound, SpeechOptions(beam_size=8))
    worker = whisper._worker
    submit = worker.submit

    def interrupted(work: Any, *arguments: Any) -> Any:
        submitted = submit(work, *arguments)
        if arguments:  # a decode, not a wait for one
            monkeypatch.undo()
            raise KeyboardInterrupt
        return submitted

    monkeypatch.setattr(worker, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        whisper.decode(sound, SpeechOptions(beam_size=8))
    assert whisper.decode(sound, SpeechOptions(beam_size=8)) == whole


def test_as_garbage_it_is_freed_without_its_thread(model: Path) -> None:
    """Regression: Python ends the thread of a garbage executor first, and who waited for that thread waited for ever."""
    whisper: Any = Whisper(model, threads=1)
    whisper.decode(babble(2), SpeechOptions())
    whisper.itself, freed = whisper, ref(whisper)
    del whisper
    collecting = Thread(target=gc.collect, daemon=True)
    collecting.start()
    collecting.join(60)
    assert not collecting.is_alive()
    assert freed() is None


def test_a_prompt_changes_the_text_and_a_long_one_is_cut(whisper: Whisper) -> None:
    sound = babble(10)
    ids = whisper.tokenizer.encode("ba" * 5000)
    assert len(ids) > whisper.prompt_length
    assert whisper.decode(sound, SpeechOptions(), ids) == whisper.decode(sound, SpeechOptions(), ids[-whisper.prompt_length :])


def test_a_model_with_the_shape_of_a_released_one_tells_when_each_token_is_spoken(tmp_path: Path) -> None:
    """Its attention is random, but each text token gets a time, in order."""
    shaped = Whisper(write_whisper(tmp_path / "m.bin", Shape(width=384, heads=6, audio_layers=4, text_layers=4)), threads=1)
    assert not shaped.toy
    times = [token.spoken_until for token in shaped.decode(babble(5), SpeechOptions()) if token.text]
    assert times
    assert None not in times
    assert times == sorted(times)  # type: ignore[type-var]


def test_the_device_is_the_one_that_whisper_cpp_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whisper = Whisper(write_whisper(tmp_path / "m.bin"), threads=1)
    with caplog.at_level(logging.DEBUG):
        whisper.decode(babble(1), SpeechOptions())
    assert (whisper.device == "CPU") == ("no GPU found" in caplog.text)
    assert whisper.device == "CPU" or f"using {whisper.device} backend" in caplog.text
