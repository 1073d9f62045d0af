"""Which attempts a window gets, and which one counts: a model that answers by the prompt it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sage_cli.speech.decoding import INVENTED, Decoder
from sage_cli.speech.options import SpeechOptions
from sage_cli.speech.tokenizer import Tokenizer
from sage_cli.speech.vad import FRAME
from sage_cli.speech.whisper import RATE, Samples, Token
from sage_cli.speech.windows import Span, Window

WORDS = [b" one", b" two", b" three", b" four", b".", b" five"]
ENDED, OPEN = [0, 1, 4, 50], [0, 1, 4, 2, 50]  # "one two." and "one two. three", with a timestamp
PLAIN = [0, 1, 2, 50]  # without punctuation
GOOD = " Nothing is wrong with this sentence, which is as long as it should be."
LOOP = " over and over" * 20

Answer = Callable[[SpeechOptions, list[int]], tuple[str, float]]


class Model:
    """Gives an answer's text, at so much log-probability, and keeps what it was asked."""

    def __init__(self, answer: Answer, *, toy: bool = False) -> None:
        self.toy, self.prompt_length, self.first_stamp = toy, 223, 50
        self.tokenizer = Tokenizer(WORDS)
        self.answer = answer
        self.again: list[bool] = []
        self.asked: list[tuple[int, list[int]]] = []

    def decode(self, samples: Samples, options: SpeechOptions, prompt: Sequence[int] = (), *, again: bool = False) -> list[Token]:
        self.again.append(again)
        self.asked.append((options.beam_size or 0, list(prompt)))
        text, logprob = self.answer(options, list(prompt))
        return [Token(number, f" {word}".encode(), logprob) for number, word in enumerate(text.split())]


def window(seconds: float = 6.0) -> Window:
    frames = round(seconds * RATE) // FRAME
    return Window((Span(0, np.zeros(frames * FRAME, np.float32), np.ones(frames, bool)),), frames * FRAME)


def decode(model: Model, context: list[int], **options: object) -> tuple[str, list[tuple[int, list[int]]]]:
    decoder = Decoder(model, SpeechOptions(**options), measured=True)  # type: ignore[arg-type]
    decoded = decoder.decode(window(), "en", context)
    return b"".join(token.text for token in decoded.tokens).decode(), model.asked


def test_a_window_is_decoded_with_its_context() -> None:
    for context in (ENDED, OPEN):
        assert decode(Model(lambda _options, _prompt: (GOOD, -0.2)), context) == (GOOD, [(5, context)])


def test_a_text_without_punctuation_is_not_imitated() -> None:
    assert decode(Model(lambda _options, _prompt: (GOOD, -0.2)), PLAIN) == (GOOD, [(5, [])])


def test_the_bundled_model_always_has_its_context() -> None:
    assert decode(Model(lambda _options, _prompt: (GOOD, -0.9), toy=True), ENDED) == (GOOD, [(1, ENDED)])


def test_a_loop_is_followed_by_an_attempt_without_context_and_by_another_search() -> None:
    stuck = Model(lambda options, _prompt: (LOOP if options.beam_size == 5 else GOOD, -0.1))
    assert decode(stuck, OPEN) == (GOOD, [(5, OPEN), (5, []), (1, [])])
    assert stuck.again == [False, True, False]
    assert decode(Model(lambda options, _prompt: (GOOD if options.beam_size == 5 else LOOP, -0.1)), [], beam_size=1) == (
        GOOD,
        [(1, []), (5, [])],
    )


def test_hotwords_and_prompt_come_before_the_context() -> None:
    _, asked = decode(Model(lambda _options, _prompt: (GOOD, -0.2)), OPEN, hotwords="five", prompt="four")
    assert asked == [(5, [50, 5, 3, 150, *OPEN])]


def test_no_temperature_is_tried() -> None:
    temperatures = set()

    def answer(options: SpeechOptions, _prompt: list[int]) -> tuple[str, float]:
        temperatures.add(options.temperature)
        return LOOP, -2.0

    decode(Model(answer), OPEN)
    assert temperatures == {0.0}


def test_a_sentence_for_a_click_is_invented() -> None:
    for seconds, text, invented in ((0.1, " Thank you for watching.", True), (0.1, " Yes.", False), (0.5, " Thank you very much.", False)):
        decoder = Decoder(Model(lambda _options, _prompt, text=text: (text, -0.2)), SpeechOptions(), measured=True)  # type: ignore[arg-type, misc]
        assert (INVENTED in decoder.decode(window(seconds), "en", []).faults) == invented
