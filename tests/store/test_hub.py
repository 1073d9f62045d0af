"""Downloads with the real client from a misbehaving hub on loopback."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from sage_cli.errors import SageError, UsageError
from sage_cli.store import install
from sage_cli.store.catalogue import parse
from sage_cli.store.choose import RemoteFile
from sage_cli.store.hub import Hub, Listing, NotThereError
from tests.hub import FakeHub, Repository, running, wait_for_part

NAME = "ana/Model-GGUF"
FILE = "Model-Q4_K_M.gguf"
CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with running() as hub:
        hub.repositories[NAME] = Repository({FILE: CONTENT, "README.md": b"# a model"})
        yield hub


@pytest.fixture
def hub(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Hub(fake.endpoint, tmp_path / "hub")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, recorded instead of slept."""
    seconds: list[float] = []
    real = time.sleep
    monkeypatch.setattr(time, "sleep", lambda s: seconds.append(s) if threading.current_thread() is threading.main_thread() else real(s))
    return seconds


def fetch(hub: Hub, done: list[int] | None = None) -> Path:
    listing = hub.listing(NAME)
    file = next(file for file in listing.files if file.path == FILE)
    return hub.fetch(listing, file, (done if done is not None else []).append)


def blobs(hub: Hub) -> list[str]:
    return sorted(path.name for path in hub.cache.glob("models--*/blobs/*"))


def nothing_is_taken_for_a_model(hub: Hub) -> bool:
    return not list(hub.cache.glob("models--*/snapshots/*/*")) and all(name.endswith(".incomplete") for name in blobs(hub))


def test_a_file_arrives_where_other_programs_find_it(hub: Hub, fake: FakeHub) -> None:
    done: list[int] = []
    path = fetch(hub, done)
    assert path.read_bytes() == CONTENT
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)
    # The library itself, without a network.
    from huggingface_hub import hf_hub_download

    assert hf_hub_download(NAME, FILE, cache_dir=hub.cache, local_files_only=True) == str(path)
    assert blobs(hub) == [fake.repositories[NAME].sha256(FILE)]


def test_what_another_program_has_downloaded_is_not_downloaded_again(hub: Hub, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(NAME, FILE, cache_dir=hub.cache, endpoint=fake.endpoint)
    transfers = len(fake.transfers)
    assert fetch(hub).read_bytes() == CONTENT
    assert len(fake.transfers) == transfers
    fake.repositories.clear()
    offline = Hub(fake.endpoint, hub.cache, offline=True)
    requests = len(fake.requests)
    assert fetch(offline).read_bytes() == CONTENT
    assert len(fake.requests) == requests
    for reference in hub.cache.glob("*/refs/main"):
        reference.write_bytes(b"\xff")
    with pytest.raises(NotThereError, match="is not in"):
        offline.listing(NAME)


def test_twenty_connections_break_at_random_bytes(hub: Hub, fake: FakeHub, waits: list[float]) -> None:
    chance = random.Random(2)
    fake.drops.extend(chance.randrange(1, 2 * len(CONTENT) // 20) for _ in range(20))
    assert fetch(hub).read_bytes() == CONTENT
    assert not fake.drops
    # Every byte came once: each request asked for what was missing, and no more.
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked, _ in fake.transfers if asked]
    assert starts == [sum(sent for _, _, sent in fake.transfers[:number]) for number in range(len(fake.transfers))]
    assert sum(sent for _, _, sent in fake.transfers) == len(CONTENT)


def test_a_connection_that_brings_nothing_is_given_up_but_what_is_there_is_kept(hub: Hub, fake: FakeHub, waits: list[float]) -> None:
    fake.drops.extend([100_000] + [0] * 50)
    with pytest.raises(SageError, match=r"no connection to .*what has arrived is kept"):
        fetch(hub)
    assert waits == [1, 1, 2, 4, 8, 16][: len(waits)]
    assert nothing_is_taken_for_a_model(hub)
    fake.drops.clear()
    fake.transfers.clear()
    assert fetch(hub).read_bytes() == CONTENT
    assert [asked for _, asked, _ in fake.transfers] == ["bytes=100000-"]


def test_a_stalled_connection_is_opened_again(hub: Hub, fake: FakeHub, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1.0)
    fake.holds.append(1000)
    assert fetch(hub).read_bytes() == CONTENT
    assert [asked for _, asked, _ in fake.transfers] == ["bytes=0-", "bytes=1000-"]


def test_a_trickle_is_waited_for(hub: Hub, fake: FakeHub) -> None:
    fake.trickle = 0.002
    done: list[int] = []
    assert fetch(hub, done).read_bytes() == CONTENT
    assert len(done) > 20


def test_a_server_without_ranges_starts_over(hub: Hub, fake: FakeHub, waits: list[float]) -> None:
    fake.ranges = False
    fake.drops.append(50_000)
    assert fetch(hub).read_bytes() == CONTENT
    assert [sent for _, _, sent in fake.transfers] == [50_000, len(CONTENT)]


def test_a_wrong_checksum(hub: Hub, fake: FakeHub) -> None:
    fake.corrupt = True
    with pytest.raises(SageError, match=rf"{FILE} arrived damaged .* run the command again"):
        fetch(hub)
    assert nothing_is_taken_for_a_model(hub)
    assert blobs(hub) == []
    fake.corrupt = False
    assert fetch(hub).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("repository", "problem"),
    [
        (Repository({FILE: CONTENT}, claimed={FILE: "../../../victim/doc"}), f"no checksum for {FILE}"),
        (Repository({FILE: CONTENT}, claimed={FILE: "../../../victim/new/doc"}), f"no checksum for {FILE}"),
        (Repository({FILE: CONTENT}, claimed_commit="../../../../victim"), "that is none: check HF_ENDPOINT"),
        (Repository({FILE: CONTENT, "../../../../victim/doc": b"mine"}), ""),
        (Repository({FILE: CONTENT, "/victim/doc": b"mine", "made\\on\\Windows.txt": b""}), ""),
    ],
)
def test_a_hub_reaches_nothing_outside_the_cache(hub: Hub, fake: FakeHub, repository: Repository, problem: str, tmp_path: Path) -> None:
    """And a file with a name that no path can have leaves the others usable."""
    (tmp_path / "victim").mkdir()
    for name in "doc", "doc.incomplete":
        (tmp_path / "victim" / name).write_text("mine")
    fake.repositories[NAME] = repository
    with pytest.raises(SageError, match=problem) if problem else nullcontext():
        assert fetch(hub).read_bytes() == CONTENT
        assert [file.path for file in hub.listing(NAME).files] == [FILE]
    assert {path.name: path.read_text() for path in (tmp_path / "victim").iterdir()} == {"doc": "mine", "doc.incomplete": "mine"}


def test_the_password_of_a_hub_is_not_shown(fake: FakeHub, tmp_path: Path, waits: list[float]) -> None:
    address = fake.endpoint.replace("//", "//me:s3cret@")
    for hub, repository in (Hub(address, tmp_path), "no/such"), (Hub("http://me:s3cret@127.0.0.1:1", tmp_path), NAME):
        with pytest.raises(SageError, match=r"http://\.\.\.@127\.0\.0\.1") as failure:
            hub.listing(repository)
        assert "s3cret" not in str(failure.value)


def test_a_damaged_beginning_is_found_at_the_end(hub: Hub, fake: FakeHub) -> None:
    part = hub.cache / "models--ana--Model-GGUF" / "blobs" / f"{fake.repositories[NAME].sha256(FILE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not what it was" * 1000)
    with pytest.raises(SageError, match="arrived damaged"):
        fetch(hub)
    assert fetch(hub).read_bytes() == CONTENT


def test_too_much_on_disk_is_thrown_away(hub: Hub, fake: FakeHub) -> None:
    part = hub.cache / "models--ana--Model-GGUF" / "blobs" / f"{fake.repositories[NAME].sha256(FILE)}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert fetch(hub).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_waited_for_as_it_asks(hub: Hub, fake: FakeHub, waits: list[float], status: int) -> None:
    fake.answers.append((status, {"Retry-After": "7"}))
    listing = hub.listing(NAME)
    assert waits == [7]
    fake.answers.extend([(status, {"Retry-After": "9"}), (status, {})])
    hub.fetch(listing, listing.files[0])
    assert waits == [7, 9, 2]


def test_a_hub_that_stays_busy(hub: Hub, fake: FakeHub, waits: list[float]) -> None:
    fake.answers.extend([(503, {})] * 6)
    with pytest.raises(SageError, match="answered 503"):
        hub.listing(NAME)
    fake.answers.append((429, {"Retry-After": "7200"}))
    with pytest.raises(SageError, match="come back in 120 minutes"):
        hub.listing(NAME)


def test_no_such_repository(hub: Hub) -> None:
    with pytest.raises(NotThereError, match=r"no repository ana/Nothing at .*set HF_TOKEN"):
        hub.listing("ana/Nothing")


def test_a_private_repository_needs_a_token_that_goes_nowhere_else(hub: Hub, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.repositories[NAME].token = "hf_secret"
    with pytest.raises(NotThereError, match="or it is private: check the name, or set HF_TOKEN"):
        hub.listing(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(NotThereError, match=r"\(HF_TOKEN was refused\)"):
        hub.listing(NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(hub).read_bytes() == CONTENT
    assert fake.leaks == []


def test_a_gated_repository(hub: Hub, fake: FakeHub) -> None:
    fake.repositories[NAME].gated = True
    listing = hub.listing(NAME)
    with pytest.raises(NotThereError, match=rf"{NAME} is gated: accept its terms on {fake.endpoint}/{NAME}"):
        hub.fetch(listing, listing.files[0])


def test_a_file_that_has_gone(hub: Hub, fake: FakeHub) -> None:
    listing = hub.listing(NAME)
    del fake.repositories[NAME].files["README.md"]
    with pytest.raises(SageError):
        hub.fetch(listing, listing.files[0])
    assert nothing_is_taken_for_a_model(hub)


def test_no_hub_at_all(tmp_path: Path, waits: list[float]) -> None:
    with pytest.raises(SageError, match=r"no connection to http://127.0.0.1:9 .*HF_ENDPOINT"):
        Hub("http://127.0.0.1:9", tmp_path).listing(NAME)


def test_not_a_repository(hub: Hub) -> None:
    with pytest.raises(SageError, match="is not a repository"):
        hub.listing("a/b/c")


def test_conversions_are_searched(hub: Hub, fake: FakeHub) -> None:
    fake.repositories["bob/Other-GGUF"] = Repository({}, tags=("gguf", "base_model:quantized:ana/Model"))
    assert hub.conversions("ana/Model") == ["bob/Other-GGUF"]
    assert hub.conversions("ana/Another") == []
    assert Hub(fake.endpoint, hub.cache, offline=True).conversions("ana/Model") == []


def test_a_full_disk_is_seen_before(hub: Hub, fake: FakeHub) -> None:
    listing = hub.listing(NAME)
    huge = type(listing.files[0])(FILE, 1 << 60, listing.files[0].sha256)
    with pytest.raises(SageError, match=r"GB are missing in .*make room, or set HF_HOME"):
        hub.fetch(listing, huge)
    assert fake.transfers == []


# ---- other processes -----------------------------------------------------------------------------------------------

PULL = """
import sys, resource
from pathlib import Path
endpoint, cache, limit = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from sage_cli.store.hub import Hub
hub = Hub(endpoint, cache)
listing = hub.listing("ana/Model-GGUF")
print(hub.fetch(listing, listing.files[0]))
"""


def pull(fake: FakeHub, cache: Path, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PULL, fake.endpoint, str(cache), str(limit)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="sets a limit of POSIX")
def test_a_disk_that_fills_up(hub: Hub, fake: FakeHub) -> None:
    process = pull(fake, hub.cache, limit=100_000)
    _, complaint = process.communicate()
    assert process.returncode == 1
    assert "SageError: no room left in" in complaint
    assert nothing_is_taken_for_a_model(hub)
    fake.transfers.clear()
    assert fetch(hub).read_bytes() == CONTENT
    assert fake.transfers[0][1] == "bytes=100000-"


def test_two_at_once_download_once(hub: Hub, fake: FakeHub) -> None:
    fake.trickle = 0.002
    processes = [pull(fake, hub.cache) for _ in range(2)]
    done: list[int] = []
    path = fetch(hub, done)
    results = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert {stdout.strip() for stdout, _ in results} == {str(path)}
    assert path.read_bytes() == CONTENT
    assert len(fake.transfers) == 1
    assert done[-1] == len(CONTENT)


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_stopped_half_way_it_goes_on_from_there(hub: Hub, fake: FakeHub, how: str) -> None:
    import signal

    fake.holds.append(100_000)
    process = pull(fake, hub.cache)
    wait_for_part(process, hub.cache, 100_000)
    process.send_signal(getattr(signal, how))
    process.communicate()
    assert process.returncode != 0
    assert nothing_is_taken_for_a_model(hub)
    (part,) = hub.cache.glob("models--*/blobs/*")
    assert part.stat().st_size == 100_000
    fake.transfers.clear()
    assert fetch(hub).read_bytes() == CONTENT
    assert [asked for _, asked, _ in fake.transfers] == ["bytes=100000-"]


def test_the_listing_names_a_commit(hub: Hub, fake: FakeHub) -> None:
    listing: Listing = hub.listing(NAME)
    assert listing.commit == fake.repositories[NAME].commit
    assert {(file.path, file.size) for file in listing.files} == {(FILE, len(CONTENT)), ("README.md", 9)}
    fake.repositories[NAME].claimed_commit = "v1.0"  # of a mirror
    assert hub.listing(NAME).commit == "v1.0"


def test_a_login_page_in_place_of_the_hub(tmp_path: Path) -> None:
    """As in hotels: everything is answered with 200 and a page."""
    page = b"<!doctype html><title>Welcome to our network</title>"

    class Portal(BaseHTTPRequestHandler):
        kind = "text/html"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", self.kind)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "hub")
        listing = Listing(NAME, "c" * 40, (RemoteFile(FILE, 1000, "a" * 64),))
        for Portal.kind in "application/json", "text/html; charset=utf-8", "text/html":
            with pytest.raises(SageError, match="not a Hugging Face hub, perhaps the login page"):
                hub.listing(NAME)
        with pytest.raises(SageError, match="perhaps the login page"):
            hub.fetch(listing, listing.files[0])
        server.shutdown()


@pytest.mark.parametrize("asked", ["\xb2", "-1", "soon", "1" * 5000])
def test_a_wait_that_is_no_number(fake: FakeHub, hub: Hub, waits: list[float], asked: str) -> None:
    fake.answers.append((503, {"Retry-After": asked}))
    if asked.isdecimal():
        with pytest.raises(SageError, match="asks to come back"):
            hub.listing(NAME)
    else:
        assert hub.listing(NAME).repository == NAME


BASE = {"ggml-base.bin": b"lmgg" + bytes(60)}


@pytest.mark.parametrize("links", ["none", "hard"])
def test_file_systems_without_links(fake: FakeHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    """The model is copied or linked hard; it is known to be ours and can be removed."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    fake.repositories["ggerganov/whisper.cpp"] = Repository(BASE)
    planned = install.plan(parse("whisper-base"), hub)
    monkeypatch.setattr(os, "symlink", refuse)
    monkeypatch.setattr(Path, "symlink_to", refuse)  # which has a function of its own on Python 3.10
    # Set by sage_cli.store.hub in the environment, unless another test has imported the hub's library before.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    if links == "none":
        monkeypatch.setattr(os, "link", refuse)
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    model = install.install(planned, hub, lambda _file: lambda _done: None)
    assert model.path.read_bytes() == BASE["ggml-base.bin"]
    assert not model.path.is_symlink()
    assert model.source == "hf:ggerganov/whisper.cpp"
    again = install.install(planned, hub, lambda _file: lambda _done: None)  # an update of our own is no stranger's
    assert again.path.read_bytes() == BASE["ggml-base.bin"]
    install.remove(again)
    assert install.installed() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "/x", "-x", ".x", "nano", "hf:a", "a\nb", "n" * 250])
def test_names_that_no_model_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path / "models"))
    with pytest.raises(UsageError):
        install.check_name(name)
    install.check_name("qwen3-vl-2b:Q8_0")
