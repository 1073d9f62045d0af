"""Output files: nothing is lost, for any path and any moment a run ends."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sage_cli.errors import UsageError
from sage_cli.output import (
    check_folder,
    check_targets,
    file_name,
    folder_named,
    format_of,
    is_folder,
    open_binary,
    open_text,
    output_folder,
    same_folder,
    telling_replaced,
    write_text,
)


def _spelled(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


def _linked(path: Path) -> Path:
    (link := path.with_name("symbolic.txt")).symlink_to(path.name)
    return link


def _hard(path: Path) -> Path:
    (link := path.with_name("hard.txt")).hardlink_to(path)
    return link


def _through_a_folder(path: Path) -> Path:
    (folder := path.parent.with_name("other")).symlink_to(path.parent)
    return folder / path.name


@pytest.mark.parametrize("other", [Path, _spelled, _linked, _hard, _through_a_folder])
def test_an_input_is_never_written(tmp_path: Path, other: Callable[[Path], Path]) -> None:
    (folder := tmp_path / "folder").mkdir()
    (source := folder / "recording.txt").write_text("precious")
    target = other(source)
    for opened in open_text, open_binary:
        with pytest.raises(UsageError, match="is the input"), opened(target, [tmp_path / "missing", source]):
            pass
    assert source.read_text() == "precious"


def test_one_folder_by_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder := tmp_path / "Videos").mkdir()
    assert same_folder(folder, folder)
    other = tmp_path / "videos"
    assert same_folder(folder, other) == other.exists()  # where letter case counts, it does not exist
    if not other.exists():
        other.symlink_to(folder)
        assert not same_folder(folder, other)
    (apart := tmp_path / "apart").mkdir()
    monkeypatch.setattr(Path, "lstat", lambda _: tmp_path.stat())
    assert same_folder(folder, other)
    assert not same_folder(folder, apart)


def test_another_kind_of_file_is_not_replaced_by_text(tmp_path: Path) -> None:
    (video := tmp_path / "video.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UsageError, match="not a text file"):
        write_text(video, "words")
    assert video.read_bytes().endswith(b"ftypmp42")


def test_files_of_others_beside_the_target_stay(tmp_path: Path) -> None:
    (tmp_path / "talk.srt.part").write_text("mine")
    write_text(tmp_path / "talk.srt", "words\n")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"talk.srt": "words\n", "talk.srt.part": "mine"}


def test_a_file_that_was_different_is_replaced_with_a_notice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = tmp_path / "talk.srt"
    for text, told in (("one", 0), ("one", 0), ("two", 1)):
        with telling_replaced(target), open_text(target) as file:
            file.write(text)
        assert len(caplog.messages) == told
    assert caplog.messages == [f"replaced {target}, whose content was different"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (old := tmp_path / "old.txt").write_text("old")
    for target in old, tmp_path / "new" / "one" / "new.txt":
        with pytest.raises(ZeroDivisionError), open_text(target) as file:
            file.write("half")
            _ = 1 / 0
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.txt", "old")]


def test_a_new_folder_whose_file_fails_is_not_left(tmp_path: Path) -> None:
    """A limit on file size fails as a full disk does; in a process of its own, whose limit it is."""
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom sage_cli.output import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
        "try:\n    write_text(Path(sys.argv[1]), 'more than nine bytes')\nexcept OSError as error:\n    print(error)\n"
    )
    target = tmp_path / "new" / "one" / "talk.txt"
    done = subprocess.run([sys.executable, "-c", program, target], capture_output=True, text=True, check=True)
    assert done.stdout == f"[Errno 27] File too large: '{target}'\n"
    assert not list(tmp_path.iterdir())


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    target = tmp_path / "talk.txt"
    together = threading.Barrier(4)

    def work(letter: str) -> None:
        for _ in range(20):
            with open_text(target) as file:
                together.wait()
                file.write(letter * 10_000)

    threads = [threading.Thread(target=work, args=[letter]) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = target.read_text()
    assert text == text[0] * 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["talk.txt"]


def test_what_a_path_is_stays_so(tmp_path: Path) -> None:
    """A link stays a link, also one to nothing yet; a file keeps its mode, and a new one has the usual one."""
    (file := tmp_path / "file.txt").write_text("old")
    file.chmod(0o640)
    (link := tmp_path / "link.txt").symlink_to("file.txt")
    (dangling := tmp_path / "dangling.txt").symlink_to("made.txt")
    write_text(link, "one")
    write_text(dangling, "two")
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("one", 0o640)
    (usual := tmp_path / "usual").touch()
    assert (tmp_path / "made.txt").stat().st_mode == usual.stat().st_mode
    assert (tmp_path / "made.txt").read_text() == "two"


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.skipif(os.name == "nt", reason="no modes here")
@pytest.mark.parametrize(("mode", "kept"), [(0o644, 0o644), (0o640, 0o600), (0o600, 0o600), (0o666, 0o644)])
def test_where_modes_cannot_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, kept: int) -> None:
    """A file is replaced nevertheless, and nobody may read the new one who could not read the old one."""
    (file := tmp_path / "file.txt").write_text("old")
    file.chmod(mode)
    monkeypatch.setattr(Path, "chmod", _refuse)
    before = os.umask(0o022)
    try:
        write_text(file, "new")
    finally:
        os.umask(before)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", kept)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="gives a file to a group")
def test_a_file_stays_in_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "file.txt").write_text("old")
    file.chmod(0o660)
    os.chown(file, -1, 1234)
    write_text(file, "new")
    assert (file.stat().st_gid, file.stat().st_mode & 0o777) == (1234, 0o660)
    monkeypatch.setattr(os, "chown", _refuse)
    write_text(file, "newer")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("newer", 0o600)


def test_a_file_stays_open_to_the_same_users(tmp_path: Path) -> None:
    """With an access control list, the bits of the group are a mask: alone, they would open the file to its group."""
    acl = struct.pack("<I", 2)  # linux/posix_acl_xattr.h; one user beside the owner may read and write
    for tag, may, who in (0x01, 6, -1), (0x02, 6, 1234), (0x04, 0, -1), (0x10, 6, -1), (0x20, 0, -1):
        acl += struct.pack("<HHi", tag, may, who)
    (file := tmp_path / "file.txt").write_text("old")
    try:
        os.setxattr(file, "system.posix_acl_access", acl)
    except (AttributeError, OSError):
        pytest.skip("no such lists here")
    write_text(file, "new")
    assert (file.read_text(), os.getxattr(file, "system.posix_acl_access")) == ("new", acl)


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 125 + ".txt")
    assert len(os.fsencode(target.name)) == 254
    write_text(target, "words")
    assert target.read_text() == "words"


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a folder"):
        check_targets([tmp_path])
    for target in tmp_path / "loop", tmp_path / "file" / "below", tmp_path / ("n" * 300):
        with pytest.raises(OSError) as failure:
            check_targets([target])
        assert failure.value.filename == str(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]
    assert (tmp_path / "loop").is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_pipes_and_devices_are_written_through(tmp_path: Path) -> None:
    os.mkfifo(fifo := tmp_path / "fifo")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with open_text(fifo) as file:
            print("a line", file=file)
            assert os.read(reader, 100) == b"a line\n"  # at once
    finally:
        os.close(reader)
    write_text(Path(os.devnull), "words")
    assert fifo.is_fifo()
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full here")
def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_text(Path("/dev/full"), "words")


def test_an_error_of_the_block_is_not_the_target_s(tmp_path: Path) -> None:
    with pytest.raises(OSError) as failure, open_text(tmp_path / "talk.txt"):
        raise OSError(5, "Input/output error", "recording.wav")
    assert failure.value.filename == "recording.wav"


def test_what_is_no_unicode_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "talk.txt", "caf\udce9\n")
    assert (tmp_path / "talk.txt").read_bytes() == b"caf?\n"


def test_formats_by_suffix() -> None:
    assert [format_of(name, ("txt", "srt"), "txt") for name in ("a.srt", "a.SRT", "dir.d/a", "a.b.txt")] == ["srt", "srt", "txt", "txt"]
    for name in "talk.docx", "x.ass", "talk.mp4":
        with pytest.raises(UsageError, match="known are txt, srt"):
            format_of(name, ("txt", "srt"), "txt")


def test_folders(tmp_path: Path) -> None:
    assert is_folder(str(tmp_path))
    assert is_folder("new/")
    assert is_folder(f"{tmp_path}/new.d/")
    assert is_folder(str(tmp_path / "new"))
    assert not is_folder(str(tmp_path / "new.srt"))
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nothing")
    assert not any(is_folder(str(name)) for name in (tmp_path / "file", tmp_path / "link", os.devnull))


def test_options_for_a_folder(tmp_path: Path) -> None:
    assert folder_named("--clips", f"{tmp_path}/new/one") == tmp_path / "new" / "one"
    assert folder_named("--clips", f"{tmp_path}/v1.2/") == folder_named("--clips", f"{tmp_path}/v1.2") == tmp_path / "v1.2"
    (tmp_path / "file").touch()
    for name, said in (
        ("-", "--clips -: several files cannot go to stdout; name a folder"),
        (f"{tmp_path}/file", f"--clips {tmp_path}/file: this is a file; name a folder"),
        ("one.mp4", "--clips one.mp4: this is a file; name a folder (for a new one: one.mp4/)"),
    ):
        with pytest.raises(UsageError) as refused:
            folder_named("--clips", name)
        assert str(refused.value) == said


def test_runs_that_make_one_folder_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def work(number: int) -> None:
        with open_text(tmp_path / "new" / "one" / f"{number}.txt") as file:
            file.write("words")
            together.wait()

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([*(tmp_path / "new" / "one").iterdir()]) == 8


def test_a_killed_run_leaves_the_old_file(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom sage_cli.output import open_text\n"
        "with open_text(Path(sys.argv[1])) as file:\n"
        "    file.write('half' * 100000)\n    print(flush=True)\n    time.sleep(60)\n"
    )
    (target := tmp_path / "talk.txt").write_text("old")
    with subprocess.Popen([sys.executable, "-c", program, target], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"talk.txt": "old"}


def test_a_long_stem_is_cut_to_what_fits() -> None:
    for stem in ("a" * 300, "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 100):
        name = file_name(stem, "_1.jpg")
        assert name.startswith(stem[:80])
        assert name.endswith("_1.jpg")
        assert 253 <= len(os.fsencode(name)) <= 255
    assert file_name("talk", ".srt") == "talk.srt"


def test_a_folder_without_a_file_goes_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), output_folder(tmp_path / "new" / "one"):
        raise OSError("full")
    assert not (tmp_path / "new").exists()
    with pytest.raises(OSError, match="full"), output_folder(tmp_path / "new" / "one") as folder:
        (folder / "file").write_text("kept")
        raise OSError("full")
    assert (tmp_path / "new" / "one" / "file").is_file()


def test_a_file_on_a_read_only_file_system_says_so(tmp_path: Path) -> None:
    """Mounted in a namespace of its own."""
    (tmp_path / "o.srt").write_text("words\n")
    program = f"from pathlib import Path; from sage_cli.output import check_targets; check_targets([Path({str(tmp_path / 'o.srt')!r})], [])"
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" -c "$3"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, program]
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Read-only file system" in done.stderr.splitlines()[-1], done.stderr


def test_text_in_utf_16_is_text(tmp_path: Path) -> None:
    (tmp_path / "o.srt").write_bytes("words\n".encode("utf-16"))
    write_text(tmp_path / "o.srt", "new\n")
    assert (tmp_path / "o.srt").read_bytes() == b"new\n"


def test_a_folder_is_checked_before_it_is_made(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "one")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised:
        check_folder(tmp_path / "file" / "one")
    assert raised.value.filename == str(tmp_path / "file" / "one")
