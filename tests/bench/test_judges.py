"""What counts as right, and judges that are models: a real one, and one behind an address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sage_cli.bench import Item
from sage_cli.bench.judges import JudgeChoice, ModelJudge, ServerJudge, choice, exact, read_verdict
from sage_cli.errors import UsageError
from sage_cli.model.llama import LlamaModel
from tests.models import write_qwen3_vl


def item(reference: str = "A red star appears.", options: tuple[str, ...] = (), letter: str | None = None) -> Item:
    return Item(0, "0", "What appears?", reference, "v.mp4", None, options, letter)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("a red  star appears", "A red star appears.", True),
        ("A blue star appears.", "A red star appears.", False),
        ("A red star", "A red star appears.", False),
        ("3.5", "35", False),
        ("38°C", "38 °C", False),
        ("It is there from 00:01:01 to 00:01:10.", "It is there from 00:01:03 to 00:01:09.", True),
        ("It is there from 00:01:00 to 00:01:10.", "It is there from 00:01:03 to 00:01:09.", False),
        ("It is there from 01:02 to 01:10.", "It is there from 00:01:03 to 00:01:09.", True),
        ("\u65e5\u672c\u8a9e", "\u65e5\u672c\u8a9e\u3002", True),
    ],
)
def test_exact(answer: str, reference: str, right: bool) -> None:
    assert exact(item(reference), answer).correct is right


CHEESES = ("Cheddar", "Brie", "Blue Brie", "18", "B vitamins")


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("(B) Brie", "B"),
        ("B) Brie", "B"),
        ("The answer is (C).", "C"),
        ("Option D", "D"),
        ("Most likely brie, I think", "B"),
        ("It is a blue brie.", "C"),
        ("The car number is 18.", "D"),
        ("The car number is 181.", None),
        ("Cheddar or brie", None),
        ("A cheese", None),
        ("It is rich in B vitamins", "E"),
        ("(F)", None),
        ("", None),
    ],
)
def test_choice(answer: str, named: str | None) -> None:
    for letter in "ABCDE":
        assert choice(item("x", CHEESES, letter), answer).correct is (letter == named), answer


def test_choice_without_options_is_exact() -> None:
    assert choice(item(), "a red star appears").correct


@pytest.mark.parametrize(
    ("reply", "correct", "reasoning"),
    [
        ("Reasoning: Same thing.\nVerdict: True", True, "Same thing."),
        ("**Reasoning:** They differ.\n\n**Verdict:** False.", False, "They differ."),
        ("verdict: true", True, ""),
        ("Reasoning: The verdict: false was tempting.\nVerdict: True", True, "The"),
    ],
)
def test_verdicts_are_read(reply: str, correct: bool, reasoning: str) -> None:
    verdict = read_verdict(reply)
    assert (verdict.correct, verdict.reasoning) == (correct, reasoning)


def test_which_judge() -> None:
    assert JudgeChoice.parse("choice").kind == "choice"
    assert JudgeChoice.parse("http://h:1/v1/chat/completions", "m") == JudgeChoice("server", "http://h:1/v1", "m")
    with pytest.raises(UsageError, match="--judge gut"):
        JudgeChoice.parse("gut")


def test_a_local_model_has_to_give_a_verdict(tmp_path: Path) -> None:
    """An untrained model: its verdict means nothing, but it is one."""
    files = write_qwen3_vl(tmp_path)
    with LlamaModel(files.text, files.mmproj, context_size=2048, threads=1) as model:
        verdict = ModelJudge(model)(item(), "A red star.")
    assert verdict.correct in (True, False)
    assert verdict.reasoning
    with LlamaModel(files.text, files.mmproj, context_size=256, threads=1) as model:
        verdict = ModelJudge(model)(item(), "long " * 400)
    assert verdict.correct is None
    assert "context" in verdict.reasoning


# ---- a server ------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that has its answers ready: status codes, or replies."""

    daemon_threads = True

    def __init__(self, *answers: int | str | dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        answer = self.server.answers.pop(0)
        if isinstance(answer, str):
            answer = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
        data = b"" if isinstance(answer, int) else json.dumps(answer).encode()
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[Server] = []

    def serve(*answers: int | str | dict[str, Any]) -> Server:
        servers.append(Server(*answers))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return servers[-1]

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_server_is_asked_in_the_protocols_shape(serve: Any) -> None:
    server = serve("Reasoning: Same.\nVerdict: True")
    verdict = ServerJudge(JudgeChoice("server", server.address, "judge-7b"), "secret")(
        item("Brie", ("Cheddar", "Brie"), "B"), "the soft one"
    )
    assert (verdict.correct, verdict.reasoning) == (True, "Same.")
    ((path, authorization, body),) = server.asked
    assert (path, authorization, body["model"]) == ("/v1/chat/completions", "Bearer secret", "judge-7b")
    prompt = body["messages"][0]["content"]
    for part in ("Question: What appears?", "Prediction: the soft one", "Reference: option: B; text: Brie", "Reasoning:", "Verdict:"):
        assert part in prompt


def test_what_passes_is_tried_again(serve: Any) -> None:
    server, waits = serve(503, 429, "Verdict: False"), list[float]()
    verdict = ServerJudge(JudgeChoice("server", server.address), wait=waits.append)(item(), "x")
    assert (verdict.correct, waits) == (False, [1.0, 2.0])
    assert server.asked[0][1] is None  # no key, no header


@pytest.mark.parametrize(
    ("answers", "said"),
    [((401,), "status 401"), ((500,) * 5, "status 500"), (("Maybe.",), "no verdict"), (({"error": 1},), "OpenAI-compatible")],
)
def test_a_judge_that_cannot_tell_says_why(serve: Any, answers: tuple[Any, ...], said: str) -> None:
    server = serve(*answers)
    verdict = ServerJudge(JudgeChoice("server", server.address), wait=lambda _: None)(item(), "x")
    assert verdict.correct is None
    assert said in verdict.reasoning
    assert not server.answers


def test_nobody_there() -> None:
    verdict = ServerJudge(JudgeChoice("server", "http://127.0.0.1:1/v1"), wait=lambda _: None)(item(), "x")
    assert verdict.correct is None
    assert "cannot be reached" in verdict.reasoning
