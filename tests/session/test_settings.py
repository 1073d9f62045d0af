"""Settings: their sources, invalid values, and the preserved file."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from tomlkit import TOMLDocument

from sage_cli.errors import SageError, UsageError
from sage_cli.session import Options, load_options, settings
from sage_cli.session.options import declared, settable
from sage_cli.session.settings import VARIABLES, change, from_file, in_effect, misspelt
from sage_cli.session.values import check
from sage_cli.store import config_path


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SAGE_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "sage" / "config.toml"
    monkeypatch.setenv("SAGE_CONFIG", str(path))
    return path


def origin(key: str) -> tuple[object, str]:
    return in_effect()[key]


def test_two_writers_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read before either writes, if they can."""
    both, read = threading.Barrier(2), settings._read

    def slow() -> TOMLDocument:
        found = read()
        with suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return found

    writers = [threading.Thread(target=change, args=pair) for pair in (("frames", "64"), ("seed", "7"))]
    with monkeypatch.context() as patched:
        patched.setattr(settings, "_read", slow)
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert from_file() == {"frames": 64, "seed": 7}


def test_a_writer_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    change("frames", "64")
    monkeypatch.setattr(settings, "_PATIENCE_S", 0.0)
    with settings._writing(), pytest.raises(SageError, match=r"cannot write .*config.toml: another process has been changing it"):
        change("seed", "7")
    settings.create("frames = 3")
    assert file.read_text() == "frames = 64\n"


def test_without_a_file_the_defaults_hold(file: Path) -> None:
    assert config_path() == file
    assert load_options() == Options()
    assert {setting.origin for setting in in_effect().values()} == {"default"}
    assert not file.exists()


def test_the_environment_wins_over_the_file_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin("max-steps") == (10, "default")
    change("max-steps", "3")
    assert origin("max-steps") == (3, "file")
    monkeypatch.setenv("SAGE_MAX_STEPS", "5")
    assert origin("max-steps") == (5, "environment")
    assert load_options().max_steps == 5
    monkeypatch.setenv("SAGE_MAX_STEPS", "")
    assert origin("max-steps") == (3, "file")


def test_the_home_folder_is_meant_by_a_tilde_in_every_option_that_takes_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    paths = [one for one in declared().values() if one.kind == "path"]
    assert {one.metavar for one in declared().values() if {"FILE", "DIR", "PATH"} & set(one.metavar.split("|"))} <= {
        one.metavar for one in paths
    }
    for one in paths:
        assert str(check(one, "~/x/", one.key)).rstrip("/") == str(tmp_path / "x")
        assert str(check(one, "x~", one.key)) == "x~"
    assert str(check(declared()["output"], "~/x/", "output")).endswith("/")
    assert check(declared()["searxng_url"], "~/x", "searxng-url") == "~/x"


def test_what_the_user_wrote_stays(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("# mine\nframes = 64 # enough\n\ntools = false\n", encoding="utf-8")
    change("frames", "32")
    change("cache-limit", "20 GiB")
    assert file.read_text(encoding="utf-8") == '# mine\nframes = 32 # enough\n\ntools = false\ncache-limit = "20 GiB"\n'
    change("frames", None)
    change("seed", None)  # was not there
    assert file.read_text(encoding="utf-8") == '# mine\n\ntools = false\ncache-limit = "20 GiB"\n'
    assert load_options().cache_limit == 20 << 30
    assert {path.name for path in file.parent.iterdir()} == {file.name, f".{file.name}.lock"}


def test_a_linked_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    file.parent.mkdir()
    file.symlink_to(tmp_path / "dotfiles.toml")
    change("frames", "32")
    assert file.is_symlink()
    assert (tmp_path / "dotfiles.toml").read_text(encoding="utf-8") == "frames = 32\n"


@pytest.mark.parametrize("spelled", ["ctx-size", "ctx_size", "CTX_SIZE", "--ctx-size"])
def test_a_setting_may_be_spelled_as_its_option(spelled: str) -> None:
    change(spelled, "8192")
    assert from_file() == {"ctx-size": 8192}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frmes = 64", r"config.toml: no such setting: frmes, did you mean frames\?"),
        ("zzz = 64", r"no such setting: zzz \('sage config list'"),
        ("[ask]\nframes = 3", "no such section: ask"),
        ("frames = 0", "config.toml: frames cannot be 0: expected a whole number from 1"),
        ("kv-type = 'q4_0'", "kv-type cannot be 'q4_0': expected one of f16, q8_0"),
        ("temperature = 'hot'", "temperature cannot be 'hot'"),
        ("cache-limit = 'much'", "cache-limit cannot be 'much'"),
        ("frames = ", "is not TOML: .*line 1.*sage config edit"),
        ("frames = 1\nframes = 2", "is not TOML"),
        ("\ud800", "is not TOML"),
    ],
)
def test_a_wrong_file(file: Path, text: str, said: str) -> None:
    file.parent.mkdir()
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=said) as error:
        load_options()
    assert "\n" not in str(error.value)


def test_a_wrong_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_TIMEOUT", "soon")
    with pytest.raises(UsageError, match=r"^SAGE_TIMEOUT=soon: expected a number"):
        in_effect()


def test_what_is_refused_is_not_written(file: Path) -> None:
    with pytest.raises(UsageError, match=r"^frames cannot be 'many'"):
        change("frames", "many")
    with pytest.raises(UsageError, match="did you mean frames"):
        change("frame", "3")
    assert not file.exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_file(file: Path, encoding: str) -> None:
    file.parent.mkdir()
    file.write_bytes("max-steps = 3\r\n".encode(encoding))
    assert origin("max-steps") == (3, "file")
    change("frames", "16")
    assert file.read_bytes().startswith(b"max-steps = 3\r\n")
    assert (origin("max-steps"), origin("frames")) == ((3, "file"), (16, "file"))


def test_variables_that_are_nearly_settings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    documented = re.findall(r"SAGE_[A-Z_]*[A-Z]", (Path(__file__).parents[2] / "docs" / "config.md").read_text())
    assert {*VARIABLES} == {*documented} - {one.variable for one in settable().values()}
    for name in (*documented, "SAGE_ROOT", "SAGE_LOCAL", "SAGEMAKER_FRAMES"):
        monkeypatch.setenv(name, "1")
    assert misspelt() == {}
    monkeypatch.setenv("SAGE_FRAME", "8")
    monkeypatch.setenv("SAGE_CONTEXT_SIZE", "4096")
    monkeypatch.setenv("SAGE_CACHEDIR", "/tmp")
    assert misspelt() == {"SAGE_FRAME": "SAGE_FRAMES", "SAGE_CONTEXT_SIZE": "SAGE_CTX_SIZE", "SAGE_CACHEDIR": "SAGE_CACHE_DIR"}
