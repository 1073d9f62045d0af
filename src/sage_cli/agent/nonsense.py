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
# are answers.

_EVIDENCE: Final = (
    r"(?:video|clip|frames?|footage|images?|pictures?|scenes?|film|recording|audio|transcripts?|transcription|subtitles|description|results?|"
    r"talk|speech|lecture|context|evidence|information|tools?)"
)
_SOURCE: Final = rf"(?:the|this|these|that|any|provided|given|available)\s(?:\w+\s){{0,3}}?{_EVIDENCE}"
_NOT: Final = r"(?:\s+not\b|n['\u2019]t\b|\s+never\b|not\b)"
_HOW: Final = r"(?:\s+(?:be|been|being|\w+ly|even|ever|actually))*\s+"
_TOLD: Final = r"(?:shown|mentioned|visible|stated|specified|indicated|depicted|described|discussed|disclosed|audible|addressed|provided)"
_FOUND: Final = r"(?:found|given|said|heard|seen|known|clear|present|answered|named|explained|available|spoken|included|contained|covered)"
_TELLS: Final = (
    r"(?:say|show|mention|state|specify|reveal|tell|provide|give|indicate|contain|include|answer|make|name|identify|explain|discuss|depict|"
    r"describe|disclose|hold|help|address|cover|have|offer)"
)
_LEARNT: Final = (
    r"(?:determined?|answer(?:ed)?|identif(?:y|ied)|inferr?(?:ed)?|told?|tell|see|seen|hear|heard|know|known|f(?:i|ou)nd|read|say|said|"
    r"confirm(?:ed)?|verif(?:y|ied)|ma(?:k|d)e out|ascertain(?:ed)?|established?)"
)
_DENIAL: Final = re.compile(
    "|".join(
        (
            # The video does not say it.
            rf"\b{_SOURCE}\s+(?:do|does|did|can|could){_NOT}{_HOW}{_TELLS}\b",
            rf"\b{_SOURCE}\s+(?:never|nowhere|only|neither)\s+{_TELLS}\w*\b.*\b(?:nor|not)\b|\b{_SOURCE}\s+never\s+{_TELLS}(?:s|es|ed)?\b",
            # The speaker does not say it; she does not mention it.
            rf"\b(?:speaker|narrator|presenter|reporter|host|lecturer|voice)s?\s+(?:do|does|did){_NOT}{_HOW}(?:say|state|tell|explain|reveal|discuss)\b",
            rf"\b(?:do|does|did){_NOT}{_HOW}(?:mention|specify)\b|\bnever\s+(?:mention(?:s|ed)?|specif(?:y|ies|ied))\b",
            # It is not mentioned.
            rf"(?:\b(?:is|are|was|were|has|have|be){_NOT}|^\W*not){_HOW}{_TOLD}\b",
            rf"\b(?:is|are|was|were|has|have){_NOT}{_HOW}{_FOUND}\b[^.!?;]*?\b(?:in|by|from|on|at)\s+{_SOURCE}\b",
            rf"^\W*not{_HOW}{_FOUND}\b[^.!?;]*?\b(?:in|by|from)\s+{_SOURCE}\b",
            rf"\b(?:is|are){_NOT}\s+(?:clear|known|possible\s+to\s+{_LEARNT})\b(?:\s+(?:from|in|whether|what|who|how|why|where|when|which|if)\b|\W*$)",
            # It cannot be determined; I cannot see it.
            rf"\b(?:can|could)\s?{_NOT}\s*be{_HOW}{_LEARNT}\b",
            rf"\b(?:I|we|you|one)\s+(?:(?:can|could|do|did)\s?{_NOT}|(?:am|are|was|were)\s+(?:unable|not\s+able)\s+to){_HOW}{_LEARNT}\b",
            rf"\bI['\u2019]m\s+(?:unable|not\s+able)\s+to\s+{_LEARNT}\b",
            rf"^\W*(?:unable|not\s+able|impossible|not\s+possible)\s+to\s+{_LEARNT}\b|\bis\s+(?:impossible|unable)\s+to\s+{_LEARNT}\b",
            # There is no information about it; nothing in the transcript answers it; nobody mentions it.
            r"(?:\bno|\bnot\s+any|n['\u2019]t\s+any)\s+(?:\w+\s)?(?:information|mention|indication|evidence|details?|references?|data)\s+(?:\w+\s){0,2}?"
            r"(?:about|of|on|regarding|concerning|in|to|as|available|provided|given|that)\b",
            r"\b(?:insufficient|not\s+enough)\s+(?:\w+\s)?(?:information|evidence|details?|context|data)\b",
            rf"\bno\s+(?:clear\s|definite\s)?answer\s+(?:is\s|was\s)?(?:given\s|found\s)?(?:to\s+(?:the|this)\s+question|in\s+{_SOURCE})",
            rf"\b(?:nothing|none|nowhere|no\s+(?:part|sentence|frame|result))\s+(?:in|of|on)\s+{_SOURCE}\b",
            r"\bnothing\s+(?:is|was)\s+(?:said|mentioned|stated|heard|told)\b",
            rf"\bneither\s+{_SOURCE}\b",
            r"\b(?:nobody|no\s?one|no\sspeaker)\s+(?:says?|said|mentions?|mentioned|states?|stated|tells?|told|explains?|explained|talks?)\b",
            # Unclear.
            r"(?:^\W*|\b(?:is|are|was|were|remains?|it's)\s+)(?:un(?:clear|known|specified|stated|certain))\b",
            re.escape(COULD_NOT),
        )
    ),
    re.IGNORECASE,
)


def denies(answer: str) -> bool:
    """Whether an answer says that the video does not show or say what was asked. English only: other answers count as found."""
    return _DENIAL.search(answer) is not None


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
