"""Recognizes answers without content: empty, repetitive, copied from the prompt, giving up, or saying that nothing was found."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Final

# The reference's scorer looks for this text in place of an answer.
COULD_NOT: Final = "Could not produce an answer"

_SENTENCE: Final = re.compile(r"[^.!?\n]+[.!?\n]*\s*")
_WORD: Final = re.compile(r"\w+")
_FORM: Final = re.compile(r"(?:^[^\n]*\n\s*)?<json>(.*?)</json>", re.DOTALL | re.MULTILINE)  # with the line that introduces it
_FIELD: Final = re.compile(r'"([^"]*)"')
_FEWEST: Final = 5  # words; shorter answers may be equal to a sentence of a prompt by chance, and repeat themselves as scores do
_TIMES: Final = 4  # occurrences of a phrase in a row
_LENGTH: Final = 120  # characters that they must span: lists and poems repeat themselves for a while
_PHRASE: Final = 160  # characters of the longest phrase that is detected
_CYCLES: Final = 3  # times that sentences are written before the answer is cut to the first time

# ---- denials -------------------------------------------------------------------------------------------------------
# Their subject is the evidence: "the video does not say" and "it is not mentioned" deny; "he does not say goodbye" and "no dog is shown"
# are answers. A denial that is not known costs more than an answer that is taken for one: the model has to confirm it.

# Every "not" is written out before a denial is searched: "can't" as "can not", "it's" as "it is".
_CONTRACTED: Final = (
    (re.compile(r"[\u2018\u2019]"), "'"),
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b"), "i am"),
    (re.compile(r"\b(it|that|this|there|what|he|she)'s\b"), r"\1 is"),
    (re.compile(r"\s+"), " "),
)
# What holds the answer: "the provided frames alone".
_SOURCE: Final = (
    r"(?:the|this|these|that|any|provided|given|available) (?:\w+ ){0,3}?"
    r"(?:video|clip|frames?|footage|images?|pictures?|scenes?|film|recording|audio|transcripts?|transcription|subtitles|description|"
    r"results?|talk|speech|lecture|context|evidence|information|tools?)(?: alone| itself| \w+ly)?"
)
# What it does with the answer: "say". Some of it anyone may do: "she does not mention it".
_STATES: Final = r"(?:mention|specif(?:y|i)|state)"
_TELLS: Final = (
    rf"(?:{_STATES}|say|show|reveal|tell|provide|give|indicate|contain|include|answer|make|name|identif(?:y|i)|explain|discuss|depict|"
    r"describe|disclose|hold|help|address|cover|have|offer)"
)
# What the answer is not: "mentioned" denies by itself; "given" at the end, and these with a source.
_TOLD: Final = (
    r"(?:shown|mentioned|visible|stated|specified|indicated|depicted|described|discussed|disclosed|audible|addressed|provided|revealed|"
    r"discernible|determinable|legible|readable)"
)
_GIVEN: Final = r"(?:given|said|named|known|answered|spoken|included|seen|heard)"
_FOUND: Final = rf"(?:{_GIVEN}|found|clear|present|explained|available|contained|covered)"
# What cannot be done to learn it: "determine", "be determined". Some of it is said of other things, too: "the data could not be verified".
_SURELY_LEARNT: Final = r"(?:determined?|answer(?:ed)?|identif(?:y|ied)|infer(?:red)?|ascertain(?:ed)?|tell|told|see|seen|hear|heard|read)"
_LEARNT: Final = rf"(?:{_SURELY_LEARNT}|know|known|find|found|say|said|confirm(?:ed)?|verif(?:y|ied)|ma(?:k|d)e out|establish(?:ed)?)"

_IS: Final = r"(?:is|are|was|were|has|have|be)"
_DO: Final = r"(?:do|does|did)"
_NOT: Final = r"(?:not|never)(?: (?:be|been|being|\w+ly|even|ever))*"
_ASKED: Final = r"(?:whether|what|who|how|why|where|when|which|if)"
_BEGIN, _WITHIN, _END = r"^\W*", r"[^.!?;]{0,200}?", r"\W*$"  # of a sentence

_DENIAL: Final = re.compile(
    "|".join(
        (
            # The video does not say it; it never mentions it. "Never until the end" tells when.
            rf"\b{_SOURCE} (?:(?:do|does|did|can|could) {_NOT}|never|fails? to) {_TELLS}(?:s|es|ed)?\b(?!{_WITHIN}\buntil\b)",
            rf"\b{_SOURCE} (?:only|neither) {_TELLS}\w*\b{_WITHIN}\b(?:nor|not)\b|\bneither {_SOURCE}\b",
            rf"{_BEGIN}it {_DO} not (?:say|show|tell)\b",
            # The speaker does not say it; she does not mention it; nobody does.
            rf"\b(?:speaker|narrator|presenter|reporter|host|lecturer|voice)s? {_DO} {_NOT} (?:say|tell|explain|reveal|discuss)\b",
            rf"\b(?:{_DO} {_NOT}|never) {_STATES}(?:s|es|ed)?\b",
            rf"\b(?:nobody|no ?one|no speaker) (?:{_STATES}(?:s|es|ed)?|(?:explains?|tells?|says?|said) (?:it|that|so|{_ASKED}))\b",
            # It is not mentioned; the name is not given; it is not found in the transcript; no price is mentioned.
            rf"(?:\b{_IS} |{_BEGIN}){_NOT} (?:{_TOLD}\b|{_GIVEN}{_END}|{_FOUND}\b{_WITHIN} (?:in|by|from|on|at) {_SOURCE}\b)",
            rf"{_BEGIN}no (?:\w+ ){{1,3}}?{_IS} (?:\w+ly )?(?:mentioned|stated|specified|given|heard|said|provided)\b",
            rf"\bnothing {_IS} (?:said|mentioned|stated|heard|told)\b",
            rf"\b(?:nothing|none|nowhere|no (?:part|sentence|frame|result)) (?:in|of|on) {_SOURCE}\b",
            # It cannot be determined; I cannot see it; it is impossible to tell.
            rf"\bcan {_NOT} be (?:\w+ly )*{_LEARNT}\b",
            rf"\bcould not be (?:\w+ly )*(?:{_SURELY_LEARNT}\b|{_LEARNT}\b{_WITHIN} (?:in|by|from|with) {_SOURCE}\b)",
            rf"(?:{_BEGIN}|\b(?:i|we|one) )(?:can|could|do|did) not (?:\w+ly |even )*{_LEARNT}\b",
            rf"(?:{_BEGIN}|\b(?:i|we) \w+ )(?:unable|not able) to {_LEARNT}\b",
            rf"(?:{_BEGIN}|\b{_IS} )(?:impossible|not possible|no way) to {_LEARNT}\b",
            # There is no information about it; there is not enough; no answer was found.
            r"\b(?:no|not any) (?:\w+ )?(?:information|mention|indication|evidence|details?|references?|data(?! on| in)) "
            rf"(?:{_IS} |at all )?(?:\w+ly )?(?:about|of|on|regarding|concerning|in|to|as|available|provided|given|that)\b",
            r"\b(?:insufficient|not enough) (?:\w+ )?(?:information|evidence|details?|context|data)\b",
            rf"\bno (?:clear |definite )?answer (?:{_IS} )?(?:given |found )?(?:to (?:the|this) question|in {_SOURCE})",
            rf"{_BEGIN}no answer{_END}",
            # It is unclear; it is not clear who it is.
            rf"(?:{_BEGIN}|\b(?:{_IS}|remains?) )un(?:clear|known|specified|stated|certain)\b",
            rf"\b{_IS} {_NOT} (?:clear|known)(?: (?:from|in|{_ASKED})\b|{_END})",
            re.escape(COULD_NOT.lower()),
        )
    )
)


def denies(answer: str) -> bool:
    """Whether an answer says that the video does not show or say what was asked. English only: other answers count as found."""
    text = answer.lower()
    for contracted, written in _CONTRACTED:
        text = contracted.sub(written, text)
    return _DENIAL.search(text) is not None


def gives_up(answer: str) -> bool:
    """Whether an answer is the text that stands for none in the reference, which trained models have learned to write."""
    return answer.lstrip().casefold().startswith(COULD_NOT.casefold())


# ---- answers without content ---------------------------------------------------------------------------------------


def is_nonsense(answer: str, instructions: str) -> bool:
    """Whether an answer has no content.

    Args:
        instructions: all prompt texts. An answer that is a sentence of them, or what a form to fill in says about a field, is a copy.
            What stands in an example may be the right answer.
    """
    words = _WORD.findall(answer.casefold())
    if not words or in_circles(answer):
        return True
    return len(words) >= _FEWEST and " ".join(words) in _told(instructions)


@lru_cache(maxsize=8)
def _told(instructions: str) -> frozenset[str]:
    """The sentences of instructions, and the fields of the forms in them, as words."""
    forms = [form for form in _FORM.findall(instructions) if not _is_json(form)]  # a form that is valid JSON is an example
    sentences = _SENTENCE.findall(_FORM.sub("\n", instructions))
    texts = [*sentences, *(field for form in forms for field in _FIELD.findall(form))]
    return frozenset(" ".join(_WORD.findall(text.casefold())) for text in texts)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def without_repetition(answer: str) -> str:
    """The answer without a tail that repeats itself: small models go on when they have nothing to add.

    A tail is the same sentences three times or more, up to the end of the answer (the last of them may be cut off, or followed by an
    unfinished one). Numbered lists stay as they are, and lists of short items, such as scores, unless they run in circles.
    """
    pieces = _SENTENCE.findall(answer)
    sentences = [piece.strip() for piece in pieces]
    ends = {len(sentences)}
    if sentences and sentences[-1][-1:] not in (".", "!", "?"):
        ends.add(len(sentences) - 1)
    for end in ends:
        for period in range(1, end // _CYCLES + 1):
            start = end
            while start > period and sentences[start - 1] == sentences[start - 1 - period]:
                start -= 1
            # Sentences from `start` on repeat those one period before.
            cycle = " ".join(sentences[start - period : start])
            few = len(_WORD.findall(cycle)) < _FEWEST * period
            if end - start >= (_CYCLES - 1) * period and (not few or in_circles(answer)):
                return "".join(pieces[:start]).strip()
    return answer


def in_circles(text: str) -> bool:
    """Whether the text ends in one phrase that is repeated at least four times, over 120 characters or more.

    Examines the last 640 characters, however long the text is.
    """
    tail = text[: -_TIMES * _PHRASE - 1 : -1]
    # Prefix function (Knuth, Morris, Pratt) of the reversed end: a prefix of n characters has the period n - borders[n - 1].
    borders = [0] * len(tail)
    matched = 0
    for at in range(1, len(tail)):
        while matched and tail[at] != tail[matched]:
            matched = borders[matched - 1]
        matched += tail[at] == tail[matched]
        borders[at] = matched
        if at + 1 >= max(_LENGTH, _TIMES * (at + 1 - matched)):
            return True
    return False
