from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sage_cli.errors import ModelError, UsageError
from sage_cli.speech import Segment, SpeechOptions, Transcriber
from sage_cli.speech.decoding import Decoded, Decoder
from sage_cli.speech.windows import Window
from tests.models.tiny_whisper import TINY, Shape, write_whisper
from tests.speech.sounds import RATE, Sound, babble, hush

WORDS = {word for slot in TINY.slot_words for word in slot}


@pytest.fixture(scope="module")
def talk() -> Sound:
    lengths = [(7, 2), (12, 5), (50, 40), (5, 1)]
    return np.concatenate([part for n, (said, pause) in enumerate(lengths) for part in (babble(said, n), hush(pause))])


@pytest.fixture(scope="module")
def heard(transcriber: Transcriber, talk: Sound) -> list[Segment]:
    return list(transcriber.stream(talk))


def test_segments_are_in_order_and_do_not_overlap(heard: list[Segment], talk: Sound) -> None:
    assert len(heard) > 10
    assert all(segment.start < segment.end for segment in heard)
    assert all(a.end <= b.start for a, b in pairwise(heard))
    assert heard[-1].end <= len(talk) / RATE
    assert all(set(segment.text.split()) <= WORDS for segment in heard)
    assert all(0 < segment.confidence <= 1 and segment.language == "en" for segment in heard)


def test_nothing_is_heard_in_the_pauses(heard: list[Segment]) -> None:
    assert not [segment for segment in heard if segment.start > 77 and segment.end < 115]
    assert 74 < max(segment.end for segment in heard if segment.start < 100) < 76.5
    assert max(segment.end - segment.start for segment in heard) < 10
    assert min(segment.start for segment in heard if segment.start > 100) == pytest.approx(116, abs=0.5)


def test_times_are_on_the_original_clock(transcriber: Transcriber, talk: Sound, heard: list[Segment]) -> None:
    shifted = list(transcriber.stream(talk[: 30 * RATE], start=100.0))
    assert shifted[0].start == pytest.approx(heard[0].start + 100)


def test_blocks_of_any_length_give_the_same(transcriber: Transcriber, talk: Sound, heard: list[Segment]) -> None:
    assert list(transcriber.stream(talk[at : at + 12345] for at in range(0, len(talk), 12345))) == heard


def test_going_on_after_any_part_gives_the_rest(transcriber: Transcriber, talk: Sound) -> None:
    parts = list(transcriber.parts(talk))
    assert len({part.after.context for part in parts if part.segments}) > 1
    for done, part in enumerate(parts, 1):
        assert list(transcriber.parts(talk, after=part.after)) == parts[done:]


@pytest.mark.parametrize("released", [True, False])
def test_the_context_is_tokens_with_their_timestamps(tmp_path: Path, transcriber: Transcriber, released: bool) -> None:
    """Whisper stops writing timestamps after a text that has none; the bundled nano was trained on such text."""
    if released:
        shaped = write_whisper(tmp_path / "m.bin", Shape(width=384, heads=6, audio_layers=4, text_layers=4))
        transcriber = Transcriber(shaped, SpeechOptions(vad=False, beam_size=1), threads=1)
    first = next(part for part in transcriber.parts(babble(20)) if part.segments)
    stamps = [number for number in first.after.context if number >= transcriber._whisper.first_stamp]
    assert first.after.context
    assert bool(stamps) == released


def test_without_context_every_window_stands_alone(model: Path, talk: Sound) -> None:
    alone = Transcriber(model, SpeechOptions(context=False), threads=1)
    parts = [part for part in alone.parts(talk) if part.segments]
    at = parts[1].after
    assert {part.after.context for part in parts if part.after.context}  # kept, and not used
    assert list(alone.parts(talk, after=at)) == list(alone.parts(talk, after=replace(at, context=(1, 2, 3))))


@pytest.mark.parametrize("sound", [hush(0), hush(0.01), hush(40)])
def test_silence_is_an_empty_transcript(transcriber: Transcriber, sound: Sound) -> None:
    assert list(transcriber.stream(sound)) == []


def test_silence_is_decoded_on_demand(model: Path) -> None:
    """This model always says something: without a detector it does so about silence, too."""
    assert list(Transcriber(model, SpeechOptions(vad=False), threads=1).stream(hush(5)))


def test_words(heard: list[Segment]) -> None:
    for segment in heard:
        assert [word.text for word in segment.words] == segment.text.split()
        assert all(a.end <= b.start for a, b in pairwise(segment.words))
        assert segment.words[0].start == segment.start
        assert segment.words[-1].end == segment.end
        assert all(0 < word.confidence <= 1 for word in segment.words)


def test_released_models_have_a_silero_that_takes_a_drone_for_no_speech(tmp_path: Path) -> None:
    """Nothing is pulled for it, and no model is loaded for what is not speech."""
    shaped = write_whisper(tmp_path / "m.bin", Shape(width=384, heads=6, audio_layers=4, text_layers=4))
    transcriber = Transcriber(shaped, threads=1)
    drone = (0.3 * np.sin(2 * np.pi * 200 * np.arange(20 * RATE) / RATE)).astype(np.float32)
    assert list(transcriber.stream(drone)) == []
    assert transcriber.device is None


def test_a_model_that_stops_early_is_made_to_listen_on(tmp_path: Path) -> None:
    """It says one sentence of four seconds and is done, whatever follows: nothing said may be lost for that."""
    model = write_whisper(tmp_path / "m.bin", Shape(segments=1, stride=4.0))
    sound = babble(40)
    transcriber = Transcriber(model, threads=1)
    parts = list(transcriber.parts(sound))
    heard = [segment for part in parts for segment in part.segments]
    assert len(heard) == 10
    assert all(0 <= b.start - a.end < 0.5 for a, b in pairwise(heard))
    assert heard[-1].end == pytest.approx(40, abs=0.5)
    assert list(transcriber.parts(sound, after=parts[4].after)) == parts[5:]


def test_a_model_that_hears_less_at_once(tmp_path: Path, talk: Sound) -> None:
    model = write_whisper(tmp_path / "m.bin", Shape(audio_context=750, segments=3, stride=4.0))
    parts = [part for part in Transcriber(model, threads=1).parts(talk[: 60 * RATE]) if part.segments]
    assert len(parts) >= 4
    heard = [segment for part in parts for segment in part.segments]
    assert all(a.end <= b.start for a, b in pairwise(heard))
    assert heard[-1].end == pytest.approx(60, abs=4)


def test_the_language_is_detected(tmp_path: Path) -> None:
    transcriber = Transcriber(write_whisper(tmp_path / "m.bin", multilingual=True), threads=1)
    assert transcriber.needs_language
    assert next(transcriber.guess_languages(babble(10)))[0] == "de"
    parts = list(transcriber.parts(babble(40)))
    assert {segment.language for part in parts for segment in part.segments} == {"de"}
    assert {segment.language for segment in transcriber.stream(babble(5), language="fr")} == {"fr"}


def test_a_model_that_is_stuck_is_cut_short(tmp_path: Path) -> None:
    """Whatever is tried, it says one word over and over: it is kept once, and the next window does not hear of it."""
    stuck = write_whisper(tmp_path / "m.bin", Shape(loops=True, text_context=32))
    parts = list(Transcriber(stuck, threads=1).parts(babble(10)))
    (segment,) = [segment for part in parts for segment in part.segments]
    assert len(segment.text.split()) <= 4
    assert parts[-1].after.context == ()


class ShortOfBreath(Decoder):
    """Takes what it decodes of more than ten seconds for a loop."""

    def decode(self, window: Window, language: str, context: Sequence[int]) -> Decoded:
        decoded = super().decode(window, language, context)
        return decoded if window.seconds < 10 else replace(decoded, faults={"loop": 3.0})


def test_a_window_that_comes_out_badly_is_decoded_in_parts(tmp_path: Path) -> None:
    """Each part as far as it comes out well, and the rest of the window again: nothing is lost, and a run can be resumed between them."""
    transcriber = Transcriber(write_whisper(tmp_path / "m.bin", Shape(stride=1.0)), threads=1)
    transcriber._decoder = ShortOfBreath(transcriber._whisper, transcriber.options, measured=False)
    sound = babble(40)
    parts = [part for part in transcriber.parts(sound) if part.segments]
    ends = [part.after.seconds for part in parts]
    assert len(parts) >= 4
    assert all(0 < b - a <= 10 for a, b in pairwise([0.0, *ends]))
    assert [segment for part in parts for segment in part.segments][-1].end > 36
    assert [part for part in transcriber.parts(sound, after=parts[1].after) if part.segments] == parts[2:]


def test_a_prompt_of_any_length_works(model: Path) -> None:
    for text in ("ba" * 5000, "Kaczmarz, Nyquist " * 500, "水曜日" * 1000):
        assert list(Transcriber(model, SpeechOptions(prompt=text, hotwords="Kaczmarz"), threads=1).stream(babble(5)))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"language": "klingon"}, UsageError),
        ({"beam_size": 9}, UsageError),
        ({"temperature": 1.5}, UsageError),
        ({"vad_threshold": float("nan")}, UsageError),
        ({"multilingual": True, "language": "de"}, UsageError),
        ({"suppress_regex": "("}, UsageError),
        ({"language": "de"}, ModelError),
        ({"translate": True}, ModelError),
        ({"multilingual": True}, ModelError),
    ],
)
def test_what_cannot_work_is_refused_at_once(model: Path, options: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Transcriber(model, SpeechOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("library", ["pywhispercpp", "av"])
def test_identity_tells_libraries_apart(model: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Transcriber(model).identity
    monkeypatch.setattr("sage_cli.speech.transcriber.version", lambda name: "99.0" if name == library else version(name))
    assert Transcriber(model).identity != before


def test_identity_tells_models_and_options_apart(model: Path, tmp_path: Path) -> None:
    other = write_whisper(tmp_path / "other.bin", seed=1)
    options = [
        SpeechOptions(),
        SpeechOptions(prompt="x"),
        SpeechOptions(beam_size=2),
        SpeechOptions(temperature=0.2),
        SpeechOptions(hotwords="x"),
        SpeechOptions(vad=False),
    ]
    found = {Transcriber(path, one).identity for path in (model, other) for one in options}
    assert len(found) == 12
    assert Transcriber(model, threads=2).identity == Transcriber(model, threads=1).identity
