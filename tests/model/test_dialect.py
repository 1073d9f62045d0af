"""What servers refuse, as they say it, and how they are asked again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from sage_cli.errors import ModelError
from sage_cli.model.address import RemoteAddress
from sage_cli.model.base import Message, Reply, Text
from sage_cli.model.received import closers_of, repeats_itself
from sage_cli.model.refusals import UnreachableError, is_lasting
from sage_cli.model.remote import RemoteModel
from sage_cli.tools.schema import constant, either, record, text
from tests.openai_server import Served, serve

ALTERNATIVES = either(record(answer=constant("red"), sure=constant(True)), record(answer=text(9), sure=constant(False)))
OTHER = record(colour=text(9))


@pytest.fixture
def server() -> Iterator[Served]:
    with serve(Served(text='{"answer": "red"}', models=({"id": "served", "max_model_len": 100_000},))) as served:
        yield served


def connect(served: Served, **options: Any) -> RemoteModel:
    address = RemoteAddress.parse(served.url)
    assert address
    return RemoteModel(address, retries=0, **options)


def ask(model: RemoteModel, schema: Any = None, question: str = "Which colour?", **options: Any) -> Reply:
    *_, reply = model.stream([Message("user", (Text(question),))], schema=schema, **options)
    assert isinstance(reply, Reply)
    return reply


def refusing(parameters: dict[str, Any]) -> Any:
    """A server that refuses these parameters, each with its answer."""
    return lambda body: next((told for name, told in parameters.items() if name in body), None)


OPENAI = (400, {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "param": "max_tokens", "code": "unsupported_parameter"}})  # fmt: skip  # noqa: E501
COLD = (400, {"error": {"message": "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported.", "param": "temperature"}})  # fmt: skip  # noqa: E501
MISTRAL = (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 0}]})
LITELLM = (400, {"error": {"message": "litellm.UnsupportedParamsError: anthropic does not support parameters: ['seed'], for model=x."}})
PLAIN = (400, {"error": "unknown field stream_options"})


@pytest.mark.parametrize(
    ("parameters", "sent", "left_out"),
    [
        ({"max_tokens": OPENAI, "temperature": COLD}, {"max_completion_tokens", "seed"}, {"max_tokens", "temperature"}),
        ({"seed": MISTRAL}, {"max_tokens", "temperature"}, {"seed"}),
        ({"seed": LITELLM}, {"max_tokens", "temperature"}, {"seed"}),
        ({"stream_options": PLAIN}, {"max_tokens", "seed"}, {"stream_options"}),
        (
            {"max_tokens": OPENAI, "max_completion_tokens": (400, "unknown max_completion_tokens")},
            {"seed"},
            {"max_tokens", "max_completion_tokens"},
        ),
    ],
)
def test_a_parameter_that_a_server_does_not_know_is_not_sent_again(
    server: Served, parameters: dict[str, Any], sent: set[str], left_out: set[str]
) -> None:
    server.refuse = refusing(parameters)
    with connect(server) as model:
        for _ in range(2):
            assert "red" in ask(model, OTHER).text
    assert len(server.refused) == len(parameters)
    for body in server.requests:
        assert sent <= body.keys()
        assert not left_out & body.keys()
        assert body["response_format"]["type"] == "json_schema"


def strict(body: dict[str, Any]) -> Any:
    """As OpenAI: an object at the root, no bounds, and the word JSON."""
    asked = body.get("response_format") or {}
    schema = (asked.get("json_schema") or {}).get("schema", {"type": "object"})
    if schema.get("type") != "object":
        why = "Invalid schema for response_format 'reply': schema must be a JSON Schema of 'type: \"object\"', got 'type: \"None\"'."
    elif "maxLength" in json.dumps(schema):
        why = "Invalid schema for response_format 'reply': In context=('properties', 'answer'), 'maxLength' is not permitted."
    elif asked.get("type") == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        why = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    else:
        return None
    return 400, {"error": {"message": why, "type": "invalid_request_error", "param": "response_format"}}


def forms(server: Served) -> list[str]:
    kinds = [(body.get("response_format") or {"type": "text"}) for body in server.requests]
    return ["alternatives" if "anyOf" in kind.get("json_schema", {}).get("schema", {}) else kind["type"] for kind in kinds]


def test_a_server_that_wants_an_object_gets_one_and_schemas_of_other_kinds_as_they_are(server: Served) -> None:
    server.refuse = strict
    with connect(server) as model:
        for _ in range(2):
            ask(model, ALTERNATIVES)
        assert len(server.refused) == 1
        schema = server.requests[-1]["response_format"]["json_schema"]["schema"]
        assert schema["required"] == ["answer", "sure"]
        server.refuse = lambda _: None
        ask(model, OTHER)
        ask(model, either(OTHER, record(colour=constant("red"))))
    assert forms(server) == ["json_schema", "json_schema", "json_schema", "alternatives"]


def test_json_is_asked_for_by_its_name_where_no_schema_is_sent(server: Served) -> None:
    server.refuse, server.formats = strict, ("json_object",)
    with connect(server) as model:
        ask(model, OTHER)
        ask(model, OTHER, "In JSON: which colour?")
        server.refuse = lambda _: None
        ask(model, OTHER, wrap=("<json>", "</json>"))
        server.formats = ()
        ask(model, ALTERNATIVES)
    assert forms(server) == ["json_object", "json_object", "json_object", "text"]
    asked = [body["messages"][-1]["content"] for body in server.requests]
    assert asked[0].startswith("Which colour?\nReply with one JSON object")
    assert '"colour"' in asked[0]
    assert asked[1] == "In JSON: which colour?"
    assert asked[2] == "Which colour?"  # what prompts of the protocol say of their replies is all that models have read
    assert '"answer"' in asked[3]


def test_a_list_is_never_asked_for_as_an_object(server: Served) -> None:
    server.formats = ("json_object",)
    with connect(server) as model:
        ask(model, {"type": "array", "items": {"type": "string"}})
    assert forms(server) == ["text"]


LLAMA_CPP_PYTHON = (
    "1 validation error:\n{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text'\"}"
)


@pytest.mark.parametrize(
    ("why", "schemas"), [(LLAMA_CPP_PYTHON, 1), ("JSON schema conversion failed: unsupported pattern", 2), ("failed to parse grammar", 2)]
)
def test_a_server_that_fails_over_a_schema_is_asked_without_one(server: Served, why: str, schemas: int) -> None:
    """With a status that is otherwise tried again."""
    server.refuse = lambda body: (
        (500, {"error": {"message": why}}) if body.get("response_format", {}).get("type") == "json_schema" else None
    )
    with RemoteModel(RemoteAddress(server.url), retries=4) as model:
        ask(model, ALTERNATIVES)
    assert len(server.refused) == schemas
    assert forms(server) == ["json_object"]


def test_replies_have_room_for_thinking(server: Served) -> None:
    with connect(server) as model:
        ask(model, max_tokens=512)
        ask(model, max_tokens=20_000)
    with connect(server, context_size=4096) as model:
        ask(model, max_tokens=512)
    with connect(server, reply_tokens=0) as model:
        ask(model, max_tokens=512)
    first, second, third, exact = (body["max_tokens"] for body in server.requests)
    assert (first, second, exact) == (8192, 20_000, 512)
    assert 3500 < third < 4096


def test_a_server_that_counts_other_tokens_gets_the_limit_that_was_asked_for(server: Served) -> None:
    why = "'max_tokens' is too large: 8192. This model's maximum context length is 16384 tokens and your request has 12000 input tokens."
    server.refuse = lambda body: (400, {"message": why}) if body["max_tokens"] > 1000 else None
    with connect(server) as model:
        for _ in range(2):
            ask(model, OTHER, max_tokens=512)
        assert len(server.refused) == 1
        with pytest.raises(ModelError, match="--frames"):
            ask(model, OTHER, max_tokens=2000)
    assert len(server.refused) == 2


@pytest.mark.parametrize(
    "words",
    [
        "Range of {} should be [1, 4096]",
        "{}: 8192 > 4096, which is the maximum allowed number of output tokens for claude-3-haiku",
        "Invalid {} value, the valid range of {} is [1, 4096]",
        "{} (8192) must be less than or equal to 4096",
        "The maximum value for {} is 4096",
    ],
)
def test_a_server_whose_replies_are_short_gets_the_limit_that_was_asked_for(server: Served, words: str) -> None:
    server.refuse = lambda body: (400, {"error": {"message": words.format(*["max_tokens"] * 2)}}) if body["max_tokens"] > 4096 else None
    with connect(server) as model:
        for _ in range(2):
            assert "red" in ask(model, OTHER, max_tokens=2048).text
    assert len(server.refused) == 1
    assert {body["max_tokens"] for body in server.requests} == {2048}


def test_a_limit_by_another_name_is_as_wide_as_before(server: Served) -> None:
    server.refuse = lambda body: (400, "max_tokens: no") if "max_tokens" in body else None
    with connect(server) as model:
        ask(model, max_tokens=512)
    assert len(server.refused) == 2
    assert server.requests[-1]["max_completion_tokens"] == 8192


GROQ = (
    "Rate limit reached for model `m`. Limit 12000, Used 9182. Please try again in 1.98s. Upgrade at https://groq.example/settings/billing"
)
GEMINI = "You exceeded your current quota, please check your plan and billing details. insufficient_quota. Please retry in 34.07s."


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (429, GROQ),
        (429, GEMINI),
        (429, "Rate limit reached. Visit https://openai.example/account/billing to add a payment method. rate_limit_exceeded"),
        (429, "This request would exceed your organization's rate limit of 30,000 input tokens per minute"),
        (500, "Internal error: json"),
        (500, "The vision model is not there yet"),
        (502, "The upstream exceeded its context window"),
        (503, "No healthy upstream for the vision model"),
        (504, "The server took too long to respond"),
        (529, "Overloaded"),
    ],
)
def test_what_passes_is_tried_again_whatever_else_is_said(server: Served, status: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0.0)
    server.refuse = lambda _: (status, {"error": {"message": words}}) if len(server.refused) < 2 else None
    with RemoteModel(RemoteAddress(server.url), retries=2) as model:
        assert "red" in ask(model, max_tokens=9000).text
    server.refuse = lambda _: (status, {"error": {"message": words}})
    with connect(server) as model, pytest.raises(UnreachableError, match=f"status {status}"):
        ask(model, max_tokens=9000)


def test_a_server_that_says_when_to_come_back_is_asked_again() -> None:
    assert is_lasting(429, "insufficient_quota", {})
    assert not is_lasting(429, "insufficient_quota", {"retry-after": "1"})


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        (400, "This model's maximum context length is 16384 tokens. However, you requested 20000 tokens", "use fewer --frames"),
        (400, "The prompt is longer than max_model_len, the number of text tokens plus multimodal tokens", "fewer --frames"),
        (400, "At most 50 image(s) may be provided in one prompt.", "use fewer --frames, or raise"),
        (400, "m is not a multimodal model", "the model must take pictures"),
        (422, "Failed to deserialize the JSON body into the target type: unknown variant `image_url`, expected `text`", "take pictures"),
        (404, "No endpoints found that support image input", "take pictures"),
        (500, "image input is not supported - hint: you may need to provide the mmproj", "--mmproj"),
        (413, "", "does not take requests of this size: use fewer --frames"),
        (400, "API key not valid. Please pass a valid API key.", "set SAGE_API_KEY"),
        (429, "You exceeded your current quota, please check your plan and billing details. insufficient_quota", r"billing details.*\)$"),
        (429, "Request too large for m on tokens per min (TPM): Limit 30000, Requested 40000. rate_limit_exceeded", "use fewer --frames"),
        (501, "", "status 501"),
        (503, "", "is it overloaded"),
        (503, "Loading model", r"status 503 \(Loading model\)$"),
    ],
)  # fmt: skip
def test_other_refusals_fail_at_once_and_say_what_to_do(server: Served, status: int, words: str, told: str) -> None:
    server.refuse = lambda _: (status, {"error": {"message": words}})
    with (
        RemoteModel(RemoteAddress(server.url), retries=0 if status == 503 else 2) as model,
        pytest.raises(ModelError, match=told) as caught,
    ):
        ask(model, ALTERNATIVES, max_tokens=9000)
    assert len(server.refused) == 1
    assert isinstance(caught.value, UnreachableError) == (status == 503)


def test_what_a_provider_says_is_told(server: Served) -> None:
    raw = json.dumps({"error": {"message": "the picture is upside down"}})
    server.refuse = lambda _: (400, {"error": {"message": "Provider returned error", "metadata": {"raw": raw}}})
    with connect(server) as model, pytest.raises(ModelError, match=r"\(the picture is upside down\)$"):
        ask(model)
    server.refuse = lambda _: MISTRAL
    with connect(server) as model:
        model._dialect._unknown.add("seed")
        with pytest.raises(ModelError, match=r"\(body\.seed: Extra inputs are not permitted\)"):
            ask(model)


@pytest.mark.parametrize(
    ("entry", "told", "context"),
    [
        ({"loaded_context_length": 5000, "context_length": 9000}, {}, 5000),
        ({"context_length": 131_072}, {}, 131_072),
        ({"context_window": 6000}, {}, 6000),
        ({}, {"/api/v0/models": {"data": [{"id": "other", "loaded_context_length": 1}, {"id": "m", "loaded_context_length": 7000}]}}, 7000),
        ({}, {"/api/v0/models": {"data": [{"id": "m", "max_context_length": 7000}]}}, 16384),
        ({}, {"/api/ps": {"models": [{"name": "m", "context_length": 4096}]}}, 4096),
        ({}, {"/api/ps": {"models": []}, "/props": [1], "/api/v0/models": "?"}, 16384),
        ({"context_length": True}, {}, 16384),
    ],
)
def test_the_context_size_is_found_wherever_a_server_tells_it(
    server: Served, entry: dict[str, Any], told: dict[str, Any], context: int
) -> None:
    server.models, server.told = ({"id": "m", **entry},), told
    with connect(server) as model:
        assert model.info.context_size == context


def test_a_prompt_that_the_server_cut_is_told_once(server: Served) -> None:
    server.prompt_tokens = 4095
    with connect(server) as model:
        assert ask(model).advice == ""
        cut = ask(model, question="Why? " * 6000)
        assert cut.notice == "the server read only a part of the prompt"
        assert "4095 tokens of a prompt of about 10" in cut.advice
        assert "OLLAMA_CONTEXT_LENGTH" in cut.advice
        assert ask(model, question="Why? " * 6000).advice == ""


def test_no_script_has_so_few_tokens_that_its_prompts_seem_to_be_cut(server: Served) -> None:
    server.prompt_tokens = 1777
    with connect(server) as model:
        assert ask(model, question="Почему он это говорит? " * 300).advice == ""


@pytest.mark.parametrize(
    ("text", "context", "advice"),
    [
        ("<think>Hm.</think> {", 100_000, "turn its thinking off on the server"),
        ("{", 4096, "start the server with a larger context, and give it as --ctx-size"),
        ("{", 100_000, ""),
    ],
)
def test_a_reply_that_reached_its_limit_says_what_to_do(server: Served, text: str, context: int, advice: str) -> None:
    server.text, server.finish = text, "length"
    with connect(server, context_size=context) as model:
        reply = ask(model, OTHER)
    assert (reply.finish, reply.advice) == ("length", advice)
    assert reply.notice.startswith("the model's reply was cut off after 3 tokens")
    assert replace(reply, finish="stop", advice="").notice == ""


@pytest.mark.parametrize(("begin", "closing"), [('{"colour": "', '"}'), ("", "")])
def test_a_reply_that_repeats_itself_ends_there(begin: str, closing: str) -> None:
    class Looping(Served):
        def pieces(self, body: Mapping[str, Any]) -> Iterator[tuple[str, Reply | None]]:
            yield begin, None
            yield from [("It is red, I think. ", None)] * 5000

    with serve(Looping()) as server, connect(server) as model:
        reply = ask(model, OTHER, wrap=("<json>\n", "\n</json>"))
    assert (reply.finish, reply.closing) == ("loop", closing and f"{closing}\n</json>")
    assert reply.said.removeprefix("<json>\n") == begin + "It is red, I think. " * 50
    assert "repeated itself" in reply.notice


def test_thinking_that_repeats_itself_ends_the_reply(server: Served) -> None:
    chunk = json.dumps({"choices": [{"delta": {"reasoning_content": "Wait, I look again. "}}]})
    server.stream = f"data: {chunk}\n\n".encode() * 500
    with connect(server) as model:
        reply = ask(model)
    assert (reply.text, reply.finish) == ("", "loop")
    assert len(server.requests) == 1


@pytest.mark.parametrize("item", ['{"seen": false, "note": "no"}', "0", '"the same sentence"', "[1, 2]"])
def test_a_list_may_have_any_number_of_equal_items(server: Served, item: str) -> None:
    server.text = f'{{"shots": [{", ".join([item] * 200)}]}}'
    with connect(server) as model:
        reply = ask(model, OTHER)
    assert (reply.text.strip(), reply.finish) == (server.text, "stop")


def test_blanks_without_end_are_no_list() -> None:
    assert repeats_itself('{"shots": [0, ' + "\n " * 500, as_json=True)
    assert not repeats_itself('{"shots": [0, ' + "\n " * 499, as_json=True)


def test_thinking_that_starts_over_with_its_request_is_no_loop(server: Served) -> None:
    chunk = json.dumps({"choices": [{"delta": {"reasoning_content": "".join(f"{n}, " for n in range(100))[:250]}}]})
    server.stream = f"data: {chunk}\n\n".encode()
    with connect(server) as model, pytest.raises(UnreachableError, match="broke off 4 times"):
        ask(model)


def test_what_repeats_itself_and_ends_is_whole(server: Served) -> None:
    server.text = "Around the world, around the world.\n" * 27
    with connect(server) as model:
        assert ask(model).finish == "stop"


@pytest.mark.parametrize(
    ("text", "closers"),
    [
        ('{"a": "b', '"}'),
        ('{"a": ["}", {"b": "\\"', '"}]}'),
        ('{"a": "\\', '\\"}'),
        ("<think>{</think>[1, [2", "]]"),
        ('```json\n{"a": 1}\n``` as "he', ""),
        ("It is red.", ""),
    ],
)
def test_what_closes_json_that_was_cut_off(text: str, closers: str) -> None:
    assert closers_of(text) == closers


def test_a_model_that_only_thought_is_known_by_the_thoughts_that_are_sent_apart(server: Served) -> None:
    chunks = [{"choices": [{"delta": {"reasoning_content": "Hm."}}]}, {"choices": [{"delta": {}, "finish_reason": "length"}]}]
    server.stream = b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks)
    with connect(server) as model:
        reply = ask(model)
    assert reply.text == ""
    assert "thinking off" in reply.advice
    assert "0 tokens" not in reply.notice


def test_a_stream_that_says_that_it_is_done_is_whole(server: Served) -> None:
    chunk = json.dumps({"choices": [{"delta": {"content": "red"}}]})
    server.stream = f"data: {chunk}\n\ndata: [DONE]\n\n".encode()
    with connect(server) as model:
        assert ask(model).text == "red"
