"""``sage cache``, after a real question about a real clip."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import get_args

import pytest

from sage_cli.assets import CLIPS
from sage_cli.cli.cache import KindName, info
from sage_cli.store.cache import KINDS, Entry
from sage_cli.video import Video
from tests.cli.conftest import SMALL, Popen
from tests.models import TinyModel

NANO = "--model", "nano", "--threads", "1"
Sage = Callable[..., CompletedProcess[str]]


def test_kinds_are_spelled_out() -> None:
    assert get_args(KindName) == tuple(kind.name for kind in KINDS)


class Counted:
    """An entry that counts how often it is looked at."""

    looks = 0

    def __init__(self, number: int) -> None:
        self._entry = Entry("transcripts", f"{number}", 1, float(number), f"{number:024x}")

    def __getattr__(self, name: str) -> object:
        Counted.looks += 1
        return getattr(self._entry, name)


@pytest.mark.parametrize("json", [False, True])
def test_many_videos_take_no_more_looks_each(json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    looks = []
    for count in 10, 200:
        Counted.looks = 0
        monkeypatch.setattr("sage_cli.store.cache.entries", lambda count=count: [Counted(number) for number in range(count)])
        assert info(json) == 0
        looks.append(Counted.looks / count)
    assert looks[0] == looks[1]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_others_cannot_read_what_a_question_leaves(start: Callable[..., Popen], model: TinyModel, clip: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SAGE_", "XDG_"))}
    with start("ask", clip, "what?", "-m", model.text, *SMALL, env=environment | {"HOME": str(tmp_path)}, umask=0) as process:
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    own = [path for path in tmp_path.rglob("sage-cli") if path.is_dir()]
    assert any((path / "embeddings").is_dir() for path in own)
    assert any((path / "log.db").is_file() for path in own)
    assert {path.stat().st_mode & 0o777 for path in own} == {0o700}


def test_what_a_question_leaves_and_how_to_get_rid_of_it(sage: Sage, model: TinyModel, clip: Path, environment: dict[str, str]) -> None:
    assert sage("ask", clip, "what?", "-m", model.text, *SMALL).returncode == 0
    record = json.loads(sage("cache", "info", "--json").stdout)
    kinds = {kind["kind"]: kind for kind in record["kinds"]}
    assert kinds["embeddings"]["entries"] == kinds["times"]["entries"] == 1
    assert kinds["transcripts"]["entries"] == 0
    assert record["size"] == sum(kind["size"] for kind in record["kinds"]) > 0
    assert record["limit"] == 12_000_000_000
    assert [(video["id"], video["path"]) for video in record["videos"]] == [(Video(clip).id, str(clip))]
    text = sage("cache", "info").stdout
    assert text.startswith(f"folder  {environment['SAGE_CACHE_DIR']}\n")
    assert text.rstrip().endswith(clip.name)

    assert "freed 0 bytes" in sage("cache", "prune").stderr
    assert sage("cache", "clear", "--video", "other.mp4").stderr == (
        "sage: error: nothing is cached for other.mp4 (see 'sage cache info')\n"
    )
    count = sum(kind["entries"] for kind in record["kinds"])
    for words in ("clear",), ("limit", "0"), ("prune", "--older-than", "0"):  # all of them ask, and nobody is there
        refused = sage("cache", *words)
        assert refused.returncode == 2
        assert f"cannot ask whether to remove {count} cached entries (" in refused.stderr
    assert json.loads(sage("cache", "info", "--json").stdout) == record
    assert sage("cache", "clear", "--kind", "times", "--video", clip.name, "-y").returncode == 0
    assert sage("cache", "clear", "--video", clip.name, "--yes").returncode == 0
    record = json.loads(sage("cache", "info", "--json").stdout)
    assert record["videos"] == []
    assert {kind["kind"] for kind in record["kinds"] if kind["entries"]} <= {"fingerprints", "speeds"}  # nothing made from it

    assert sage("cache", "limit", "0", "-y").returncode == 0
    assert sage("cache", "limit").stdout == "0 bytes\n"
    assert json.loads(sage("cache", "info", "--json").stdout)["size"] == 0
    assert sage("ask", clip, "what?", "-m", model.text, *SMALL).returncode == 0
    assert json.loads(sage("cache", "info", "--json").stdout)["size"] == 0


def test_a_cache_that_cannot_be_used_is_told_once(
    start: Callable[..., Popen], clip: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Regression: who had put it on a disk that cannot hold it saw only slowness."""
    (tmp_path / "file").touch()
    unusable = environment | {"SAGE_CACHE_DIR": str(tmp_path / "file")}
    frames = "frames", clip, "--at", 1, "-o", tmp_path / "frames"
    speech = "transcribe", CLIPS / "speech.mp4", "-m", "nano"
    for words, lines in (frames, 1), ((*frames, "--quiet"), 0), (speech, 1):
        with start(*words, env=unusable) as process:
            _, stderr = process.communicate()
        assert process.returncode == 0
        assert (
            stderr.count("is not used: Not a directory; if this persists, set SAGE_CACHE_DIR to a folder on another disk")
            == stderr.count("\n")
            == lines
        )


def test_damage_is_told_once_and_mended(sage: Sage, environment: dict[str, str]) -> None:
    """Regression: it was mended without a word."""
    words = "ask", CLIPS / "short.mp4", "Which shape appears last?", *NANO, "--no-tools", "--no-log", "--kv-cache", "on"
    answer = sage(*words).stdout
    for more, told in ((), 1), (("--quiet",), 0):
        damaged = [path for path in Path(environment["SAGE_CACHE_DIR"]).rglob("*") if path.is_file()]
        assert len(damaged) > 2
        for path in damaged:
            path.write_bytes(bytes(path.stat().st_size))
        for count in told, 0:
            done = sage(*words, *more)
            assert done.stdout == answer
            assert done.stderr.count("has damaged entries, which are replaced; if this persists, check the disk\n") == count


def test_clear_asks_before_it_removes_anything(sage: Sage, environment: dict[str, str]) -> None:
    """Regression: files that are no entries were removed without a question, the user's own too."""
    folder = Path(environment["SAGE_CACHE_DIR"])
    for place, name in ("transcripts", "interview.docx"), ("web", "index.html"):
        (folder / place).mkdir(parents=True)
        (folder / place / name).write_text("mine")
    assert sage("cache", "clear").returncode == 0  # nothing to remove
    (folder / "media").mkdir()
    (folder / "media" / ("0" * 24)).touch()
    damaged = folder / "embeddings" / "cache.db"
    damaged.parent.mkdir()
    damaged.write_bytes(bytes(500))
    refused = sage("cache", "clear")
    assert (refused.returncode, damaged.exists()) == (2, True)
    assert "cannot ask whether to remove 1 file (500 bytes): add --yes" in refused.stderr
    (folder / "fingerprints").mkdir()
    (folder / "fingerprints" / f"{'0' * 24}.json").touch()  # an earlier version's
    (folder / "web" / f"{'0' * 32}.json").touch()
    done = sage("cache", "clear", "-y")
    assert (done.returncode, done.stderr) == (0, "sage: freed 500 bytes\n")
    assert sorted(path.name for path in folder.rglob("*")) == ["index.html", "interview.docx", "transcripts", "web"]


@pytest.mark.parametrize("size", ["much", "5", "20", "1.5", "-1GB", ""])
def test_a_limit_needs_a_unit(refusal: Callable[..., tuple[int, str]], size: str) -> None:
    """Regression: 5 meant 5 bytes and emptied the cache."""
    status, said = refusal("cache", "limit", "--", size)
    assert status == 2
    problem = f"cannot be {size!r}" if size else "is empty"
    assert f"cache-limit {problem}: expected a size with its unit, such as" in said


@pytest.mark.parametrize(("kept", "entries"), [("on", 1), ("off", 0)])
def test_whether_a_short_prompt_is_kept(sage: Sage, model: TinyModel, clip: Path, kept: str, entries: int) -> None:
    """``on`` saves however quickly it was computed; what ``auto`` saves depends on the time, see ``tests/model/test_disk.py``."""
    for method in "seek", "cached":
        done = sage("ask", clip, "what?", "-m", model.text, *SMALL, "--ctx-size", 8192, "--kv-cache", kept, "--jsonl")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert next(event["method"] for event in events if event["type"] == "frames_sampled") == method
    first = next(event["usage"] for event in events if event["type"] == "step_finished")
    assert (first["prompt_reused"] > 0) == (entries > 0)
    assert first["images_reused"] == first["images"] == 1
    kinds = {kind["kind"]: kind["entries"] for kind in json.loads(sage("cache", "info", "--json").stdout)["kinds"]}
    assert kinds["prefixes"] == entries
