"""``sage mcp`` as its users meet it: started by the SDK's own client."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import anyio
import cv2
import numpy as np
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from sage_cli.assets import CLIPS
from sage_cli.errors import ModelError, UsageError
from sage_cli.mcp import Folders, Worker, make_server
from sage_cli.mcp.tools import models
from sage_cli.model.base import Message, Text
from sage_cli.output import folded
from sage_cli.session import Session, open_session
from sage_cli.session.ground import Found
from sage_cli.store.models import SPEECH_MAGIC
from sage_cli.video import Video
from tests.media import make_audio, make_video
from tests.models import write_qwen3_vl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("short.mp4", "long.mp4", "speech.mp4"):
        shutil.copy(CLIPS / name, folder / name)
    return folder


@pytest.fixture
def connect(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    environment = {
        "SAGE_MODELS_DIR": str(tmp_path / "models"),
        "SAGE_CACHE_DIR": str(tmp_path / "cache"),
        "SAGE_CONFIG": str(tmp_path / "config.toml"),
    }

    @asynccontextmanager
    async def connect(**changed: str) -> AsyncIterator[Client]:
        words = ["-m", "sage_cli", "mcp", str(folder), "--model", "nano", "--threads", "1", "--quiet"]
        with (tmp_path / "stderr").open("w") as log:
            async with Client(
                stdio_client(StdioServerParameters(command=sys.executable, args=words, env=environment | changed), errlog=log)
            ) as client:
                yield client

    return connect


def test_its_tools_answer(connect: Callable[[], Any], folder: Path, tmp_path: Path) -> None:
    async def talk() -> None:
        async with connect() as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(tools) == ["list_videos", "ask", "summary", "find_event", "list_models", "transcribe", "frames"]
            assert tools["ask"].input_schema["required"] == ["video", "question"]
            assert tools["ask"].output_schema

            told: list[str] = []

            async def progress(done: float, total: float | None, message: str | None) -> None:
                told.append(message or "")

            result = await client.call_tool(
                "ask", {"video": "short.mp4", "question": "Which shape appears last?"}, progress_callback=progress
            )
            assert not result.is_error
            assert result.structured_content
            assert result.structured_content["answer"]
            assert result.structured_content["evidence"]
            assert told

            result = await client.call_tool("list_videos", {})
            assert result.structured_content == {"videos": ["long.mp4", "short.mp4", "speech.mp4"], "more": 0}
            result = await client.call_tool("list_videos", {"containing": "SPEECH"})
            assert result.structured_content == {"videos": ["speech.mp4"], "more": 0}
            result = await client.call_tool("summary", {"video": "long.mp4", "end": 30})
            assert result.structured_content
            assert result.structured_content["chapters"][-1]["end"] == "00:00:30.000"

            async def transcript(**arguments: Any) -> list[str]:
                result = await client.call_tool("transcribe", {"video": "speech.mp4"} | arguments)
                assert result.structured_content is None
                (text,) = result.content
                return list(text.text.splitlines())

            heard = await transcript()
            assert heard[0] == "From ggml-sage-nano.bin, language en:"
            assert heard[1:]
            (folder / "speech.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Seven.</v>\n")
            assert await transcript() == ["From speech.vtt:", "00:00:01  Ann: Seven."]
            assert await transcript(source="speech") == heard
            (folder / "speech.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nSieben.\n")
            choice = "Notice: speech.vtt is used, not speech.de.srt; to change that, set SAGE_LANGUAGE=de"
            people = "(options are for the person who starts 'sage mcp')."
            assert (await transcript())[1:] == ["00:00:01  Ann: Seven.", f"{choice} {people}"]

            for quick in (True, False):
                result = await client.call_tool("find_event", {"video": "short.mp4", "event": "red star", "quick": quick})
                assert result.structured_content
                (one,) = result.structured_content["found"]
                assert one["start"] < "00:00:09" < one["end"]

            result = await client.call_tool("frames", {"video": "short.mp4", "times": ["0:01", "2"]})
            images = [part for part in result.content if part.type == "image"]
            assert len(images) == 2
            decoded = cv2.imdecode(np.frombuffer(base64.b64decode(images[0].data), np.uint8), cv2.IMREAD_COLOR)
            assert decoded is not None

            (tmp_path / "models").mkdir()
            (tmp_path / "models" / "ggml-mine.bin").write_bytes(SPEECH_MAGIC)
            result = await client.call_tool("list_models", {})
            assert result.structured_content
            kinds = {model["name"]: model["kind"] for model in result.structured_content["models"]}
            assert (kinds["nano"], kinds["ggml-mine"]) == ("vision", "speech")

            for path in ("/etc/passwd", "../secret.mp4", str(tmp_path / "elsewhere.mp4")):
                refused = await client.call_tool("ask", {"video": path, "question": "What is it?"})
                assert refused.is_error
                assert "outside the folders" in refused.content[0].text
            refused = await client.call_tool("frames", {"video": "missing.mp4", "times": ["1"]})
            assert refused.is_error
            assert "no such file" in refused.content[0].text

    anyio.run(talk)


def test_the_model_in_use_is_named_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))

    def in_use(**options: Any) -> str | None:
        with open_session(**options) as session:
            return models(session).in_use

    assert in_use() is None
    assert in_use(model="nano") == "nano"
    assert in_use(model="http://me:secret@127.0.0.1:1/v1") == "127.0.0.1:1"
    name = write_qwen3_vl(tmp_path / "mine").text.stem
    assert in_use() in (name, "mine")


def test_wrong_arguments_are_told_in_a_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))

    async def talk(server: MCPServer) -> None:
        for tool in await server.list_tools():
            assert tool.input_schema["additionalProperties"] is False
        for name, arguments, told in (
            ("transcribe", {"video": "speech.mp4", "begin": 9}, "unknown: begin (transcribe takes video, start, end, source)"),
            ("transcribe", {"media": "speech.mp4"}, "unknown: media; missing: video (transcribe takes video, start, end, source)"),
            ("list_models", {"all": True}, "unknown: all (list_models takes no arguments)"),
            (
                "frames",
                {"video": 3, "times": [None]},
                "video should be text; times should be text or a number (frames takes video, times)",
            ),
            ("frames", {"video": "short.mp4", "times": []}, "times should have at least 1 item, not 0 (frames takes video, times)"),
            ("frames", {"video": "short.mp4", "times": 1}, "times should be a list (frames takes video, times)"),
            (
                "transcribe",
                {"video": "speech.mp4", "start": True},
                "start should be text or a number (transcribe takes video, start, end, source)",
            ),
            ("frames", {"video": "short.mp4", "times": ["99"]}, "99 is past the end: the media goes from 00:00:00 to 00:00:12"),
        ):
            with pytest.raises(ToolError) as raised:
                await server.call_tool(name, arguments)
            assert str(raised.value) == told

    with open_session(model="nano", cache_limit=0) as session:
        anyio.run(talk, make_server(Worker(session), Folders([folder])))


def test_a_long_result_comes_in_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    cues = [
        (f"{number * 5 // 1000:02}.{number * 5 % 1000:03}", f"This is sentence {number} of 2000, in German: Straße.")
        for number in range(2000)
    ]
    ends = [*(start for start, _ in cues[1:]), "11.000"]
    timed = "\n\n".join(f"00:{start} --> 00:{end}\n{text}" for (start, text), end in zip(cues, ends, strict=True))
    (folder / "short.vtt").write_text(f"WEBVTT\n\n{timed}\n", encoding="utf-8")

    async def parts(client: Client) -> AsyncIterator[list[str]]:
        start = ""
        while True:
            result: Any = await client.call_tool("transcribe", {"video": "short.mp4", "start": start})
            (text,) = result.content
            assert len(text.text.encode()) < 45_000
            _, *lines, last = text.text.splitlines()
            if "goes on" not in last:
                yield [*lines, last]
                return
            yield lines
            start = last.split("start ")[1].rstrip(".")

    async def talk(server: MCPServer) -> None:
        async with Client(server) as client:
            await through(client)

    async def through(client: Client) -> None:
        came = [part async for part in parts(client)]
        assert len(came) > 2
        assert [line.split("  ", 1)[1] for part in came for line in part] == [text for _, text in cues]

        found = [Found(2.0 * number + 2, ((2.0 * number, 2.0 * number + 1),)) for number in range(500)]
        monkeypatch.setattr("sage_cli.mcp.tools.ground", lambda *_, **__: (one for one in found))
        monkeypatch.setattr("sage_cli.mcp.tools._load", lambda *_: None)
        monkeypatch.setattr(Session, "span", lambda *_: (0.0, 1000.0))
        result: Any = await client.call_tool("find_event", {"video": "short.mp4", "event": "a blink"})
        assert len(result.structured_content["found"]) == 200
        assert result.structured_content["notices"] == ["the search ended here: call again with start 00:06:39.000"]

    with open_session(model="nano", cache_limit=0) as session:
        anyio.run(talk, make_server(Worker(session), Folders([folder])))


def test_options_are_told_to_be_another_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))

    def fail(_session: Session, _report: Callable[[str], None]) -> None:
        raise ModelError("no room: raise --ctx-size")

    context: Any = None  # nobody to report to
    with (
        open_session(model="nano", cache_limit=0) as session,
        pytest.raises(ToolError, match=r"--ctx-size \(.* 'sage mcp'; a shorter part"),
    ):
        anyio.run(Worker(session).run, context, fail)


def test_damage_is_told_and_wrong_arguments_are_refused_in_words(connect: Callable[[], Any], folder: Path) -> None:
    whole = make_video(folder / "cut.mkv", seconds=8, size=(64, 48), audio="tone").read_bytes()
    (folder / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    make_audio(folder / "talk.wav", Video(CLIPS / "speech.mp4").audio(), rate=16000)

    async def talk() -> None:
        async with connect() as client:

            async def texts(tool: str, **arguments: Any) -> list[str]:
                result = await client.call_tool(tool, arguments)
                return [part.text for part in result.content if part.type == "text"]

            for tool, arguments in (
                ("ask", {"video": "cut.mkv", "question": "Which shape appears?"}),
                ("ask", {"video": "cut.mkv", "question": "Which shape appears last?"}),
                ("transcribe", {"video": "cut.mkv"}),
                ("find_event", {"video": "cut.mkv", "event": "a red circle"}),
                ("frames", {"video": "cut.mkv", "times": [0, "0:01"]}),
            ):
                assert "the file is cut short" in (await texts(tool, **arguments))[-1]
            assert "The number is seven." in (await texts("ask", video="talk.wav", question="Which number is spoken?"))[-1]
            assert "there is no sound" in (await texts("transcribe", video="short.mp4"))[0]
            assert "no speech at 00:00:05-00:00:08" in (await texts("transcribe", video="talk.wav", start="5", end="0:08"))[0]

            shown = await texts("frames", video="short.mp4", times=[1, "0:02", 3.5])
            assert shown == ["00:00:01.000:", "00:00:02.000:", "00:00:03.500:"]
            refusals = [
                await texts("frames", video="talk.wav", times=["1"]),
                await texts("find_event", video="talk.wav", event="a red circle"),
                await texts("frames", video="short.mp4", times=["99"]),
                await texts("frames", video="short.mp4", times=[12.5]),
                await texts("frames", video="short.mp4", times=[-1]),
                await texts("frames", video="short.mp4", times="1"),
                await texts("find_event", video="short.mp4", event=" "),
                await texts("find_event", video="short.mp4", event="a red circle", start=5, end=2),
            ]
            expected = (
                "has sound but no picture",
                "has sound but no picture",
                "99 is past the end",
                "12.5 is past the end",
                "'-1' is not a time",
                "should be a list",
                "event is empty",
                "start is not before",
            )
            for (refusal,), words in zip(refusals, expected, strict=True):
                assert words in refusal
                assert "--" not in refusal
                assert "pydantic.dev" not in refusal

            result = await client.call_tool("find_event", {"video": "short.mp4", "event": "a red circle", "start": 0, "end": 4.5})
            assert not result.is_error

    anyio.run(talk)


def test_every_request_is_answered(folder: Path, tmp_path: Path) -> None:
    """JSON may hold half a surrogate pair, as of an emoji that was cut."""
    environment = {**os.environ, "SAGE_CACHE_DIR": str(tmp_path / "cache"), "SAGE_CONFIG": str(tmp_path / "config.toml")}
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    named = {"name": "frames", "arguments": {"video": "\ud83d.mp4", "times": ["1"]}}
    long = {"name": "frames", "arguments": {"video": "\U0001f600" * 9000 + " \\ud83d.mp4", "times": ["1"]}}
    messages: list[dict[str, Any]] = [
        {"id": 0, "method": "initialize", "params": client},
        {"method": "notifications/initialized"},
        {"id": 1, "method": "tools/call", "params": named},
        {"id": 2, "method": "tools/call", "params": long},
    ]
    lines = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in messages)
    command = [sys.executable, "-m", "sage_cli", "mcp", str(folder), "--model", "nano"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(lines.encode())
        process.stdin.flush()
        answers = {answer["id"]: answer for answer in (json.loads(process.stdout.readline()) for _ in range(3))}
        process.stdin.close()
    assert "no such file: \ufffd.mp4" in json.dumps(answers[1], ensure_ascii=False)
    assert "\U0001f600" in answers[2]["result"]["content"][0]["text"]
    assert "\\ud83d.mp4" in answers[2]["result"]["content"][0]["text"]


def test_a_cancelled_call_makes_room_for_the_next(connect: Callable[[], Any]) -> None:
    async def talk() -> None:
        async with connect() as client:
            with anyio.move_on_after(0.5):
                await client.call_tool("ask", {"video": "long.mp4", "question": "What appears between 07:43 and 07:50?"})
            result = await client.call_tool("ask", {"video": "short.mp4", "question": "Which shape appears last?"})
            assert result.structured_content
            assert result.structured_content["answer"]

    anyio.run(talk)


def test_a_cancelled_call_is_ended_within_native_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    began, ended = threading.Event(), threading.Event()
    prompt = [Message("user", (Text("Count."),))]

    def endless(session: Session, _report: Callable[[str], None]) -> None:
        try:
            while True:  # it reports nothing, and so never looks whether it was cancelled
                began.set()
                list(session.model.stream(prompt, max_tokens=500))
        finally:
            ended.set()

    async def talk(session: Session) -> int:
        worker = Worker(session)
        context: Any = None  # nobody to report to
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: worker.run(context, endless))
            await anyio.to_thread.run_sync(began.wait)
            tasks.cancel_scope.cancel()
        replies = await worker.run(context, lambda session, _report: [list(session.model.stream(prompt, max_tokens=20)) for _ in range(20)])
        return len(replies)

    with open_session(model="nano", threads=1, cache_limit=0) as session:
        assert anyio.run(talk, session) == 20  # the interrupt does not reach the next call
    assert ended.is_set()


def test_a_cancelled_call_leaves_the_model_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))
    with open_session(model="nano", threads=1, cache_limit=0) as session:
        loading = session.load()
        assert session.load() is loading
        assert loading.result() is session.model
        assert session.load() is loading
    with open_session(model="nano", threads=1, cache_limit=0) as session:
        loading = session.load()
    assert loading.done()  # the thread does not outlive the session

    missing = tmp_path / "missing.gguf"
    with open_session(model=str(missing), mmproj=missing, threads=1) as session:
        loading = session.load()
        with pytest.raises(ModelError):
            loading.result()
        assert session.load() is not loading  # it may be there by now


@pytest.mark.parametrize("end", ["stdin", "stdout", "stdout stdin", "SIGINT"])
def test_the_server_ends_within_a_call(end: str, folder: Path, tmp_path: Path) -> None:
    if os.name == "nt" and end != "stdin":
        pytest.skip("POSIX signals, and a system that tells of a closed pipe")
    environment = {**os.environ, "SAGE_CACHE_DIR": str(tmp_path / "cache"), "SAGE_CONFIG": str(tmp_path / "config.toml")}
    command = [sys.executable, "-m", "sage_cli", "mcp", str(folder), "--model", "nano", "--threads", "1", "--timeout", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdin
        assert process.stdout

        def send(**message: Any) -> None:
            assert process.stdin
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            process.stdin.flush()

        client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        send(id=0, method="initialize", params=client)
        process.stdout.readline()
        send(method="notifications/initialized")
        question = {"video": "long.mp4", "question": "What appears between 07:43 and 07:50?"}
        for number in (1, 2, 3):
            send(id=number, method="tools/call", params={"name": "ask", "arguments": question, "_meta": {"progressToken": number}})
        assert b"notifications/progress" in process.stdout.readline()
        if end.startswith("SIG"):
            process.send_signal(getattr(signal, end))
        else:
            for stream in end.split():
                getattr(process, stream).close()
        assert process.wait(timeout=60) == (130 if end == "SIGINT" else 0)
        assert process.stderr
        assert b"error" not in process.stderr.read()


def test_an_answer_that_cannot_be_written_ends_the_server(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    request = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
    command = [sys.executable, "-m", "sage_cli", "mcp", str(tmp_path), "--model", "nano", "--quiet"]
    environment = {**os.environ, "SAGE_CONFIG": str(tmp_path / "config.toml")}
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=full, stderr=subprocess.PIPE, text=True, env=environment) as process,
    ):
        assert process.stdin
        assert process.stderr
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 1  # stdin is still open
        assert process.stderr.read() == "sage: error: standard output: No space left on device\n"


def test_links_do_not_lead_out_of_the_folders(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"x")
    (folder / "link.mp4").symlink_to(secret)
    (folder / "inside.mp4").symlink_to(folder / "short.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    (folder / "~clip.mp4").symlink_to(folder / "short.mp4")
    folders = Folders([folder])
    assert folders.resolve("~clip.mp4") == (folder / "short.mp4").resolve()
    assert folders.resolve("inside.mp4") == (folder / "short.mp4").resolve()
    assert folders.resolve(str(folder / "short.mp4")) == (folder / "short.mp4").resolve()
    for path in ("link.mp4", str(secret), "../secret.mp4", "loop.mp4", "a\0b", "~/x.mp4", "~nosuch/x.mp4", str(folder)):
        with pytest.raises(UsageError):
            folders.resolve(path)
    with pytest.raises(UsageError, match="no such folder"):
        Folders([folder / "short.mp4"])
    (tmp_path / "secret.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsecret\n")
    (folder / "short.en.srt").symlink_to(tmp_path / "secret.srt")
    with pytest.raises(UsageError, match=r"short\.en\.srt is a link"):
        folders.resolve("inside.mp4")


def test_folders_are_found_in_other_letter_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS and Windows."""
    (tmp_path / "Videos").mkdir()
    folders = Folders([tmp_path / "Videos"])
    monkeypatch.setattr("sage_cli.mcp.folders.same_folder", lambda one, other: folded(str(one)) == folded(str(other)))
    assert folders._holds(tmp_path / "videos" / "sub" / "talk.mp4")
    assert not folders._holds(tmp_path / "other" / "videos")


def test_media_are_listed_by_names_that_can_be_opened(folder: Path, tmp_path: Path) -> None:
    (folder / "sub" / ".hidden").mkdir(parents=True)
    other = tmp_path / "more" / "videos"
    other.mkdir(parents=True)
    secret = tmp_path / "secret.mp4"
    for path in (folder / "sub" / "a.MP4", folder / "sub" / ".hidden" / "b.mp4", folder / "notes.txt", secret):
        path.write_bytes(b"x")
    for path in (other / "short.mp4", other / "new.wav"):  # the first has the name of another
        path.write_bytes(b"x")
    (folder / "link.mp4").symlink_to(secret)
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    if sys.platform == "linux":  # other systems have no such names
        (folder / os.fsdecode(b"\xff.mp4")).write_bytes(b"x")
    folders = Folders([folder, other])
    names = folders.media()
    assert names == ["long.mp4", "short.mp4", "speech.mp4", "sub/a.MP4", "new.wav", str(other / "short.mp4")]
    assert folders.media("/SUB/") == folders.media("a.mp4") == ["sub/a.MP4"]
    assert folders.media(str(other)) == ["new.wav", str(other / "short.mp4")]
    assert [folders.resolve(name).name for name in names] == [Path(name).name for name in names]
    assert folders.resolve("videos/sub/a.MP4") == folder / "sub" / "a.MP4"
    assert folders.resolve("videos/new.wav") == other / "new.wav"
    assert folders.resolve("VIDEOS/new.wav") == other / "new.wav"
    for name, told in (
        (" ", "no path is given"),
        ("sub", "is a folder"),
        ("link.mp4", "outside the folders"),
        ("videos/none.mp4", "no such file"),
    ):
        with pytest.raises(UsageError, match=told):
            folders.resolve(name)


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["--model", "nosuch"], 3, "no such model: nosuch"),
        (["--model", "nano", "--speech-model", "nosuch"], 3, "nosuch"),
        (["--model", "nano", "--no-tool", "nosuch"], 2, "there is no such tool"),
        ([], 0, "questions cannot be answered yet: no model"),
    ],
)
def test_what_no_call_could_use_is_told_at_the_start(words: list[str], status: int, told: str, tmp_path: Path) -> None:
    environment = {"SAGE_MODELS_DIR": str(tmp_path / "models"), "SAGE_CONFIG": str(tmp_path / "config.toml")}
    command = [sys.executable, "-m", "sage_cli", "mcp", str(tmp_path), *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | environment, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert told in done.stderr


def test_a_library_that_cannot_be_loaded_is_a_tool_error(connect: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / f"_pywhispercpp{EXTENSION_SUFFIXES[0]}").write_text("not a library")

    async def talk() -> None:
        async with connect(PYTHONPATH=str(tmp_path), LLAMA_CPP_LIB_PATH=str(tmp_path)) as client:
            for tool, words in ("ask", {"video": "short.mp4", "question": "?"}), ("transcribe", {"video": "speech.mp4"}):
                result = await client.call_tool(tool, words)
                assert result.is_error
                assert "cannot be loaded: " in result.content[0].text
            assert not (await client.call_tool("frames", {"video": "short.mp4", "times": ["1"]})).is_error

    anyio.run(talk)
