"""Decoding of external text: :func:`decode` for what is typed, :func:`decode_prose` for texts whose encoding nobody says, and
:func:`decode_unicode` for formats that are Unicode by definition. Also: notes, repetition, suffixes of media, names, links, Markdown and
standard JSON.
"""

from __future__ import annotations

import codecs
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final, Literal

STDIN: Final = "-"  # as the name of a file

# How the names of videos end, and those of recordings of sound. Files with other names are opened if they are named, but no folder or list
# offers them.
MEDIA: Final = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".m2ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp", ".mxf"),
    *(".mp3", ".m4a", ".aac", ".flac", ".wav", ".ogg", ".oga", ".opus", ".wma", ".aiff", ".mka"),
)

# And of subtitles, the likeliest format first: the suffix tells it more surely than the text.
SUBTITLES: Final = (".srt", ".vtt", ".ass", ".ssa", ".ttml")

# And of subtitles that are not read: formats of sites, of discs, of players long gone.
OTHER_SUBTITLES: Final = (
    *(".json3", ".srv1", ".srv2", ".srv3", ".sbv", ".dfxp"),
    *(".sub", ".sup", ".idx", ".smi", ".lrc", ".scc", ".stl", ".mks"),
)

_MARKS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

# Letters of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese.
UNSPACED: Final = re.compile(
    "[\u0e01-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff]"
)

# All that a terminal could obey; a tab and a line end are text.
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Of Markdown: what marks up words, and what makes a line a heading, an item, a rule or an underline.
_INLINE_MARKUP: Final = re.compile(r"[\\`*_\[\]<>|~$#]|&(?=#?\w+;)")
_LINE_MARKER: Final = re.compile(r"^(\d{0,9})([-+=.)](?=\s|$)|-(?=-)|=(?==))")

_EXAMINED: Final = 50_000  # bytes that tell the encoding
_INVALID: Final = 10  # valid sequences of UTF-8 for each invalid one, in text that is UTF-8 though damaged
_WESTERN: Final = 0.7  # of the likelihood of the best encoding, from which Windows-1252 is preferred
_LIKELY: Final = 0.5  # the same for an encoding of the language that the text is said to be in
_NEAR: Final = 0.9  # the same for an encoding of Windows where one of DOS is the best
_NOT_WESTERN: Final = re.compile("[ðþýšžÐÞÝŠŽ]")  # letters of Windows-1252 that Turkish, Baltic and Slavic encodings have others for
# What text hardly has: control characters, accents alone, lines and blocks, Arabic letters by shape; signs between letters, except the
# hyphen, the dot of Catalan, an apostrophe and an accent in its place. And the share that it may have in the characters beyond ASCII.
_NO_TEXT: Final = re.compile(
    "[\x80-\x9f\u02c7\u02d8\u02d9\u02db\u02dd\u2500-\u259f\ufe70-\ufefc]"
    "|[a-z][\xa1-\xac\xae-\xb3\xb5\xb6\xb8-\xbf\xd7\xf7\u0192\u02c6\u201a\u201c-\u201e\u2020-\u2022\u2030\u2039\u203a\u2122](?=[a-z])",
    re.IGNORECASE,
)
_NO_TEXT_SHARE: Final = 0.1
_GREEK_OF_ISO: Final = re.compile("\xb6[\u03ac-\u03ce]")  # Ά, read as that of Windows
_HARDLY_USED: Final = {"mac-cyrillic", "mac-greek", "mac-turkish", "mac-iceland"}  # and nearly the same as sets that are
_MULTIBYTE: Final = re.compile("gb|big5|cp9|euc|johab|shift|iso2022|hz|utf")
# Hiragana in Japanese text: the share in the characters beyond ASCII, and how many different ones.
_KANA_SHARE: Final = 0.2
_DIFFERENT: Final = 3
_ALBANIAN: Final = 8  # letters that are all ë or ç; in Baltic texts, ė for one, others are as frequent
# Scripts, and the share of their words that may hold Latin letters: it is small where both are letters of one alphabet.
_SCRIPTS: Final = (("\u0370-\u0e7f", 0.1), ("\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3", 0.5))


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the user.

    Attributes:
        text: what is so. Reports show that alone: their readers cannot set options.
        advice: what the user can do about it; ``""`` for nothing.
    """

    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.text}; {self.advice}" if self.advice else self.text


def decode(data: bytes) -> str:
    """Bytes as text.

    By the byte order mark if there is one, else UTF-8, else Windows-1252 (as in browsers), where E9 is é. Invalid bytes become U+FFFD.
    UTF-16 without a mark, as some Windows programs write it, is recognized by its zero bytes.
    """
    text = _unicode(data, "replace")
    return data.decode("cp1252", "replace") if text is None else text


def decode_unicode(data: bytes) -> str:
    """Text in UTF-8 or UTF-16, with or without a byte order mark, as editors write settings, prompts and JSON.

    Raises:
        UnicodeDecodeError: it is neither.
    """
    text = _unicode(data, "strict")
    return data.decode() if text is None else text


def read_unicode(path: Path) -> str:
    """A file's text as by :func:`decode_unicode`, with lines that end in ``\n``.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is neither UTF-8 nor UTF-16.
    """
    return decode_unicode(path.read_bytes()).replace("\r\n", "\n").replace("\r", "\n")


def decode_prose(data: bytes, language: str = "") -> str:
    """Sentences as text, in whatever encoding. Unicode is recognized as in :func:`decode`, other encodings by their letters.

    Args:
        language: ISO 639-1 code of the language it is said to be in; ``""`` if nothing says.
    """
    text = _unicode(data, "replace")
    return data.decode(guess_encoding(data, language), "replace") if text is None else text


def guess_encoding(data: bytes, language: str = "") -> str:
    """The likeliest encoding of sentences that are not valid Unicode, as Python names it; ``language`` as for :func:`decode_prose`."""
    text = data.decode("utf-8", "replace")
    if sum(char > "\x7f" for char in text) > (_INVALID + 1) * text.count("\ufffd"):
        return "utf-8"  # though damaged
    foreign = b"\n".join(line for line in data.splitlines() if not line.isascii())[:_EXAMINED]
    found = _guessed(foreign, language)
    if _MULTIBYTE.match(found):
        return found
    return next((name for name in ("cp932", "euc_jp") if _is_kana(foreign.decode(name, "replace"))), found)


def _is_kana(text: str) -> bool:
    """Whether text is plainly Japanese. The statistics need several sentences to know it."""
    kana = re.findall("[\u3041-\u3096]", text)
    wrong = len(re.findall("[\ufffd\uff61-\uff9f]", text))  # the narrow letters are what other encodings' bytes look like
    beyond = sum(char > "\x7f" for char in text)
    return len(set(kana)) >= _DIFFERENT and len(kana) > _KANA_SHARE * beyond and wrong < _NO_TEXT_SHARE * beyond


def _guessed(foreign: bytes, language: str) -> str:
    # Of Albanian there are no statistics: it has two letters beyond ASCII, which are the same in all Western and Central European sets.
    letters = re.findall(r"[^\W\d_\x00-\x7f]", foreign.decode("cp1252", "replace").lower())
    if {"ë"} <= {*letters} <= {"ë", "ç"} and (language == "sq" or (not language and len(letters) >= _ALBANIAN)):
        return "cp1252"
    likely: dict[str, tuple[float, str]] = {}
    for name, found in _likelihoods(foreign).items():
        text = foreign.decode(name, "replace")
        if _is_plausible(text):
            capitals = sum(map(str.isupper, text)) > sum(map(str.islower, text))  # the statistics are of small letters
            likely[name] = _likelihoods(text.lower().encode(name, "replace")).get(name, found) if capitals else found
    ranked = sorted(likely, key=lambda name: (-likely[name][0], not name.startswith("cp")))  # Windows' sets hold more than ISO's
    best = likely[ranked[0]][0] if ranked else 0.0
    if own := [name for name in ranked if language and likely[name][1] == language and likely[name][0] >= best * _LIKELY]:
        # In a sentence or two, DOS' sets look as likely as Windows', whose letters are above A0 and those of DOS mostly below.
        dos = 2 * sum(0x80 <= byte < 0xA0 for byte in foreign) > sum(byte >= 0xA0 for byte in foreign)
        windows = (name for name in (*own, *ranked) if name.startswith("cp125") and likely[name][0] >= likely[own[0]][0] * _NEAR)
        return own[0] if dos or own[0].startswith("iso") else next(windows, own[0])
    # Letters alone hardly tell è from č in a few sentences, and most of such files are in Western European languages.
    western = likely.get("cp1252", (0.0, ""))[0] >= best * _WESTERN and not _NOT_WESTERN.search(foreign.decode("cp1252", "replace"))
    return "cp1252" if western or not ranked else ranked[0]


def _is_plausible(text: str) -> bool:
    """Whether words have one script each and no signs in them, as they often have if their accents are read in a wrong encoding."""
    if len(_NO_TEXT.findall(text)) > _NO_TEXT_SHARE * sum(char > "\x7f" for char in text) or _GREEK_OF_ISO.search(text):
        return False
    return all(
        len(re.findall(f"[A-Za-z][{letters}]|[{letters}][A-Za-z]", text)) <= share * len(re.findall(f"[{letters}]+", text))
        for letters, share in _SCRIPTS
    )


def _likelihoods(data: bytes) -> dict[str, tuple[float, str]]:
    """The likelihood of each encoding that the data may have, 0 to 1, and the likeliest language in it."""
    import chardet

    era = chardet.EncodingEra
    eras = era.MODERN_WEB | era.LEGACY_ISO | era.LEGACY_MAC | era.DOS
    found = chardet.detect_all(data, ignore_threshold=True, encoding_era=eras, compat_names=False)
    named = ((one["encoding"] or "", one["confidence"], one["language"] or "") for one in found)
    return {name: (likelihood, language) for name, likelihood, language in named if name and name not in _HARDLY_USED}


def _unicode(data: bytes, errors: Literal["replace", "strict"]) -> str | None:
    """The text if it is UTF-8 or UTF-16; ``errors`` of what is one of them by its mark or its zero bytes."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors)
    if len(data) > 1 and 0 in data:
        zeros = data[1::2].count(0), data[::2].count(0)
        if max(zeros) > len(data) // 5 > min(zeros):
            return data.decode("utf-16-le" if zeros[0] > zeros[1] else "utf-16-be", errors)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def is_utf16(data: bytes) -> bool:
    """Whether :func:`decode` takes bytes for UTF-16, whose lines do not end where a byte is ``\\n``."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or 0 in data


def lines(text: str) -> list[str]:
    """The lines of a text, without blank ones. ``str.splitlines`` would also end them within a sentence, at U+2028 or a form feed."""
    return [stripped for line in re.split(r"\r\n?|\n", text) if (stripped := line.strip())]


def from_argument(word: str) -> str:
    """Decode a command-line argument. Python decodes it by the locale and keeps undecodable bytes as surrogates."""
    try:
        return decode(os.fsencode(word))
    except UnicodeEncodeError:  # a surrogate that represents no byte
        return without_surrogates(word)


def without_surrogates(text: str) -> str:
    """Text with U+FFFD for halves of surrogate pairs, which no encoding can write."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def without_controls(text: str) -> str:
    """Text without control characters but tabs and line ends: shown on a terminal, others move its cursor or set its title."""
    return _CONTROL.sub("", text)


def standard_json(value: Any, levels: int = 100) -> Any:
    """A value of :func:`json.loads`, which reads more than JSON, with U+FFFD for halves of surrogate pairs.

    Args:
        levels: of objects and lists inside each other, at most.

    Raises:
        ValueError: it holds NaN or an infinity, or more levels.
    """
    match value:
        case str():
            return without_surrogates(value)
        case dict() | list() if not levels:
            raise ValueError("nested too deeply")
        case dict():
            return {without_surrogates(name): standard_json(inside, levels - 1) for name, inside in value.items()}
        case list():
            return [standard_json(inside, levels - 1) for inside in value]
        case float() if not math.isfinite(value):
            raise ValueError(f"a number is {value}")
    return value


def escape_markdown(text: str, *, cell: bool = False) -> str:
    """Text that shows as it is in GitHub's Markdown, line by line; in a ``cell`` of a table no line begins an item or a rule."""
    lines = [_INLINE_MARKUP.sub(r"\\\g<0>", line.strip()) for line in text.split("\n")]
    return "\n".join(lines if cell else [_LINE_MARKER.sub(r"\1\\\2", line) for line in lines])


def shortened(text: str, most: int) -> str:
    """The beginning of a text that is longer than so many characters, with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"


def user_path(name: str | Path) -> Path:
    """The path that a user means, ``~`` and ``~user`` expanded. Where there is no such user, the file is really called so."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  (Path.expanduser raises RuntimeError there)


def media_name(given: str) -> str:
    """What messages call the media that a user named: ``stdin`` in place of ``-``."""
    return "stdin" if given == STDIN else given


def media_label(given: str) -> str:
    """The same without folders, for headings and for the names of files made from the media: ``talk.mp4``."""
    label = PurePath(media_name(given)).name or given
    return re.sub(r"[^\w.-]+", "_", label) if is_link(given) else label


def without_password(address: str) -> str:
    """An address as messages show it: ``http://...@HOST``, without a user's name and password.

    It may be invalid, or lack ``http://``, and a password may hold any character: whatever is before the last ``@`` can be one.
    """
    return re.sub(r"\A([a-z]+://)?.*@", r"\1...@", address, flags=re.DOTALL | re.IGNORECASE)


def is_key(text: str) -> bool:
    """Whether text can be sent as a key: headers of HTTP are ASCII, in one line."""
    return text.isascii() and text.isprintable()


def is_link(text: str) -> bool:
    """Whether text is a web address rather than a file name."""
    return re.match(r"(?i)https?://\S", text) is not None


_TIMES: Final = 4  # occurrences of a phrase in a row
_PHRASE: Final = 160  # characters of the longest phrase that is detected


def in_circles(text: str, least: int = 120) -> bool:
    """Whether the text ends in one phrase that is repeated at least four times, over so many characters or more: lists and poems repeat
    themselves for a while.

    Examines so many characters, or 640, of the end, however long the text is.
    """
    tail = text[: -max(least, _TIMES * _PHRASE) - 1 : -1]
    # Prefix function (Knuth, Morris, Pratt) of the reversed end: a prefix of n characters has the period n - borders[n - 1].
    borders = [0] * len(tail)
    matched = 0
    for at in range(1, len(tail)):
        while matched and tail[at] != tail[matched]:
            matched = borders[matched - 1]
        matched += tail[at] == tail[matched]
        borders[at] = matched
        if at + 1 >= max(least, _TIMES * (at + 1 - matched)):
            return True
    return False
