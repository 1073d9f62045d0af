"""Texts as words that can be compared: without case, punctuation and spacing, with numbers as numbers ("two hundred" is "200"), and times
as times ("00:01:05" is "1:05")."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from sage_cli.timecode import format_short

_UNITS: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_BELOW_HUNDRED: Final = {word: number for number, word in enumerate(_UNITS.split())} | {
    word: 10 * number for number, word in enumerate(_TENS.split(), 2)
}
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_ALIKE: Final = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-") | {"\u2044": "/", "\u2019": "'"})
_SPACED: Final = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")  # 1 000 with a space that keeps the digits together
# A word, with the signs that make it another one ("C++", "C#"); or a symbol that belongs to the number after it.
_TOKEN: Final = re.compile(
    r"(?P<named>[^\W\d_]\w*[+#]+(?!\w))|(?P<word>(?:(?<![\w.])\.(?=\d))?[\w%\u00b0$\u20ac\u00a3]+(?:[.,:']\w+)*)"
    r"|(?P<symbol>[-+*/=\u00d7\u00f7\u00b1]|[<>!]=|[<>\u2264\u2265\u2260])(?=(?P<gap>\s*)[-+]?[$\u20ac\u00a3]?\.?\d)"
)
_SAME_SYMBOLS: Final = {"<=": "\u2264", ">=": "\u2265", "!=": "\u2260"}
_COMPARING: Final = frozenset("<>\u2264\u2265\u2260\u00b1")
_DIGITS: Final = re.compile(r"(-?[$\u20ac\u00a3]*)([0-9]+(?:\.[0-9]+)?)")
_UNIT: Final = re.compile(r"(?<=\d) (?=[^\W\d_])")
_CLOCK: Final = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{2})(?:\.0+)?")
_AMOUNT: Final = re.compile(r"(-?[$\u20ac\u00a3]*)((?=\.?\d)(?:\d{1,3}(?:,\d{3})+|\d*))((?:\.\d+)?)([^\d.,:]*)")


@dataclass(frozen=True, slots=True)
class Word:
    """A comparable word, and where it is in :func:`plain` text."""

    text: str
    start: int
    end: int


def plain(text: str) -> str:
    """Text in one of the ways that Unicode knows to write it, with one kind of hyphen and apostrophe."""
    return unicodedata.normalize("NFKC", _SPACED.sub("", text)).translate(_ALIKE)


def words(text: str) -> str:
    """The comparable words of a text, joined with spaces; of a text without words, its symbols. "5 km" and "5km" are the same."""
    found = split(plain(text))
    return _UNIT.sub("", " ".join(word.text for word in found)) if found else text.strip()


def split(text: str) -> list[Word]:
    """The comparable words of :func:`plain` text."""
    return _with_percent(text, _with_numbers(_tokens(text)))


def amounts(text: str) -> list[str]:
    """Those of the :func:`words` of a text that are numbers: ``"-7"``, ``"3.5"``, ``"50%"``. A bound ("> 5") is not that number."""
    found = [word.text for word in split(plain(text))]
    return [
        word if before not in _COMPARING else before + word for before, word in zip(["", *found], found, strict=False) if is_amount(word)
    ]


def is_amount(word: str) -> bool:
    """Whether one of the :func:`words` of a text is a number, with or without a unit."""
    return _AMOUNT.fullmatch(word) is not None


def _tokens(text: str) -> list[Word]:
    """Words in lower case with numbers in one form, and the signs, operators and comparisons that belong to numbers."""
    found: list[Word] = []
    sign: Word | None = None
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        symbol = match["symbol"]
        if symbol is None:
            word = Word(_in_one_form((sign.text if sign else "") + match[0].casefold()), sign.start if sign else start, end)
            found.append(word)
        elif symbol[0] in _COMPARING or symbol == "!=":
            found.append(Word(_SAME_SYMBOLS.get(symbol, symbol), start, end))
        elif found and is_amount(found[-1].text) and not text[found[-1].end : start].strip():  # "5 - 3", "24/7"
            found.append(Word(symbol, start, end))
        sign = Word(symbol, start, end) if symbol and _is_sign(text, match, found) else None
    return found


def _is_sign(text: str, match: re.Match[str], found: Sequence[Word]) -> bool:
    """Whether ``-`` or ``+`` belongs to the number after it: not in "COVID-19", "5-3" and "- 5"."""
    operator = bool(found) and found[-1].start == match.start()
    return (
        match["symbol"] in "+-"
        and not match["gap"]
        and not operator
        and not re.match(r"\w", text[max(0, match.start() - 1) : match.start()])
    )


def _in_one_form(word: str) -> str:
    """A number or time without separators and needless zeros: ``1,000`` and ``1000.0``, ``.5`` and ``0.50``, ``+5`` and ``5``."""
    if clock := _CLOCK.fullmatch(word):
        hours, minutes, seconds = (int(field or 0) for field in clock.groups())
        return format_short(3600 * hours + 60 * minutes + seconds)
    amount = _AMOUNT.fullmatch(word.removeprefix("+"))
    if amount is None:
        return word
    before, whole, fraction, after = amount.groups()
    number = whole.replace(",", "").lstrip("0") or "0"
    fraction = fraction.rstrip("0").rstrip(".")
    if (number, fraction) == ("0", ""):
        before = before.removeprefix("-")
    return f"{before}{number}{fraction}{after}"


def _with_percent(text: str, found: Iterable[Word]) -> list[Word]:
    """The words, with "50 %" and "fifty percent" as "50%"."""
    joined: list[Word] = []
    for word in found:
        number = joined[-1] if joined and joined[-1].text[-1].isdigit() and is_amount(joined[-1].text) else None
        if number and word.text in ("%", "percent") and not text[number.end : word.start].strip():
            joined[-1] = Word(number.text + "%", number.start, word.end)
        else:
            joined.append(word)
    return joined


# ---- numbers in words ----------------------------------------------------------------------------------------------


def _with_numbers(found: Sequence[Word]) -> Iterator[Word]:
    at = 0
    texts = [word.text for word in found]
    while at < len(found):
        sign = "-" if texts[at] in ("minus", "negative") and at + 1 < len(texts) else ""
        currency, value, after = _number(texts, at + bool(sign))
        if value is None:
            yield found[at]
            at += 1
        else:
            yield replace(found[at], text=_in_one_form(f"{sign}{currency}{value:f}"), end=found[after - 1].end)
            at = after


def _number(texts: Sequence[str], at: int) -> tuple[str, Decimal | None, int]:
    """The number that begins at a place, such as "two hundred and five" or "$2.5 million": its currency, its value and where it ends."""
    total, limit, end = Decimal(0), Decimal("inf"), at
    currency = ""
    while limit > 1:
        before, value, after = _below_thousand(texts, at)
        scale = _SCALES.get(_at(texts, after))
        if value is None or value * (scale or 1) >= limit:
            break
        currency = currency or before
        total += value * (scale or 1)
        limit = Decimal(scale or 1)
        end = at = after + (scale is not None)
        at += _at(texts, at) == "and" and _at(texts, at + 1) in _BELOW_HUNDRED
    return currency, total if limit.is_finite() else None, end


def _below_thousand(texts: Sequence[str], at: int) -> tuple[str, Decimal | None, int]:
    digits = _DIGITS.fullmatch(_at(texts, at))
    if digits:
        currency, value, after = digits[1], Decimal(digits[2]), at + 1
    elif _at(texts, at) == "a" and (_at(texts, at + 1) == "hundred" or _at(texts, at + 1) in _SCALES):
        currency, value, after = "", Decimal(1), at + 1
    else:
        small, after = _below_hundred(texts, at)
        if small is None:
            return "", None, at
        currency, value = "", small
    if _at(texts, after) != "hundred":
        return currency, value, after
    value, after = 100 * value, after + 1
    rest, end = _below_hundred(texts, after + (_at(texts, after) == "and"))
    return (currency, value, after) if rest is None or _at(texts, end) == "hundred" else (currency, value + rest, end)


def _at(texts: Sequence[str], place: int) -> str:
    return texts[place] if place < len(texts) else ""


def _below_hundred(texts: Sequence[str], at: int) -> tuple[Decimal | None, int]:
    first, second = (_BELOW_HUNDRED.get(_at(texts, place)) for place in (at, at + 1))
    if first is None:
        return None, at
    if first >= 20 and second is not None and 0 < second < 10:
        return Decimal(first + second), at + 2
    return Decimal(first), at + 1
