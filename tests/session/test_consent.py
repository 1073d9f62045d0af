"""Nothing leaves this machine without consent: Python's connections are recorded, and only loopback is allowed."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from sage_cli.agent.events import RunStarted
from sage_cli.cli import main
from sage_cli.errors import ModelError, SageError, UsageError
from sage_cli.mcp import Folders, Worker, make_server
from sage_cli.session import Session, open_session
from tests.openai_server import Served, serve

LOOPBACK = ("127.0.0.1", "::1", "localhost", None, "")
_watched: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: it cannot be removed, only disabled."""
    if not _watching:
        return
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    else:
        return
    if host not in LOOPBACK:
        _watched.append(host.decode() if isinstance(host, bytes) else str(host))
        raise OSError(f"no network: {host}")


sys.addaudithook(_watch)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Hosts of attempted connections."""
    global _watching
    for name in ("MODELS_DIR", "CACHE_DIR", "CONFIG", "LOG_FILE"):
        monkeypatch.setenv(f"SAGE_{name}", str(tmp_path / name.lower()))
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody to ask
    _watched.clear()
    _watching = True
    yield _watched
    _watching = False


def _ask(session: Session, video: str | Path) -> list[Any]:
    return list(session.ask(video, "What is shown?"))


REMOTE: dict[str, Any] = {"frames": 2, "frame_tokens": 16, "no_tool": ("transcribe-speech",), "max_steps": 1}


@pytest.mark.parametrize("web", ["off", "ask"])
def test_a_question_to_a_local_model_makes_no_connection(left: list[str], clip_path: Path, web: str) -> None:
    with open_session(model="nano", web=web, threads=1) as session:
        assert _ask(session, clip_path)
    assert left == []


@pytest.mark.parametrize("link", ["https://video.example/watch?v=1", "HTTP://video.example/a.mp4"])
def test_offline_opens_no_link(left: list[str], link: str) -> None:
    with open_session(model="nano", offline=True, threads=1) as session:
        with pytest.raises(UsageError, match="offline"):
            _ask(session, link)
        with pytest.raises(UsageError, match="offline"):
            list(session.transcribe(link))
    assert left == []


def test_a_link_is_opened_at_its_own_host_alone(left: list[str]) -> None:
    with open_session(model="nano", threads=1) as session, pytest.raises(SageError):
        _ask(session, "https://video.example/a.mp4")
    assert set(left) == {"video.example"}


@pytest.mark.parametrize("name", ["rtsp://video.example/a", "ftp://video.example/a.mp4", "tcp://video.example:1", "//video.example/a.mp4"])
def test_other_addresses_are_names_of_files(left: list[str], name: str) -> None:
    with open_session(model="nano", threads=1) as session, pytest.raises(SageError):
        _ask(session, name)
    assert left == []


def test_a_file_that_names_others_opens_none_of_them(left: list[str], tmp_path: Path) -> None:
    """FFmpeg has sockets of its own, which no hook sees: a server on loopback would."""
    served = Served(text="x")
    with serve(served), open_session(model="nano", threads=1) as session:
        url = served.url.removesuffix("/v1")
        files = {
            "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
            "list.ffconcat": f"ffconcat version 1.0\nfile '{url}/a.mp4'\n",
            "list.mpd": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><BaseURL>{url}/</BaseURL></MPD>',
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(SageError):
                _ask(session, tmp_path / name)
    assert left == []
    assert served.gets == []


@pytest.mark.parametrize(
    "model", ["http://gpu.example:8000/v1", "https://gpu.example/v1#qwen", "openai:gpt-9", "http://127.0.0.1.example/v1"]
)
def test_offline_reaches_no_served_model(left: list[str], clip_path: Path, model: str) -> None:
    with open_session(model=model, offline=True, **REMOTE) as session, pytest.raises(UsageError, match="offline"):
        _ask(session, clip_path)
    assert left == []


def test_a_served_model_is_asked_at_its_own_host_alone(left: list[str], clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _s: None)
    with open_session(model="http://gpu.example:8000/v1", **REMOTE) as session, pytest.raises(ModelError, match=r"gpu\.example"):
        _ask(session, clip_path)
    assert set(left) == {"gpu.example"}


def test_offline_allows_a_model_on_this_machine(left: list[str], clip_path: Path) -> None:
    with serve(Served(text="{}")) as served, open_session(model=served.url, offline=True, **REMOTE) as session:
        events = _ask(session, clip_path)
    assert isinstance(events[0], RunStarted)
    assert events[0].model.host == ""
    assert served.requests
    assert left == []


def test_an_agent_gets_no_link_through_the_folders(left: list[str], tmp_path: Path) -> None:
    with open_session(model="nano", threads=1) as session:
        server = make_server(Worker(session), Folders([tmp_path]))
        for tool, arguments in (("ask", {"question": "What?"}), ("frames", {"times": ["1"]}), ("find_event", {"event": "x"})):
            with pytest.raises(Exception, match=r"outside the folders|no such file"):
                anyio.run(server.call_tool, tool, {"video": "https://video.example/a.mp4", **arguments})
    assert left == []


@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "--quick"],
        ["models", "list"],
        ["models", "pull", "qwen3-vl-2b", "--offline"],
        ["setup"],
        ["ask", "clip.mp4", "What?"],
        ["config", "list"],
        ["cache", "info"],
    ],
    ids=" ".join,
)
def test_commands_connect_to_nothing_unasked(
    left: list[str], words: list[str], clip_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sage", *(str(clip_path) if word == "clip.mp4" else word for word in words)])
    with pytest.raises(SystemExit):
        main()
    assert left == []
    assert "bug" not in capsys.readouterr().err
