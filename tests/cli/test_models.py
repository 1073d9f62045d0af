"""``sage models`` and the first run, from a hub on loopback, with models that run."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sage_cli.assets import NANO
from sage_cli.cli.machine import recommended
from sage_cli.hardware.plan import GIB, Machine
from sage_cli.session import open_session
from tests.cli import pseudo
from tests.cli.conftest import SMALL, Popen
from tests.hub import FakeHub, Repository, running, wait_for_part
from tests.models import TinyModel
from tests.models.tiny_whisper import write_whisper

Sage = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Popen]

QWEN = "Qwen/Qwen3-VL-2B-Instruct-GGUF"
TEXT, MMPROJ = "Qwen3VL-2B-Instruct-Q4_K_M.gguf", "mmproj-Qwen3VL-2B-Instruct-F16.gguf"
ANOTHER = "Qwen3VL-2B-Instruct-Q8_0.gguf"
# A process that tries to reach anything says so and dies.
NO_NETWORK = """
import os, socket
def refuse(*_, **__):
    os.write(2, b"NETWORK\\n")
    os._exit(99)
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
"""


@pytest.fixture
def hub(model: TinyModel, environment: dict[str, str], tmp_path: Path) -> Iterator[FakeHub]:
    with running() as hub:
        text, mmproj = model.text.read_bytes(), model.mmproj.read_bytes()
        hub.repositories[QWEN] = Repository({TEXT: text, ANOTHER: text + b"\0", MMPROJ: mmproj, "README.md": b"# Qwen"})
        hub.repositories["ggerganov/whisper.cpp"] = Repository({"ggml-base.bin": b"lmgg" + bytes(60), "ggml-tiny.bin": b"lmgg"})
        for name in [name for name in environment if name.startswith("HF_")]:
            del environment[name]
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "hf")}
        yield hub


@pytest.fixture
def no_network(environment: dict[str, str], tmp_path: Path) -> Callable[[], None]:
    """After its call, any connection attempt of ``sage`` ends it with status 99."""

    def forbid() -> None:
        folder = tmp_path / "no-network"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(NO_NETWORK)
        environment["PYTHONPATH"] = str(folder)

    return forbid


def rows(sage: Sage) -> dict[str, dict[str, object]]:
    done = sage("models", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


def test_pull_then_ask_then_remove(
    sage: Sage, hub: FakeHub, clip: Path, environment: dict[str, str], no_network: Callable[[], None], tmp_path: Path
) -> None:
    models = Path(environment["SAGE_MODELS_DIR"])
    done = sage("models", "pull", "qwen3-vl-2b", "whisper-base")
    assert done.returncode == 0, done.stderr
    folders = [models / "qwen3-vl-2b" / TEXT, models / "whisper-base" / "ggml-base.bin"]
    assert done.stdout.splitlines() == [str(path) for path in folders]
    assert f"from {QWEN}, Q4_K_M" in done.stderr
    assert "qwen3-vl-2b is now the default model" in done.stderr
    assert (models / "qwen3-vl-2b" / TEXT).is_symlink()  # the content lies in the cache that all programs share

    # From here on nothing needs a network.
    no_network()
    hub.requests.clear()
    again = sage("models", "pull", "qwen3-vl-2b")
    assert (again.returncode, again.stdout) == (0, f"{models / 'qwen3-vl-2b' / TEXT}\n")
    assert sage("models", "path", "qwen3-vl-2b").stdout == again.stdout
    found = rows(sage)
    # The content is that of the tiny model: its header counts, not its name.
    assert [found["qwen3-vl-2b"][key] for key in ("installed", "default", "damaged", "quantization")] == [True, True, False, "F32"]
    assert [found[name]["installed"] for name in ("whisper-base", "qwen3-vl-4b")] == [True, False]
    for chosen in [], ["--model", "qwen3-vl-2b", "--offline"]:
        asked = sage("ask", clip, "what?", *chosen, *SMALL)
        assert asked.returncode == 0, asked.stderr
    info = json.loads(sage("models", "info", "qwen3-vl-2b", "--json").stdout)
    assert info["source"] == f"hf:{QWEN}"
    assert info["architecture"] == "qwen3vl"
    assert "frames, context" in info["fit"]
    assert hub.requests == []

    assert sage("models", "rm", "-y", "qwen3-vl-2b").returncode == 0
    assert sage("models", "default").stdout.splitlines()[0].split() == ["model", "none", "installed"]
    blobs = {path.stat().st_size for path in (tmp_path / "hf").glob("hub/models--Qwen*/blobs/*")}
    assert blobs == set()
    assert not (models / "qwen3-vl-2b").exists()
    assert (models / "whisper-base" / "ggml-base.bin").read_bytes() == b"lmgg" + bytes(60)
    missing = sage("ask", clip, "what?", "--model", "qwen3-vl-2b")
    assert (missing.returncode, missing.stderr) == (
        3,
        "sage: error: qwen3-vl-2b is not installed: run 'sage models pull qwen3-vl-2b'\n",
    )


def test_rm_keeps_what_others_use(sage: Sage, hub: FakeHub, tmp_path: Path) -> None:
    sage("models", "pull", "qwen3-vl-2b", "qwen3-vl-2b:Q8_0")  # they share the vision encoder
    assert sage("models", "rm", "-y", "qwen3-vl-2b").returncode == 0
    assert sage("models", "info", "qwen3-vl-2b:Q8_0").returncode == 0
    sizes = [len(hub.repositories[QWEN].files[name]) for name in (ANOTHER, MMPROJ)]
    assert sorted(path.stat().st_size for path in (tmp_path / "hf").glob("hub/models--Qwen*/blobs/*")) == sorted(sizes)
    assert sage("models", "rm", "--yes", "--keep-files", "qwen3-vl-2b:Q8_0").returncode == 0
    assert len(list((tmp_path / "hf").glob("hub/models--Qwen*/blobs/*"))) == 2
    # What is in the cache is installed from there, without a connection.
    transfers = len(hub.transfers)
    done = sage("models", "pull", "--offline", "qwen3-vl-2b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(ANOTHER)
    assert len(hub.transfers) == transfers
    refused = sage("models", "pull", "--offline", "whisper-base")
    assert refused.returncode == 3
    assert "ggerganov/whisper.cpp is not in" in refused.stderr


def test_a_model_of_ones_own(sage: Sage, hub: FakeHub, model: TinyModel, environment: dict[str, str]) -> None:
    folder = Path(environment["SAGE_MODELS_DIR"]) / "mine"
    folder.mkdir(parents=True)
    for path in model.text, model.mmproj:
        (folder / path.name).write_bytes(path.read_bytes())
    assert rows(sage)["mine"]["installed"]
    assert sage("models", "default", "mine").returncode == 0
    assert rows(sage)["mine"]["default"]
    assert json.loads(sage("models", "info", "mine", "--json").stdout)["architecture"] == "qwen3vl"
    whisper = write_whisper(folder.parent / "ggml-yours.en.bin")
    assert sage("models", "path", "yours.en").stdout == f"{whisper}\n"
    assert json.loads(sage("models", "info", whisper.name, "--json").stdout)["kind"] == "speech"
    refused = sage("models", "rm", "-y", "mine")
    assert refused.returncode == 2
    assert "was not pulled by sage: delete it yourself" in refused.stderr
    assert all(str(folder / path.name) in refused.stderr for path in (model.text, model.mmproj))
    taken = sage("models", "pull", "qwen3-vl-2b", "--name", "mine", "--update")
    assert taken.returncode == 2
    assert "was not made by sage" in taken.stderr
    assert (folder / model.text.name).read_bytes() == model.text.read_bytes()


def test_a_repository_that_is_gone(sage: Sage, hub: FakeHub) -> None:
    hub.repositories["unsloth/Qwen3-VL-2B-Instruct-GGUF"] = hub.repositories.pop(QWEN)
    done = sage("models", "pull", "qwen3-vl-2b")
    assert done.returncode == 0
    assert "from unsloth/Qwen3-VL-2B-Instruct-GGUF" in done.stderr


def test_conversions_by_others_are_offered(sage: Sage, hub: FakeHub) -> None:
    checkpoint = "allenai/SAGE-MM-Qwen3-VL-4B-SFT_RL"
    nobody = sage("models", "pull", "sage-mm-4b")
    assert nobody.returncode == 3
    assert "nobody seems to have converted sage-mm-4b" in nobody.stderr
    hub.repositories["bob/SAGE-4B-GGUF"] = Repository(hub.repositories[QWEN].files, tags=("gguf", f"base_model:quantized:{checkpoint}"))
    done = sage("models", "pull", "sage-mm-4b")
    assert done.returncode == 3
    command = "sage models pull hf:bob/SAGE-4B-GGUF --name sage-mm-4b"
    assert f"run '{command}'" in done.stderr
    assert sage(*command.split()[1:]).returncode == 0
    assert rows(sage)["sage-mm-4b"]["installed"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["pull", "qwen3-vl-2"], 3, r"did you mean qwen3-vl-2b?"),
        (["pull", "hf:nobody/nothing"], 3, "no repository nobody/nothing"),
        (["pull", "qwen3-vl-2b:Q5_K_M"], 3, f"{QWEN} has no Q5_K_M: it has Q4_K_M, Q8_0"),
        (["pull", "a", "b", "--name", "c"], 2, "--name works with one model"),
        (["path", "qwen3-vl-2b"], 3, "is not installed (installed: none)"),
        (["info", "nothing"], 3, "no such model: nothing"),
        (["rm", "-y", "nothing"], 3, "nothing is not installed (installed: none); 'sage models list' shows all"),
        (["path", "qwen3-vl-2b"], 3, "install it with 'sage models pull qwen3-vl-2b'"),
        (["default", "nothing"], 3, "nothing is not installed"),
    ],
)
def test_refusals(sage: Sage, hub: FakeHub, words: list[str], status: int, said: str) -> None:
    done = sage("models", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_interrupted_and_again(start: Start, sage: Sage, hub: FakeHub, environment: dict[str, str]) -> None:
    hub.holds.append(10_000)
    with start("models", "pull", "qwen3-vl-2b") as process:
        wait_for_part(process, Path(environment["HF_HOME"]), 10_000)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate()
    assert process.returncode == 130
    assert complaint.endswith("sage: progress saved; rerun the command to resume\nsage: interrupted\n")
    assert not rows(sage)["qwen3-vl-2b"]["installed"]
    assert not list(Path(environment["SAGE_MODELS_DIR"]).glob("*"))
    assert sage("models", "pull", "qwen3-vl-2b").returncode == 0
    assert "bytes=10000-" in [asked for _, asked, _ in hub.transfers]


def test_a_bar_is_above_what_is_said_of_its_end(hub: FakeHub, environment: dict[str, str]) -> None:
    hub.trickle = 0.05
    done = pseudo.on_terminal(["-m", "sage_cli", "models", "pull", "qwen3-vl-2b"], environment, keys=[("━", "\r\r"), ("━", "\x03")])
    assert done.status == 130
    assert done.lines[-2:] == ["sage: progress saved; rerun the command to resume", "sage: interrupted"]
    bars = [line for line in done.lines if "━" in line]
    assert len(bars) == len({line.split()[0] for line in bars})  # one per file


def test_an_update_replaces_the_files(sage: Sage, hub: FakeHub, tmp_path: Path) -> None:
    sage("models", "pull", "whisper-tiny")
    hub.repositories["ggerganov/whisper.cpp"].files["ggml-tiny.bin"] = b"lmgg better"
    assert Path(sage("models", "pull", "whisper-tiny").stdout.strip()).read_bytes() == b"lmgg"
    assert Path(sage("models", "pull", "whisper-tiny", "--update").stdout.strip()).read_bytes() == b"lmgg better"
    assert [path.read_bytes() for path in (tmp_path / "hf").glob("hub/models--gg*/blobs/*")] == [b"lmgg better"]


def test_an_update_with_nothing_new_leaves_a_model_alone(sage: Sage, hub: FakeHub) -> None:
    """Nor does a second process that installs it, too: others are loading it."""
    folder = Path(sage("models", "pull", "whisper-tiny").stdout.strip()).parent
    before = folder.stat().st_ino
    assert sage("models", "pull", "whisper-tiny", "--update").returncode == 0
    assert folder.stat().st_ino == before


def test_an_emptied_cache_is_noticed(sage: Sage, hub: FakeHub, clip: Path, tmp_path: Path) -> None:
    import shutil

    sage("models", "pull", "qwen3-vl-2b")
    shutil.rmtree(tmp_path / "hf")
    assert not rows(sage)["qwen3-vl-2b"]["installed"]
    done = sage("ask", clip, "what?")
    assert done.returncode == 3
    assert "are gone from the hub's cache: run 'sage models pull qwen3-vl-2b'" in done.stderr
    assert sage("models", "pull", "qwen3-vl-2b").returncode == 0
    assert rows(sage)["qwen3-vl-2b"]["installed"]


# ---- the first run -------------------------------------------------------------------------------------------------


def on_terminal(start: Start, *words: object, answer: str) -> tuple[int, str, str]:
    """Run with stdin and stderr on a terminal, and answer the one question."""
    ours, theirs = pty.openpty()
    with start(*words, stdin=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown, asked = b"", False
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if not select.select([ours], [], [], 0.05)[0]:
                continue
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says that the other side is closed
                break
            shown += piece
            if b"[y/n]" in shown.lower() and not asked:
                asked = True
                os.write(ours, f"{answer}\n".encode())
        stdout, _ = process.communicate()
    os.close(ours)
    return process.returncode, stdout, shown.decode()


def test_the_first_run_asks_once(
    start: Start, hub: FakeHub, clip: Path, environment: dict[str, str], no_network: Callable[[], None]
) -> None:
    environment |= {"TERM": "dumb"}
    words = ("ask", clip, "what?", "--model", "qwen3-vl-2b", *SMALL)
    no_network()  # nothing is connected to before somebody agrees
    status, stdout, shown = on_terminal(start, *words, answer="n")
    assert status == 3
    assert "qwen3-vl-2b" in shown and "whisper-base" in shown and "download" in shown
    del environment["PYTHONPATH"]
    status, stdout, shown = on_terminal(start, *words, answer="y")
    assert status == 0, shown
    assert stdout.strip()
    assert TEXT in shown and "ggml-base.bin" in shown
    status, stdout, shown = on_terminal(start, "ask", clip, "what?", *SMALL, answer="n")
    assert status == 0
    assert "[Y/n]" not in shown


def test_without_a_terminal_nobody_is_asked(sage: Sage, hub: FakeHub, clip: Path, no_network: Callable[[], None]) -> None:
    no_network()
    done = sage("ask", clip, "what?")
    assert done.returncode == 3
    assert done.stderr.startswith("sage: error: no model: run 'sage models pull ")
    done = sage("setup")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("sage: error: cannot ask whether to download about ")
    assert done.stderr.endswith(": add --yes\n")


def test_a_no_to_setup_ends_it(start: Start, hub: FakeHub, environment: dict[str, str], no_network: Callable[[], None]) -> None:
    no_network()
    environment |= {"TERM": "dumb", "SAGE_MODEL": "nano", "SAGE_SPEECH_MODEL": ""}
    shutil.rmtree(environment["SAGE_MODELS_DIR"], ignore_errors=True)
    status, stdout, shown = on_terminal(start, "setup", answer="n")
    assert (status, stdout) == (0, "")  # nano has a speech model of its own
    del environment["SAGE_MODEL"]
    status, stdout, shown = on_terminal(start, "setup", answer="n")
    assert (status, stdout) == (1, "")
    assert "? [Y/n]" in shown
    assert "error" not in shown


def test_speech_is_transcribed_by_the_bundled_model_beside_the_bundled_one(sage: Sage, environment: dict[str, str]) -> None:
    environment["SAGE_MODEL"] = "nano"
    assert re.search(r"^speech-model +ggml-\S+ \(of the default model\)$", sage("models", "default").stdout, re.MULTILINE)
    assert "SAGE_MODEL is set in the environment and overrides" in sage("models", "default", "nano").stderr
    environment["SAGE_MODEL"] = "nonesuch"  # which costs transcripts nothing
    assert re.search(r"^speech-model +none installed$", sage("models", "default").stdout, re.MULTILINE)


def test_info_has_the_same_keys_in_every_state(sage: Sage, hub: FakeHub) -> None:
    def info(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(sage("models", "info", name, "--json").stdout)
        return found

    before = [info(name) for name in ("qwen3-vl-2b", "whisper-base", "nano")]
    sage("models", "pull", "qwen3-vl-2b", "whisper-base")
    after = [info(name) for name in ("qwen3-vl-2b", "whisper-base")]
    assert len({tuple(one) for one in before + after}) == 1
    assert [one["fit"] is None for one in before + after] == [False, True, False, False, True]
    assert all(one["memory"] > 0 and one["repositories"] for one in (*before[:2], *after))
    assert [bool(one["path"]) for one in before + after] == [False, False, True, True, True]
    shown = sage("models", "info", "whisper-base").stdout
    assert "frames" not in shown
    assert re.search(r"^memory +\d", shown, re.MULTILINE)


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (Machine(64 * GIB, 24 * GIB, 16, "GPU"), "sage-mm-7b"),
        (Machine(64 * GIB, 7 * GIB, 16, "GPU"), "sage-mm-7b"),
        (Machine(32 * GIB, 6 * GIB, 8, "GPU"), "qwen3-vl-4b"),
        (Machine(64 * GIB, 0, 4, "CPU"), "qwen3-vl-2b"),
        (Machine(1 * GIB, 0, 4, "CPU"), "qwen3-vl-2b"),
    ],
)
def test_the_choice_fits_the_machine(machine: Machine, name: str) -> None:
    assert recommended(machine).name == name


def test_the_bundled_model_is_shown_by_every_command(sage: Sage, environment: dict[str, str]) -> None:
    row = rows(sage)["nano"]
    assert (row["installed"], row["default"], row["fits"]) == (True, False, "yes")
    info = json.loads(sage("models", "info", "nano", "--json").stdout)
    assert (info["installed"], info["kind"], info["architecture"]) == (True, "vision", "qwen3vl")
    with open_session(model="nano") as session:
        frames = session.plan.frames
    assert info["fit"].startswith(f"{frames} frames, context 8192, ")
    environment |= {"SAGE_FRAMES": "4", "SAGE_CTX_SIZE": "3000"}
    assert json.loads(sage("models", "info", "nano", "--json").stdout)["fit"].startswith("4 frames, context 3000, ")
    assert sage("models", "path", "nano").stdout == f"{row['path']}\n"
    assert sage("models", "default", "nano").returncode == 0
    assert rows(sage)["nano"]["default"]
    assert sage("models", "default").stdout.splitlines()[0].split() == ["model", "nano"]
    kept = sage("models", "rm", "-y", "nano")
    assert (kept.returncode, kept.stderr) == (2, "sage: error: nano is part of the package and cannot be removed\n")


@pytest.mark.parametrize("name", ["a/b", "nano", ".."])
def test_a_name_that_cannot_be_is_told_before_the_download(sage: Sage, hub: FakeHub, name: str) -> None:
    refused = sage("models", "pull", "whisper-base", "--name", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--name" in refused.stderr
    assert hub.requests == []


def test_nothing_is_removed_without_being_asked(sage: Sage, start: Start, hub: FakeHub) -> None:
    sage("models", "pull", "whisper-base")
    refused = sage("models", "rm", "whisper-base")
    assert refused.returncode == 2
    assert "cannot ask whether to remove whisper-base (64 bytes) and delete the files: add --yes" in refused.stderr
    status, _, shown = on_terminal(start, "models", "rm", "whisper-base", answer="n")
    assert status == 1
    assert "remove whisper-base (64 bytes) and delete the files? [y/N]" in shown
    assert rows(sage)["whisper-base"]["installed"]
    assert on_terminal(start, "models", "rm", "whisper-base", answer="y")[0] == 0
    assert not rows(sage)["whisper-base"]["installed"]


def test_models_of_ones_own_have_their_memory(sage: Sage, environment: dict[str, str]) -> None:
    """Files that no catalogue knows are planned by their headers."""
    models = Path(environment["SAGE_MODELS_DIR"])
    (models / "own").mkdir(parents=True)
    for path in (NANO.text, NANO.mmproj):
        shutil.copy(path, models / "own" / path.name)
    shutil.copy(NANO.speech, models / "ggml-own.bin")
    found = {name: row for name, row in rows(sage).items() if row["installed"] and name != "nano"}
    assert [row["fits"] for row in found.values()] == ["yes", "yes"]
    assert all(int(str(row["memory"])) > int(str(row["size"])) for row in found.values())


def test_damaged_files_are_told(sage: Sage, environment: dict[str, str]) -> None:
    models = Path(environment["SAGE_MODELS_DIR"])
    models.mkdir(parents=True, exist_ok=True)
    (models / "bad.gguf").write_bytes(b"junk\n")
    assert [rows(sage)["bad"][key] for key in ("damaged", "quantization")] == [True, "unknown"]
    assert "damaged" in next(line for line in sage("models", "list").stdout.splitlines() if line.startswith("bad "))
    for source, name in ((NANO.text, "cut.gguf"), (NANO.speech, "ggml-cut.bin")):
        data = source.read_bytes()
        (models / name).write_bytes(data[: len(data) // 2])
        info = sage("models", "info", Path(name).stem, "--json")
        assert (info.returncode, "cut short" in json.loads(info.stdout)["damaged"]) == (3, True)
    info = sage("models", "info", "bad")
    assert (info.returncode, "damaged       " in info.stdout, "is not a GGUF file" in info.stdout) == (3, True, True)
