from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme

from sage_cli.agent.events import Answer, RunStarted
from sage_cli.assets import CLIPS, NANO
from sage_cli.errors import ModelError, UsageError
from sage_cli.model.address import RemoteAddress, api_key
from sage_cli.model.base import DEFAULT_CONTEXT, Delta, Frames, Message, Progress, Reply, Text
from sage_cli.model.llama import LlamaModel
from sage_cli.model.remote import RemoteModel
from sage_cli.prompts import Prompts
from sage_cli.session import Session, open_session
from sage_cli.session.conversation import Conversation
from sage_cli.session.models import Models
from sage_cli.session.options import Options
from sage_cli.video.frame import Frame
from tests.models import write_qwen3_vl
from tests.openai_server import Fault, Served, serve

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
WRAP = ("<json>\n", "\n</json>")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaModel]:
    tiny = write_qwen3_vl(tmp_path_factory.mktemp("tiny"))
    with LlamaModel(tiny.text, tiny.mmproj, context_size=8192, threads=1) as model:
        yield model


@pytest.fixture
def server(local: LlamaModel) -> Iterator[Served]:
    with serve(Served(local)) as served:
        yield served


def _connect(served: Served, **options: object) -> RemoteModel:
    address = RemoteAddress.parse(served.url)
    assert address
    return RemoteModel(address, **options)  # type: ignore[arg-type]


def _frames(count: int) -> Frames:
    random = np.random.default_rng(1)
    images = [random.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(count)]
    return Frames(tuple(Frame(at + 0.5, image, f"frame {at}") for at, image in enumerate(images)))


def _ask(model: RemoteModel, text: str = "What colour?", frames: Frames | None = None, **options: object) -> tuple[str, Reply]:
    parts = (frames, Text(text)) if frames else (Text(text),)
    *pieces, reply = model.stream([Message("system", (Text("You look."),)), Message("user", parts)], max_tokens=48, **options)  # type: ignore[arg-type]
    assert isinstance(reply, Reply)
    return "".join(piece.text for piece in pieces if isinstance(piece, Delta)), reply


@pytest.mark.parametrize(
    ("text", "url", "name", "loopback"),
    [
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1", "", True),
        ("http://localhost:11434/v1/#qwen3-vl:4b", "http://localhost:11434/v1", "qwen3-vl:4b", True),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1", "", True),
        ("https://user:secret@gpu.example/v1#a/b", "https://user:secret@gpu.example/v1", "a/b", False),
        ("http://127.0.0.1.example/v1", "http://127.0.0.1.example/v1", "", False),
        ("HTTP://GPU.example/v1", "http://GPU.example/v1", "", False),
    ],
)
def test_addresses(text: str, url: str, name: str, loopback: bool) -> None:
    address = RemoteAddress.parse(text)
    assert address == RemoteAddress(url, name)
    assert address.loopback is loopback
    assert "secret" not in address.host


def test_what_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert RemoteAddress.parse("qwen3-vl-4b") is None
    assert RemoteAddress.parse("hf:owner/repo") is None
    assert RemoteAddress.parse("openai:gpt-9") == RemoteAddress("https://api.openai.com/v1", "gpt-9")
    for wrong in ("http:///v1", "http://127.0.0.1:8123:/v1", "http://127.0.0.1:0/v1", "http://[::1/v1"):
        with pytest.raises(UsageError, match="not an address"):
            RemoteAddress.parse(wrong)
    for bare in ("localhost:8000", "127.0.0.1:8000/v1#m", "[::1]:80/v1", "gpu.example:8000/v1"):
        with pytest.raises(UsageError, match="did you mean http://"):
            RemoteAddress.parse(bare)
    for name in ("qwen2.5vl:7b", "C:/models/a.gguf", "models/a.gguf", "a:1"):
        assert RemoteAddress.parse(name) is None


@pytest.mark.parametrize(
    "wrong", ["u:s3cret@h:0", "u:s3c@ret@h:0", "u:s3c/ret@h", "u:s3c#ret@h", "u:s3c?ret@h", "u:s3c,ret@h", "h:0?key=s3cret", "u:0#s3cret@h"]
)
def test_a_password_in_what_is_no_address_is_not_shown(wrong: str) -> None:
    for text in f"http://{wrong}", f"http://first:80,http://{wrong}":
        with pytest.raises(UsageError, match=r"^http://\S+: not an address") as failure:
            RemoteAddress.parse(text)
        assert "s3c" not in str(failure.value)
        assert "ret" not in str(failure.value)


def test_a_wrong_address_with_an_at_sign_says_that_a_part_is_left_out() -> None:
    with pytest.raises(UsageError, match=r"^http://\.\.\.@q4: not an address"):  # a model's name, or all before it is a password
        RemoteAddress.parse("http://127.0.0.1:99999/v1#qwen@q4")
    with pytest.raises(UsageError, match=r"^\.\.\.@gpu\.example:80/v1: did you mean http://\.\.\.@gpu\.example:80/v1\?"):
        RemoteAddress.parse("ana.example:2024#s3cret@gpu.example:80/v1")


def test_what_an_address_asks_for_is_asked_for_by_every_request_and_not_shown(server: Served) -> None:
    address = RemoteAddress.parse(f"{server.url}/chat/completions?api-version=1&key=secret#served")
    assert address
    assert "secret" not in f"{address.host} {address.shown}"
    with RemoteModel(address) as model:
        _ask(model)
    assert server.gets[0][0] == "/v1/models?api-version=1&key=secret"
    assert server.posts == ["/v1/chat/completions?api-version=1&key=secret"]


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_a_list_of_models_is_asked_for_the_one_that_is_named(server: Served, status: int) -> None:
    server.listed, server.text = status, "Red."
    with pytest.raises(ModelError):
        _connect(server)
    address = RemoteAddress.parse(f"{server.url}#served")
    assert address
    with RemoteModel(address) as model:
        assert _ask(model)[1].text.strip() == "Red."


def test_an_address_without_its_v1_is_known_by_what_is_missing(server: Served) -> None:
    with pytest.raises(ModelError, match=rf"did you mean {server.url}\?"):
        RemoteModel(RemoteAddress(server.url.removesuffix("/v1")))


@pytest.mark.parametrize("key", ["two\nlines", "sekr\u00e9t"])
def test_a_key_that_was_not_pasted_whole_is_told_and_not_shown(key: str) -> None:
    with pytest.raises(ModelError, match="the key for 127") as caught:
        RemoteModel(RemoteAddress("http://127.0.0.1:1/v1"), key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "foo://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_told_and_is_not_for_this_machine(
    server: Served, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ModelError, match=r"no connection to gpu\.example.*ALL_PROXY"):
        RemoteModel(RemoteAddress("http://gpu.example/v1"), retries=0)
    server.text = "Red."
    with _connect(server) as model:
        assert _ask(model)[1].text.strip() == "Red."


def test_a_certificate_of_ones_own_is_trusted_on_this_machine_too(server: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    server.text, secure = "Red.", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(secure)
    with serve(Served(text="Red."), secure) as served:
        with pytest.raises(ModelError, match="set SSL_CERT_FILE"):
            RemoteModel(RemoteAddress(served.url), retries=0)
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with RemoteModel(RemoteAddress(served.url), retries=0) as model:
            assert _ask(model)[1].text.strip() == "Red."
    with pytest.raises(ModelError, match="use http://"):
        RemoteModel(RemoteAddress(server.url.replace("http:", "https:")), retries=0)


def test_a_request_that_was_sent_elsewhere_says_where(server: Served) -> None:
    server.moved = "/elsewhere"
    with _connect(server) as model, pytest.raises(ModelError, match="has moved to /elsewhere: use that"):
        _ask(model)


def test_stills_whose_times_are_not_to_be_written_have_none(server: Served) -> None:
    server.text = "Red."
    with _connect(server) as model:
        _ask(model, frames=replace(_frames(2), pairs=False, timed=False))
    assert [part["type"] for part in server.requests[0]["messages"][1]["content"]] == ["image_url", "image_url", "text"]


@pytest.mark.parametrize(
    ("name", "family", "size"),
    [
        ("allenai/SAGE-MM-Qwen2.5-VL-7B-SFT_RL", "qwen2.5-vl", (364, 280)),
        ("qwen2.5vl:7b", "qwen2.5-vl", (364, 280)),
        ("Qwen3-VL-8B-Instruct", "remote", (352, 256)),
        ("gemma-3", "remote", (352, 256)),
    ],
)
def test_the_family_is_known_by_the_name(server: Served, name: str, family: str, size: tuple[int, int]) -> None:
    server.models = ({"id": name},)
    with _connect(server) as model:
        assert model.info.family == family
        assert model.frame_size(640, 480) == size


@pytest.mark.parametrize("name", ["allenai/SAGE-MM-Qwen3-VL-8B-SFT_RL", "Qwen3-VL-8B-Instruct"])
def test_the_prompts_are_those_for_the_model_that_is_served(server: Served, name: str, clip_path: Path) -> None:
    server.models, server.text = ({"id": name},), '{"final_answer": "Red."}'
    with open_session(model=server.url, frames=2, frame_tokens=16, cache_limit=0) as session:
        assert session.settings.prompts.digest == Prompts("sage-mm" if "SAGE" in name else "general").digest
        *_, last = session.ask(clip_path, "What is shown?")
    assert isinstance(last, Answer)


# As vLLM lists one model with two names and an adapter; one of llama-server; one of Ollama.
VLLM: list[dict[str, Any]] = [{"id": name, "root": "/models/q", "parent": None, "max_model_len": 4096} for name in ("first", "second")]
ADAPTER = {"id": "adapter", "root": "/adapters/a", "parent": "first", "max_model_len": None}
LISTS = (*VLLM, ADAPTER, {"id": "llama", "aliases": ["llama", "lama"], "context_length": 4096}, {"id": "qwen3-vl:latest"})


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("first", "first"),
        ("second", "first"),
        ("adapter", "adapter"),
        ("lama", "llama"),
        ("qwen3-vl", "qwen3-vl:latest"),
        ("unlisted", "unlisted"),
    ],
)
def test_a_model_is_the_same_by_each_of_its_names(server: Served, asked: str, known: str) -> None:
    server.models, server.text = LISTS, "Red."
    server.told = {"/api/ps": {"models": [{"name": "qwen3-vl:latest", "context_length": 4096}]}}
    with RemoteModel(RemoteAddress(server.url, asked)) as model:
        _ask(model)
        assert model.info.name == known
        assert model.info.context_size == (4096 if known not in ("adapter", "unlisted") else DEFAULT_CONTEXT)
    assert server.requests[0]["model"] == asked


def test_names_of_one_model_are_no_choice(server: Served) -> None:
    server.models = tuple(VLLM)
    with _connect(server) as model:
        assert model.info.name == "first"
    server.models = (*VLLM, ADAPTER, {**ADAPTER, "id": "other"})
    with pytest.raises(ModelError, match=r"serves 3 models: .*#first \(first, adapter, other\)"):
        _connect(server)


def test_an_answer_of_the_log_is_the_models_by_whatever_name(
    server: Served, clip_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGE_LOG_FILE", str(tmp_path / "log.db"))
    server.models, server.text = tuple(VLLM), '{"final_answer": "Red."}'

    def is_recalled(name: str) -> bool:
        options = Options(model=f"{server.url}#{name}", frames=2, frame_tokens=16, cache_limit=0, resume=True)
        with Session(options) as session:
            session.check(session.video(clip_path))
            started, *_, last = Conversation(session, clip_path).ask("What is shown?")
        assert isinstance(started, RunStarted)
        assert isinstance(last, Answer)
        return started.recalled

    assert [is_recalled(name) for name in ("second", "first", "second", "other", "other")] == [False, True, True, False, True]
    server.stop()
    assert is_recalled("first")  # no server is needed, where the log has the very name
    assert Models(Options(model=f"{server.url}#second")).served_name == "second"


def test_the_key_of_openai_goes_to_openai_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    assert api_key(RemoteAddress("https://api.openai.com/v1", "x")) == "sk-mine"
    assert api_key(RemoteAddress("https://api.openai.com.evil.example/v1", "x")) != "sk-mine"
    monkeypatch.setenv("SAGE_API_KEY", "given")
    assert api_key(RemoteAddress("http://gpu.example/v1")) == "given"


def test_a_server_with_a_key_tells_its_context_and_learns_nothing_of_an_account(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-mine")
    server.models, server.key, server.context_size = ({"id": "served"},), "secret", 4096
    with _connect(server, key="secret") as model:
        assert model.info.context_size == 4096
        english, chinese = (model.count_tokens([Message("user", (Text(letter * 900),))]) for letter in "a他")
        assert 300 <= english < 320 < 900 <= chinese
    assert [path for path, _ in server.gets] == ["/v1/models", "/props"]
    assert all("mine" not in str(headers) for _, headers in server.gets)


def test_requests_of_several_threads_keep_their_own_frames(server: Served) -> None:
    """One that waits for its turn is not sent the frames of another one."""
    with _connect(server) as model:
        first, other = _frames(2), _frames(4)
        waiting = model.stream([Message("user", (first, Text("What colour?")))], schema=SCHEMA, wrap=WRAP, max_tokens=64)
        assert isinstance(next(waiting), Progress)
        _ask(model, frames=Frames(other.frames[2:]))
        assert any(isinstance(item, Reply) for item in waiting)
    images = [[part for part in body["messages"][-1]["content"] if part["type"] == "image_url"] for body in server.requests]
    assert len(images) == 2
    assert images[0] != images[1]


def test_a_schema_is_kept_and_frames_arrive_with_their_times(server: Served) -> None:
    with _connect(server) as model:
        assert model.info.context_size == 8192
        assert model.info.host == ""  # loopback: nothing leaves
        spoken, reply = _ask(model, frames=_frames(2), schema=SCHEMA, wrap=WRAP)
    assert json.loads(reply.text.removeprefix(WRAP[0]).removesuffix(WRAP[1]))["colour"] in ("red", "blue")
    assert spoken in reply.text
    assert reply.usage.images == 2
    assert reply.usage.output_tokens > 0
    system, user = server.requests[0]["messages"]
    assert system["content"] == "You look."
    assert [part.get("text") for part in user["content"]] == ["<0.5 seconds>", None, "<1.5 seconds>", None, "What colour?"]


@pytest.mark.parametrize("formats", [("json_object",), ()])
def test_a_server_without_schemas_is_asked_in_another_way(server: Served, formats: tuple[str, ...]) -> None:
    server.formats, server.text = formats, '{"colour": "red"}'
    with _connect(server) as model:
        for _ in range(2):
            assert '"red"' in _ask(model, schema=SCHEMA, wrap=WRAP)[1].text
    kinds = [(body.get("response_format") or {}).get("type") for body in server.requests]
    assert kinds == [formats[0] if formats else None] * 2  # the second reply is not asked for in vain again


@pytest.mark.parametrize(
    "faults", [["busy", "busy"], ["down"], ["hang-up"], ["cut"], ["garbage"], ["disowned"], ["cut", "busy", "hang-up"]]
)
def test_what_passes_is_tried_again(server: Served, faults: list[Fault]) -> None:
    server.text = "one two three four five six"
    server.faults = list(faults)
    with _connect(server) as model:
        _, reply = _ask(model)
    assert reply.text.split() == ["one", "two", "three", "four", "five", "six"]
    assert not server.faults


def test_a_server_that_limits_requests_is_asked_again_for_its_models_too(server: Served) -> None:
    server.busy = 2
    with _connect(server) as model:
        assert model.info.name == "served"
    server.busy = 100
    with pytest.raises(ModelError, match=r"status 429 \(too many requests\): it takes no more requests for now, try again later$"):
        _connect(server, retries=0)


def test_what_does_not_pass_is_one_line(server: Served) -> None:
    with _connect(server, retries=1) as model:
        for fault in ("busy", "hang-up", "cut", "garbage", "disowned", "long"):
            server.faults = [fault] * 20
            with pytest.raises(ModelError) as caught:
                _ask(model)
            assert "\n" not in str(caught.value)
            assert "127.0.0.1" in str(caught.value)


def test_a_reply_that_the_server_disowns_is_asked_for_in_another_way(server: Served) -> None:
    server.text, server.faults = '{"colour": "re', ["disowned"]
    with _connect(server) as model:
        _ask(model, schema=SCHEMA, wrap=WRAP)
        _ask(model, schema=SCHEMA, wrap=WRAP)
        assert [body["response_format"]["type"] for body in server.requests] == ["json_schema", "json_object", "json_schema"]
        server.text, server.faults = '```json\n{"colour": "red"}\n', ["disowned"]
        assert '"red"' in _ask(model, schema=SCHEMA, wrap=WRAP)[1].text
    assert len(server.requests) == 4  # what is whole is not asked for again


def test_a_prompt_that_is_too_long_says_what_to_do_and_changes_nothing(server: Served) -> None:
    with _connect(server) as model:
        server.faults = ["long"] * 2
        with pytest.raises(ModelError, match="--frames"):
            _ask(model, schema=SCHEMA, wrap=WRAP)
        _ask(model, schema=SCHEMA, wrap=WRAP)
    assert server.requests[-1]["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize(
    "stream",
    [b"", b"<html>", b"data: []\n\n", b'data: {"choices": [null]}\n\n', b"data: \xff\n\n", b"data: " + b"[" * 100_000 + b"\n\n"],
    ids=["nothing", "html", "list", "null", "no UTF-8", "deep"],
)
def test_whatever_a_server_sends_it_is_one_line(server: Served, stream: bytes) -> None:
    server.stream = stream
    with _connect(server, retries=0) as model, pytest.raises(ModelError, match="broke off") as caught:
        _ask(model)
    assert "\n" not in str(caught.value)


JSON, COMPLETION = "application/json", {"choices": [{"message": {"content": "a b"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


@pytest.mark.parametrize(
    "given", [COMPLETION, {"choices": [{"delta": {"content": [{"type": "text", "text": "a b"}]}, "finish_reason": "stop"}]}]
)
def test_a_reply_comes_in_one_piece_or_in_parts(server: Served, given: dict[str, Any]) -> None:
    text = json.dumps(given)
    server.page = (200, JSON, text if given is COMPLETION else f"data: {text}\n\n")
    with _connect(server) as model:
        spoken, reply = _ask(model)
    assert spoken == reply.text == "a b"
    assert reply.usage.output_tokens == (2 if given is COMPLETION else 0)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ((200, "text/html; charset=utf-8", "<html>log in</html>"), r"no OpenAI-compatible reply \(text/html\)"),
        ((200, JSON, ""), "it is empty"),
        ((204, JSON, ""), "it is empty"),
        ((200, JSON, "[1]"), r"reply \(application/json\)"),
        ((200, JSON, '{"detail": "not here"}'), "not here"),
        ((400, JSON, '{"error": "nope\\nsecond line \\u001b[2J"}'), r"status 400 \(nope\)$"),
        ((400, JSON, '{"message": "no\\u001b bread"}'), r"status 400 \(no bread\)"),
        ((402, JSON, '{"detail": [{"loc": ["body"], "msg": "too hot"}]}'), "too hot"),
        ((418, "text/plain", "a teapot\nindeed"), r"\(a teapot\)"),
        ((418, "text/html", "<html>boom</html>"), "answered with status 418$"),
        ((403, JSON, '{"error": {"message": "not in your country"}}'), "not in your country"),
        ((404, JSON, '{"detail": "gone"}'), r"/v1/chat/completions or no model 'served' \(gone\)"),
    ],
)
def test_what_the_server_says_in_place_of_a_reply_is_told_at_once(server: Served, page: tuple[int, str, str], told: str) -> None:
    server.page = page
    with _connect(server) as model, pytest.raises(ModelError, match=told):
        _ask(model)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"delta": {"content": "A st"}, "finish_reason": "content_filter"}, "content filter stopped the reply"),
        ({"delta": {"refusal": "I cannot."}, "finish_reason": "stop"}, r"refused to answer: I cannot\."),
    ],
)
def test_why_a_server_gives_no_reply_is_told(server: Served, choice: dict[str, Any], told: str) -> None:
    server.stream = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
    with _connect(server) as model, pytest.raises(ModelError, match=told):
        _ask(model, schema=SCHEMA, wrap=WRAP)


def test_a_slow_stream_is_read_to_its_end(server: Served) -> None:
    server.text, server.pause_s = "a b c d e", 0.02
    with _connect(server) as model:
        items = list(model.stream([Message("user", (Text("What?"),))]))
    assert isinstance(reply := items[-1], Reply)
    assert reply.text.split() == list("abcde")
    # Once it writes, it does not read the prompt any more.
    first = next(place for place, item in enumerate(items) if isinstance(item, Delta) and item.text)
    assert isinstance(read := items[first - 1], Progress)
    assert read.stage == "prefill"
    assert read.done == read.total > 0


def test_a_server_that_says_nothing_leaves_time_to_look_at_the_clock_and_can_be_left(server: Served) -> None:
    server.text, server.pause_s = "a b", 60.0
    with _connect(server) as model:
        items = model.stream([Message("user", (Text("half a character: \ud83d"),))])
        for text in ("a ", ""):
            assert Delta(text) in items
        model.interrupt()
        with pytest.raises(KeyboardInterrupt):
            next(items)
    assert server.requests[0]["messages"][0]["content"].endswith(": \ufffd")


def test_servers_that_cannot_be_used(server: Served) -> None:
    server.models = ({"id": "one"}, {"id": "two"})
    with pytest.raises(ModelError, match="serves 2 models: name one"):
        _connect(server)
    server.models = ()
    with pytest.raises(ModelError, match="serves no model"):
        _connect(server)
    server.models = ({"id": "one"},)
    server.key = "secret"
    with _connect(server, key="wrong") as model, pytest.raises(ModelError, match="refuses the key"):
        _ask(model)
    with pytest.raises(ModelError, match=r"cannot reach 127\.0\.0\.1:1 "):
        RemoteModel(RemoteAddress("http://127.0.0.1:1/v1"), retries=0)


def test_a_question_takes_the_same_way_as_with_a_local_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CONFIG", str(tmp_path / "config.toml"))

    def ask(model: str) -> list[str]:
        given: dict[str, Any] = {"prompts": str(NANO.prompts), "frames": 8, "frame_tokens": NANO.frame_tokens, "ctx_size": 4096}
        with open_session(model=model, no_tool=("transcribe-speech",), offline=True, threads=1, cache_limit=0, **given) as session:
            events = session.ask(CLIPS / "short.mp4", "How many shapes appear?")
            return [event.type for event in events if event.type not in ("working", "text_delta")]

    with LlamaModel(NANO.text, NANO.mmproj, context_size=4096, threads=1) as model, serve(Served(model)) as served:
        assert ask(served.url) == ask(NANO.name)
        assert served.requests[0]["response_format"]["type"] == "json_schema"


def test_an_answer_is_found_in_what_a_server_without_schemas_says(server: Served, clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the schema and ignores it: prose, a fence, single quotes, a key missing."""
    monkeypatch.setenv("SAGE_CACHE_DIR", str(clip_path.parent / "cache"))
    server.text = "Sure! Here you are:\n```json\n{'video_context': 'A clip.', 'final_answer': 'A moving square.',}\n```"
    with open_session(model=server.url, frames=2, frame_tokens=16, no_tool=("transcribe-speech",), offline=True) as session:
        *_, last = session.ask(clip_path, "What is shown?")
    assert isinstance(last, Answer)
    assert last.answer == "A moving square."


def test_offline_allows_loopback_alone(clip_path: Path) -> None:
    with open_session(model="http://gpu.example/v1", offline=True) as session, pytest.raises(UsageError, match=r"gpu\.example"):
        list(session.ask(clip_path, "What is shown?"))
