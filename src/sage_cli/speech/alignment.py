"""Place tokens as timed words.

A word begins where the token before it ends and lasts as long as its own tokens, by the decoder's cross-attention
(:attr:`~sage_cli.speech.whisper.Token.spoken_until`). Attention may slip over a pause, so a word stays between the timestamps that the
model wrote around it. It is then drawn in to the speech that the voice activity detector found: attention says which word, the detector
says to 32 ms where sound begins and ends. Where there is no attention to go by, words share the speech between two timestamps by length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, pairwise
from math import exp

from sage_cli.speech.segment import Word
from sage_cli.speech.whisper import SECONDS_PER_STAMP, Token
from sage_cli.speech.windows import Window

_UNSPACED = frozenset(("zh", "ja", "yue", "th", "lo", "my", "km", "bo"))  # written without spaces: every token is a word
_ANNOTATIONS = {"[": "]", "(": ")", "*": "*", "♪": "♪", "（": "）", "【": "】", "<": ">"}  # noqa: RUF001
_SHORTEST = 0.02  # seconds
_WHOLE = round(1 / SECONDS_PER_STAMP)  # timestamps in a second
_SENTENCE = 1.5  # seconds of speech that cannot be without a word
_LEAST = 0.15  # seconds that a word takes
_FASTEST = 20.0  # characters that are spoken in a second at the most
_LATE = 0.3  # seconds that attention may be late
SLIP = 0.2  # seconds by which attention may miss the timestamps around a word


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word in a window.

    Attributes:
        start, end: seconds of the window.
        tokens: what it was written with.
        stamped: the model wrote a timestamp before it: it begins a phrase.
        turn: the model marked a change of speaker after it.
        heard: there is speech where it is.
    """

    start: float
    end: float
    tokens: tuple[Token, ...]
    stamped: bool = False
    turn: bool = False
    heard: bool = True

    @property
    def text(self) -> str:
        return text_of(self.tokens)


def align(tokens: Sequence[Token], window: Window, language: str) -> list[TimedWord]:
    """The words that tokens spell, in order, each with its place in the window."""
    words: list[TimedWord] = []
    passed = 0.0
    for start, end, stretch in _stretches(tokens, window.seconds):
        groups = split_words([token for token in stretch if token.text], language)
        if not groups:
            continue
        edges = _attended(groups, passed, window, start, end) or _shared(groups, window, start, end)
        passed = groups[-1][-1].spoken_until or passed
        for number, (group, (first, last)) in enumerate(zip(groups, edges, strict=True)):
            after = words[-1].end if words else 0.0
            place = window.snap(max(first, min(after, last)), last)
            first, last = place or (max(first, after), max(last, after))
            first = max(first, after)
            words.append(
                TimedWord(
                    first,
                    max(last, first + _SHORTEST),
                    tuple(group),
                    stamped=number == 0,
                    turn=number == len(groups) - 1 and any(token.turn for token in stretch),
                    heard=place is not None,
                )
            )
    return _filled(words, window)


def _filled(words: list[TimedWord], window: Window) -> list[TimedWord]:
    """The words, the first one after a pause from the moment that speech begins, the last one before a pause until it ends."""
    filled: list[TimedWord] = []
    for number, word in enumerate(words):
        before = words[number - 1].end if number else 0.0
        after = words[number + 1].start if number + 1 < len(words) else window.seconds
        start, end = window.grow(word.start, word.end, before, after)
        filled.append(replace(word, start=max(start, filled[-1].end if filled else 0.0), end=end))
    return filled


def restamped(tokens: Sequence[Token]) -> list[Token]:
    """The tokens with the timestamps where attention says, if the model rounded them to whole seconds.

    A model that has done so once goes on for the rest of a recording, because its context shows it how.
    """
    after_text = dropwhile(lambda token: not token.text, tokens)  # the first timestamp is 0 as a rule
    stamps = {round(token.time / SECONDS_PER_STAMP) for token in after_text if token.time is not None}
    if len(stamps) < 2 or any(stamp % _WHOLE for stamp in stamps):
        return list(tokens)
    moved: list[Token] = []
    ended = passed = None  # where attention was after the last word, and after its punctuation
    for number, token in enumerate(tokens):
        if token.text:
            passed = token.spoken_until
            ended = passed if has_letters([token]) else ended
        elif token.time is not None:
            time = ended if number and tokens[number - 1].text else passed
            if time is not None and (steps := round((time - token.time) / SECONDS_PER_STAMP)) and abs(steps) <= _WHOLE:
                token = replace(token, id=token.id + steps, time=token.time + steps * SECONDS_PER_STAMP)
        moved.append(token)
    return moved


def unwritten(tokens: Sequence[Token], window: Window) -> float | None:
    """Where speech begins that no word was written for, in seconds of the window: a stretch between pauses without attention to it.

    ``None`` if there is none, or no telling.
    """
    times = [token.spoken_until for token in tokens if token.text and has_letters([token])]
    if any(time is None for time in times):
        return None
    for start, end in window.runs:
        if end - start >= _SENTENCE and not any(start < (time or 0.0) <= end + _LATE for time in times):
            return start
    return None


def spoken(words: Iterable[TimedWord]) -> list[TimedWord]:
    """The words without annotations, such as ``[Music]`` and ``(applause)``, which are not speech."""
    kept: list[TimedWord] = []
    held: list[TimedWord] = []
    closing = ""
    for word in words:
        text = word.text
        if not closing and text[:1] in _ANNOTATIONS:
            closing = _ANNOTATIONS[text[:1]]
            text = text[1:]
        if not closing:
            kept.append(word)
            continue
        held.append(word)
        if text.rstrip(".,!?;:").endswith(closing):
            held, closing = [], ""
    # A bracket that nobody closed is speech after all; a note is music to the end.
    return kept if closing == "♪" else kept + held


def without_annotations(tokens: Sequence[Token]) -> list[Token]:
    """The tokens without annotations and without the timestamps around what they leave empty: what a later window may see."""
    kept: list[Token] = []
    closing = ""
    for token in tokens:
        text = token.text.decode(errors="ignore").strip()
        if not closing and text[:1] in _ANNOTATIONS:
            closing = _ANNOTATIONS[text[:1]]
            text = text[1:]
        if closing:
            if text.rstrip(".,!?;:").endswith(closing):
                closing = ""
            elif token.time is not None:
                closing = ""
                kept.append(token)
            continue
        if token.time is not None and len(kept) >= 2 and kept[-1].time is not None and kept[-2].time is not None:
            kept[-1] = token
            continue
        kept.append(token)
    return kept if any(token.text.strip() for token in kept) else []


def split_words(tokens: Iterable[Token], language: str) -> list[list[Token]]:
    """Text tokens word by word; punctuation belongs to the word before it."""
    groups: list[list[Token]] = []
    complete = True
    for token in tokens:
        begins = token.text.startswith(b" ") or (language in _UNSPACED and has_letters([token]))
        if not groups or (complete and begins):
            groups.append([])
        groups[-1].append(token)
        complete = _decodes(b"".join(token.text for token in groups[-1]))
    return groups


def written(tokens: Iterable[Token]) -> str:
    return b"".join(token.text for token in tokens).decode(errors="replace")


def text_of(tokens: Iterable[Token]) -> str:
    return written(tokens).strip()


def has_letters(tokens: Iterable[Token]) -> bool:
    """Whether there is anything to pronounce: a letter, a digit, or a part of a character."""
    text = b"".join(token.text for token in tokens)
    return any(c.isalnum() for c in text.decode(errors="replace")) or not _decodes(text)


def confidence_of(tokens: Iterable[Token]) -> float:
    """Geometric mean of the probabilities of the tokens that hold text."""
    logprobs = [token.logprob for token in tokens if token.text]
    return exp(sum(logprobs) / len(logprobs)) if logprobs else 0.0


def on_clock(word: TimedWord, window: Window, not_before: float) -> Word:
    """The word on the clock of the stream that the window was taken from, in seconds."""
    start, end = window.word_on_clock(word.start, word.end)
    start = max(start, not_before)
    return Word(start, max(end, start + _SHORTEST), word.text, confidence_of(word.tokens))


def _stretches(tokens: Sequence[Token], seconds: float) -> Iterable[tuple[float, float, list[Token]]]:
    """Start, end and tokens of each phrase between timestamps. Phrases past the end of the window are left out."""
    start, held = 0.0, list[Token]()
    for token in [*tokens, Token(-1, b"", 0.0, time=seconds)]:
        if token.time is None:
            held.append(token)
            continue
        if any(token.text for token in held) and start < seconds:
            yield start, min(max(token.time, start), seconds), held
        start, held = token.time, []


def _attended(groups: list[list[Token]], passed: float, window: Window, start: float, end: float) -> list[tuple[float, float]] | None:
    """Places by attention; ``None`` where the model gave none, or none between the timestamps.

    Words at either end that attention puts outside the timestamps share the speech that is left there.

    Args:
        passed: where attention was before the first word.
    """
    if any(token.spoken_until is None for group in groups for token in group):
        return None
    edges = []
    passed = min(max(passed, start - SLIP), start + SLIP, end)
    for group in groups:
        spelled = [token for token in group if has_letters([token])] or group
        last = spelled[-1].spoken_until or 0.0
        edges.append((min(passed, last), last))
        passed = group[-1].spoken_until or passed
    low, high = window.limits(start, end, SLIP)
    inside = [number for number, (_, last) in enumerate(edges) if low < last <= high]
    if not inside:
        return None
    first, after = inside[0], inside[-1] + 1
    # The words that are left over need speech: where there is none, attention pushed the words before them on, too.
    while after - 1 > first and window.speech_within(edges[after - 1][1], min(end, high)) < _LEAST * (len(groups) - after):
        after -= 1
    if first:
        edges[:first] = _shared(groups[:first], window, start, max(start, edges[first][0]))
    if after < len(groups):
        edges[after:] = _shared(groups[after:], window, min(end, edges[after - 1][1]), end)
    return edges


def _shared(groups: list[list[Token]], window: Window, start: float, end: float) -> list[tuple[float, float]]:
    """Places by the length of the words in the speech between two timestamps; on one side of a pause if they fit there."""
    lengths = [0]
    for group in groups:
        lengths.append(lengths[-1] + len(text_of(group)) + 1)
    start, end = window.island(start, end, lengths[-1] / _FASTEST)
    place = window.tighten(start, end) or (start, end)
    edges = window.share(*place, [length / lengths[-1] for length in lengths])
    return list(pairwise(edges))


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
