"""Which option a reply names: by its label or its words, in the wordings that models use, and not where it denies it.

The clearest mentions decide: what the reply calls its answer, then labels, then the words of options. Mentions that are denied ("not B",
"B is wrong", "all but B") and alternatives ("A or B") name nothing. A reply that leaves two options, or none, names none.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final

from sage_cli.bench.words import Word, plain, split, words


class _Rank(IntEnum):
    """How clearly a reply says that an option is its answer; the clearest first."""

    FINAL = 0  # "final answer: B"
    STATED = 1  # "the answer is B", "B is correct", or "B" at the beginning
    LABEL = 2  # "(B)", "option B", "it is B"
    WORDS = 3
    LAST = 4  # any "B" at the end of a sentence


@dataclass(frozen=True, slots=True)
class _Mention:
    """A mention of the option at ``place``, from ``start`` to ``end``."""

    start: int
    end: int
    place: int
    rank: _Rank


# ---- the conclusion of a reply -------------------------------------------------------------------------------------

_THOUGHT: Final = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_MARKED: Final = re.compile(
    r"<(?P<tag>answer|final_?answer|final|ans|choice|option)>(?P<tagged>.*?)(?:</(?P=tag)>|$)"
    r"|<\|begin_of_box\|>(?P<box>.*?)<\|end_of_box\|>"
    r"|\\(?:boxed|fbox)\s*\{(?P<boxed>(?:[^{}]|\{[^{}]*\})*)\}",
    re.DOTALL | re.IGNORECASE,
)
_TURN: Final = re.compile(r"\bwait\s*[,.!\u2014-]|\bcorrection\s*:|\bscratch that\b|\bon second thought\b", re.IGNORECASE)
_DOLLARS: Final = re.compile(r"(?<![\\$])(\${1,2})(?=[^\s$])([^$\n]*[^\s$\\])\1(?![\d$])")  # a formula; "$5 or $10" are amounts of money
_TEX: Final = re.compile(r"(?<!\\)\\+[a-zA-Z]+\s*(?=\{)|[{}]|\\[()\[\],;! ]")
# "**B**", "`B`", "'B'" and "**B.**" are "(B)"; other emphasis goes.
_EMPHASIZED: Final = re.compile(
    r"(?<!\w)(\*{1,3}|_{1,3}|`{1,3}|[\"'\u201c\u2018])[(\[]?([A-Z]|[a-z](?=[)\]])|\d{1,2})[)\].:]*(?:\1|[\"'\u201d])(?!\w)"
)
_EMPHASIS: Final = re.compile(r"[*`]+|(?<![A-Za-z0-9])_+|_+(?![A-Za-z0-9])|^[ \t]*(?:#+|>+|-)[ \t]+", re.MULTILINE)

_LONGEST: Final = 10_000  # characters of a reply that are read, at its end
_LABELS: Final = 500  # that are looked at, the last ones
_NEAR: Final = 160  # characters of a clause that are looked at around a mention

# ---- labels --------------------------------------------------------------------------------------------------------

_LETTER: Final = r"(?<![A-Za-z0-9_'])(?<![Nn]/)(?P<label>[A-Za-z])(?![A-Za-z0-9_]|'[A-Za-z])"
_NUMBER: Final = r"(?<![\w.,'$\u20ac\u00a3-])(?P<label>\d{1,2})(?![\w'%]|[.,:]\d)"
_END: Final = re.compile(
    r"[\s\"')\]]*(?:$|[().\],:;!?/-]|(?:because|since|as|is|isn't|and|or|nor|but|for|which|not|cannot|can't|instead|rather|over|fits|matches)\b)",
    re.IGNORECASE,
)
_SENTENCE_END: Final = re.compile(r"[\"')\]]*\s*(?:$|[.!?;\u3002\n])")
_SEPARATOR: Final = re.compile(r"\s*(?:[.:;!](?=\s|$)|\(|-{1,2}(?=\s)|\u2014|,\s|$|\n|(?:because|since|as)\b)", re.IGNORECASE)
_LINE_START: Final = re.compile(r"(?:^|\n)[ \t\"'([]*\Z")
# Words after which a capital is a label, and no name: not "vitamin B".
_LINKS: Final = re.compile(
    r"(?:\A|[.,:;!?(-]|\b(?:is|be|was|it's|that's|choose|chose|pick|select|say|with|for|not|but|or|nor|and|either|neither|both|than|to|answer|"
    r"option|choice|letter|likely|probably|definitely|clearly|certainly|maybe|perhaps|think|believe|guess|so|then|thus|therefore|hence|rather|"
    r"only)\b)[\s\"'(\[]*\Z|\n[\s\"'(\[]*\Z",
    re.IGNORECASE,
)

# ---- what is said of an option -------------------------------------------------------------------------------------

_ANSWER: Final = r"(?:answer|response|conclusion|antwort|r\u00e9ponse|respuesta|risposta|resposta|\u7b54\u6848|\u7b54\u3048)"
_OPTION: Final = r"(?:choice|selection|option)"
_VERB: Final = (
    r"(?:is|was|are|will\s+be|would\s+be|must\s+be|should\s+be|has\s+to\s+be|appears\s+to\s+be|seems\s+to\s+be|ist|est|es|\u662f|\u306f)"
)
_CHOOSE: Final = (
    r"(?:choos(?:e|ing)|chose|pick(?:ed)?|select(?:ed)?|(?:go|going|went)\s+with|opt(?:ed)?\s+for|settled?\s+(?:on|for)|vote\s+for|"
    r"(?:would|'d|i'll)\s+(?:say|guess|answer)|i\s+(?:say|guess))"
)
_FILLING: Final = (
    r"(?:(?:the|that|it|is|therefore|thus|most|likely|probably|clearly|definitely|simply|option|choice|letter|number|answer)\b[\s,:]*)*"
)
_BEFORE: Final = re.compile(
    rf"(?:(?P<final>\bfinal(?:ly)?\b[\s,]*(?:the\s+|my\s+)?)?\b(?:(?:correct|right|best|my|final|chosen)\s+)*(?:{_ANSWER}[\"']?(?:\s*[:=]+\s*|\s+(?=[(\[]*\Z))"
    rf"|{_OPTION}[\"']?[ \t]*[:=]+[ \t]*(?!\n)|{_ANSWER}\s*{_VERB}\s*:?\s*|{_OPTION}\s*{_VERB}\s*:?\s*)"
    rf"|\b{_CHOOSE}\s*:?\s*|\bcorrect\s*[:=]\s*|(?<!=)={{2,}}>?\s*|\u2192\s*){_FILLING}[\s(\[\"':]*(?:(?:an?|the)\s+)?[(\[\"']*\Z",
    re.IGNORECASE,
)
_THEREFORE: Final = re.compile(r"\b(?:therefore|thus|hence|consequently|so)[\s,:]*[(\[\"']*\Z", re.IGNORECASE)
_NAMED: Final = re.compile(r"(?:\b(?:option|choice|letter|answer)|\u9009\u9879|\u9078\u629e\u80a2)[ \t]*[(\[\"']*\Z", re.IGNORECASE)
_SURELY: Final = r"(?:(?:the|indeed|clearly|definitely|probably|likely|most|therefore|thus|also|my|only|to\s+be)\s+)*"
_AFTER: Final = re.compile(
    rf"[\s)\]\"'.:,-]*(?:(?:which|that|it|option|choice|one)\s+)?(?:{_VERB}|seems|appears|looks|fits|-|:|\()\s*{_SURELY}"
    r"(?:(?:(?:correct|right|best|true|accurate|final)\b(?!\s+(?:of|next|behind|beside|side|hand|after|before|there)\b)"
    r"(?:\s+(?:answer|option|choice|one|response|selection|match)\b)?|answer\b|choice\b))|[\s)\]\"'.:,-]*(?:[\u2713\u2714\u2705]|\u304c\u6b63\u89e3|\u662f\u6b63\u786e)",
    re.IGNORECASE,
)
_REFUTED: Final = re.compile(
    rf"[\s)\]\"':-]*(?:(?:,\s*(?:which|that)|which|that|option|choice|one)\s+)?"
    rf"(?:(?:{_VERB}|seems|looks|appears)?\s*[(:-]*\s*{_SURELY}(?:to\s+be\s+)?(?P<wrong>wrong|incorrect|false|inaccurate|[\u2717\u2718\u274c])"
    rf"|(?:{_VERB}|(?:can|could|should)\s+be)\s*{_SURELY}(?:(?:ruled\s+out|out|eliminated|excluded|unlikely|less\s+likely|impossible)\b)"
    rf"|(?:can\s*not|cannot|can't|isn't|wasn't|aren't|(?:{_VERB})\s+(?:\w+ly\s+)?(?:not|never)\b|n'est\s+pas|n\u00e3o|no\s+es)"
    r"(?P<what>\s*(?:be\s+)?(?:the\s+|an?\s+)?(?:(?:correct|right|best)\b|answer\b|option\b|choice\b)?)"
    r"|(?:does|did|do|has|have|will|would|could)(?:\s+not\b|n't\b))",
    re.IGNORECASE,
)
_DENIAL: Final = re.compile(
    r"(?<![\w-])(?:not(?!\s+(?:only|just|merely|simply)\b)|never|no(?!\s*[,.;:!])|nor|neither|none|cannot|\w+n't|"
    r"(?:is|do|does|did|was|were|ca|are|wo|would|could)nt|unlikely|doubt(?:ful)?|hardly|barely|scarcely|far\s+from|(?:refus|fail)(?:es?|ed|ing|s)?|(?:rul|eliminat|exclud|reject)(?:es?|ed|ing)|"
    r"nicht|kein(?:e[mnrs]?)?|weder|pas|jamais|ni|non|n\u00e3o|nem|niet|geen|\u043d\u0435|\u043d\u0438)(?!\w)",
    re.IGNORECASE,
)
_WRONG: Final = re.compile(r"\b(?:wrong|incorrect|false|inaccurate)\b", re.IGNORECASE)
_EXCEPTED: Final = re.compile(
    r"(?:\b(?:(?:all|any\w*|every\w*|both)\s+(?:\w+\s+)?but|but\s+not|except(?:\s+for)?|excluding|(?:other|rather|more|less|fewer|greater|higher|lower|larger|smaller)\s+than|at\s+(?:least|most)|instead\s+of|"
    r"apart\s+from|as\s+opposed\s+to|besides|unlike|without)|\b(?:wrong|incorrect|not|eliminated|excluded)\s*:|\u4e0d\u662f|\u975e)"
    r"\s*(?:(?:the|an?|option|choice|letter|answer)\s+)*[(\[\"']*\Z",
    re.IGNORECASE,
)
# "None other than B", "nothing but B": only B.
_ONLY: Final = re.compile(
    r"\b(?:none|nothing|no\s+one|nobody|(?:can(?:not|'t|\s+not)|could\s+not|couldn't)\s+be\s+any\w*|no\s+\w+)\s+(?:else\s+)?(?:other\s+than|but|except)\b",
    re.IGNORECASE,
)
# "There is no doubt that it is B": a denial of doubt denies nothing else.
_UNDOUBTED: Final = re.compile(
    r"\b(?:no|not|without|beyond|little|hardly|\w+n't)\s+(?:(?:an?|any|all|the)\s+)?(?:\w+\s+)?doubt(?:ed|ful)?\b"
    r"|\b(?:no|without|beyond)\s+question\b",
    re.IGNORECASE,
)
_CLAUSE: Final = re.compile(
    r"[.!?](?=\s|$)|[;:\n\u2014\u3002]|\s--?\s|\b(?:but|however|instead(?!\s+of))\b"
    r"|,\s+(?=(?:it|this|that|these|those|he|she|they|we|i|the|there|so|rather|because|since|as|therefore|thus|hence|which|making|and|my)\b)",
    re.IGNORECASE,
)
# "The shape that is not shown is B": after the verb of the main clause nothing is denied any more ...
_RESUMED: Final = re.compile(r"\b(?P<subject>[\w-]+)\s+(?:is|are|was|were)\b", re.IGNORECASE)
# ... unless that clause is what is denied: "I do not think that it is B".
_OF_CLAUSE: Final = re.compile(
    r"\b(?:that|it|this|there|he|she|they|answer|option|choice|think|believe|say|see|know|sure|certain|true|case|clear|likely|mean|seem|appear|"
    r"whether|if|what|who|which|where)\b",
    re.IGNORECASE,
)
_OR: Final = re.compile(
    r"[\s)\]\"'.]*(?P<join>,|/|&|\bor\b|\band\b|\boder\b|\bou\b|\bo\b)(?:(?:/|or|and|maybe|perhaps|possibly|either|option|the|an?)\b|[\s,(\[\"'])*\Z",
    re.IGNORECASE,
)


def named(reply: str, options: Sequence[str], *, numbered: bool = False, denying: bool = False) -> int | None:
    """The place of the one option that a reply names, by its label or by its words; ``None`` for none, or several.

    What a model marks as its answer (``<answer>``, ``\\boxed{}``) is read alone. The articles "a" and "I" are no labels: "The answer is a
    dog" names the option whose words are "a dog". Of a very long reply, the end is read.

    Args:
        numbered: the labels are 1, 2, 3.
        denying: the question asks what is not so ("Which is not shown?"): "Blue is not shown" names blue.
    """
    text = _THOUGHT.split(plain(reply))[-1][-_LONGEST:]
    marked = {match[match.lastgroup or 0].strip() for match in _MARKED.finditer(text)} - {""}
    places = {_named(answer, options, numbered, denying) for answer in marked or {text}}
    return places.pop() if len(places) == 1 else None


def _named(text: str, options: Sequence[str], numbered: bool, denying: bool) -> int | None:
    text = _TURN.split(_without_tex(text))[-1].strip()
    options = [_without_tex(plain(option)) for option in options]
    bare = _EMPHASIS.sub("", _EMPHASIZED.sub(r"(\2)", text)).strip()
    for whole in (text, bare):  # "> 5" may be an option, or a quotation
        place = _whole(whole, options, numbered)
        if place is not None:
            return place
    return _Reading(bare, options, numbered, denying).answer()


def _without_tex(text: str) -> str:
    return _TEX.sub("", _DOLLARS.sub(r" \2 ", text)).replace(r"\$", "$")


def _whole(text: str, options: Sequence[str], numbered: bool) -> int | None:
    """The place of the option that is the whole reply, as its label or as its words."""
    said = words(text)
    label = re.fullmatch(r"\W*(\w{1,2})\W*", text)
    place = _place(label[1], options, numbered) if label and words(label[1]) == said else None
    same = [number for number, option in enumerate(options) if said and words(option) == said]
    return place if place is not None else same[0] if len(same) == 1 else None


def _place(label: str, options: Sequence[str], numbered: bool) -> int | None:
    """The place of a label, if it is one of these options."""
    if numbered:
        place = int(label) - 1 if label.isdecimal() else -1
    else:
        place = ord(label.upper()) - ord("A") if len(label) == 1 and label.isascii() and label.isalpha() else -1
    return place if 0 <= place < len(options) else None


class _Reading:
    """A reply with every mention of an option in it."""

    def __init__(self, text: str, options: Sequence[str], numbered: bool, denying: bool) -> None:
        text = _ONLY.sub(lambda match: "only".ljust(len(match[0])), text)  # places in the text stay the same
        self._text = _UNDOUBTED.sub(lambda match: "clearly".ljust(len(match[0])), text)
        self._options, self._numbered, self._denying = options, numbered, denying
        self._own_words = [re.compile(rf"[\s)\].:-]*{re.escape(plain(option))}", re.IGNORECASE) for option in options]
        # "B vitamins" is no "B", and "blue dog" no "dog".
        self._mentions = _whole_ones([*self._words(split(self._text)), *self._labels()])
        self._mentioned = bytearray(len(self._text))  # what is part of a mention
        for one in self._mentions:
            self._mentioned[one.start : one.end] = b"\1" * (one.end - one.start)

    def answer(self) -> int | None:
        """The place of the option that the clearest mentions name."""
        denied = {mention for mention in self._mentions if self._is_denied(mention)}
        doubtful = denied | self._alternatives(denied)
        for rank in _Rank:
            places = {mention.place for mention in self._mentions if mention.rank == rank and mention not in doubtful}
            if rank > _Rank.STATED:
                places -= {mention.place for mention in doubtful}
            if rank <= _Rank.STATED and places & {mention.place for mention in denied if mention.rank <= rank}:
                return None
            if len(places) == 1:
                return places.pop()
            if places and rank != _Rank.LABEL:
                return None
        return None

    def _words(self, said: Sequence[Word]) -> Iterator[_Mention]:
        """The mentions of options by their words, without the article of an option."""
        texts = [[word.text for word in split(plain(option))] for option in self._options]
        short = [text[1:] if len(text) > 1 and text[0] in ("a", "an", "the") else text for text in texts]
        sought = short if len({*map(tuple, short)}) == len({*map(tuple, texts)}) else texts
        for place, option in enumerate(sought):
            for at in range(len(said) - len(option) + 1):
                if option == ["no"] and not _END.match(self._text, said[at].end, said[at].end + _NEAR):
                    continue  # "no doubt", "no star"
                if option and [word.text for word in said[at : at + len(option)]] == option:
                    yield self._mention(said[at].start, said[at + len(option) - 1].end, place, _Rank.WORDS)

    def _labels(self) -> Iterator[_Mention]:
        for match in deque(re.finditer(_NUMBER if self._numbered else _LETTER, self._text), _LABELS):
            place = _place(match["label"], self._options, self._numbered)
            if place is not None and (rank := self._rank(match)) is not None:
                yield self._mention(match.start(), match.end(), place, rank)

    def _mention(self, start: int, end: int, place: int, rank: _Rank) -> _Mention:
        """A mention, with the rank of what is said before or after it."""
        if before := _BEFORE.search(self._text, max(0, start - _NEAR), start):
            rank = _Rank.FINAL if before["final"] else _Rank.STATED
        elif rank < _Rank.LAST and _AFTER.match(self._text, after := self._after_words(end, place), after + _NEAR):
            rank = min(rank, _Rank.STATED)
        return _Mention(start, end, place, rank)

    def _after_words(self, end: int, place: int) -> int:
        """The end of a label with the words of its option, if they follow."""
        words = self._own_words[place].match(self._text, end)
        return words.end() if words else end

    def _rank(self, match: re.Match[str]) -> _Rank | None:
        """How clear a label is as it is written; ``None`` if it is a word: "a dog", "I think", "B vitamins"."""
        text, (start, end), label = self._text, match.span(), match["label"]
        before, after = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
        leading = start < _NEAR and not before.strip("\"'([ \t") and not self._is_list(text, label)
        clear = _Rank.STATED if leading or _THEREFORE.search(before) else _Rank.LABEL
        surely = label.isdecimal() or (label.isupper() and label not in "AI")
        if before.endswith(("(", "[")) and after.startswith((")", "]")):
            alone = not re.search(r"[A-Za-z0-9_(]\Z", before[:-1])
            return clear if alone else None
        if _BEFORE.search(text, max(0, start - _NEAR), start) or _NAMED.search(before):
            return _Rank.LABEL if surely or _END.match(after) else None
        at_line_start = _LINE_START.search(before) is not None
        line = before.rpartition("\n")[2]
        if after.startswith((")", "]")) and line.count("(") + line.count("[") == line.count(")") + line.count("]"):
            return clear if leading or at_line_start or surely else None
        if at_line_start and (label.isupper() or label.isdecimal()) and _SEPARATOR.match(after):
            alone = re.match(r"[ \t.:]*(?:\n|$)", after) is not None
            return _Rank.STATED if alone else clear
        return self._bare_rank(match) if label.isupper() else None

    def _bare_rank(self, match: re.Match[str]) -> _Rank | None:
        """How clear a capital without brackets within a sentence is as a label."""
        label, (start, end) = match["label"], match.span()
        before, after = self._text[max(0, start - _NEAR) : start], self._text[end : end + _NEAR]
        linked = _LINKS.search(before) is not None
        said = _AFTER.match(after) or (_REFUTED.match(after) and label != "I")
        own_words = self._after_words(end, ord(label) - ord("A")) > end
        if linked and ((label != "I" and _END.match(after)) or own_words or said):
            return _Rank.STATED if _THEREFORE.search(before) else _Rank.LABEL
        return _Rank.LAST if label != "I" and _SENTENCE_END.match(after) else None

    @staticmethod
    def _is_list(text: str, label: str) -> bool:
        """Whether a reply that begins with the first label goes on with the second one, on a line of its own."""
        return label in "Aa1" and re.search(r"\n[ \t]*[(\[]?(?:[Bb]|2)[)\].:]", text) is not None

    def _is_denied(self, mention: _Mention) -> bool:
        """Whether the clause of a mention denies it, or what follows says that it is wrong."""
        text, by_words = self._text, mention.rank >= _Rank.WORDS or not self._is_label(mention)
        after = self._after_words(mention.end, mention.place)
        refuted = _REFUTED.match(text, after, after + _NEAR)
        if refuted and not (self._denying and (refuted["wrong"] or not (refuted["what"] or "").strip(" aethn"))):
            return True
        before = text[max(0, mention.start - _NEAR) : mention.start]
        if _EXCEPTED.search(before):
            return True
        if self._denying and by_words:
            return False
        boundaries = [match.end() for match in _CLAUSE.finditer(before)]
        clause = boundaries[-1] if boundaries else 0
        denials = [*_DENIAL.finditer(before, clause)]
        if not self._denying:
            denials += _WRONG.finditer(before, clause)
        offset = mention.start - len(before)
        # A denial that is part of an option, "No" or "not blue", denies none.
        denials = [match for match in denials if not self._mentioned[match.start() + offset]]
        return bool(denials) and not self._resumed(before[max(match.end() for match in denials) :])

    def _is_label(self, mention: _Mention) -> bool:
        return (
            mention.end - mention.start <= 2
            and _place(self._text[mention.start : mention.end], self._options, self._numbered) == mention.place
        )

    @staticmethod
    def _resumed(between: str) -> bool:
        """Whether the main clause goes on between a denial and a mention: "(not) shown in the video is" B."""
        resumed = _RESUMED.search(between)
        return resumed is not None and not _OF_CLAUSE.search(between[: resumed.end("subject")])

    def _alternatives(self, denied: set[_Mention]) -> set[_Mention]:
        """Mentions of several options that one another replace: "A or B", "(A), (B)"."""
        found: set[_Mention] = set()
        for one, other in pairwise(self._mentions):
            joined = _OR.match(self._text[one.end : other.start])
            if not joined or one.place == other.place or {one, other} & denied:
                continue
            if joined["join"] != "," or (self._is_label(one) and self._is_label(other)):
                found |= {one, other}
        return found


def _whole_ones(mentions: Iterable[_Mention]) -> list[_Mention]:
    """Those that are not part of a longer one, in order."""
    whole: list[_Mention] = []
    longest: _Mention | None = None  # that reaches farthest of those which begin before
    for one in sorted(mentions, key=lambda mention: (mention.start, -mention.end)):
        if longest is None or one.end > longest.end:
            longest = one
        if one.end - one.start == longest.end - longest.start:
            whole.append(one)
    return whole
