"""Prompt packs: the texts that models read, as files a user can replace, and how each family of checkpoints replies and sees.

A *pack* is a folder of prompt texts (``context_vlm.txt`` and so on, see :data:`PLACEHOLDERS`), the descriptions of the tools
(``tools.jsonl``), and settings: key orders, sampling, frame sizes (``pack.toml``). One pack is for checkpoints trained for this agent, one
for general-purpose models, and one for the bundled nano models. A user's folder may replace any of these files.

The files and their ``<<<placeholders>>>`` are laid out as in the reference implementation of SAGE (``allenai/SAGE``), so a checkout of it
can serve as the folder: it then gives the system prompts that the SAGE-MM weights were trained on; see :mod:`sage_cli.prompts.reference`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import tomlkit
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError
from pydantic.dataclasses import dataclass
from tomlkit.exceptions import TOMLKitError

from sage_cli.assets import NANO
from sage_cli.errors import UsageError
from sage_cli.prompts.reference import reference_system, reference_tools
from sage_cli.text import read_unicode, user_path

# Every prompt file (less its .txt) and the placeholders it may use.
PLACEHOLDERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "context_vlm": frozenset({"tools", "video_path", "begin", "end"}),
        "context_vlm_msg": frozenset({"query", "video_info", "facts"}),
        "iterative_reasoner": frozenset({"tools"}),
        "iterative_reasoner_msg": frozenset({"previous_tool_call", "visual_context", "query", "video_info", "tools_so_far", "facts"}),
        "visual_temporal_grounding": frozenset({"event", "begin", "end"}),
        "analyze": frozenset(),
        "system": frozenset(),
        "direct": frozenset({"question"}),
        "chapter": frozenset({"media", "begin", "end", "told"}),
        "summary": frozenset({"media", "told"}),
        "structured": frozenset({"question", "answer", "schema"}),
        "second_look": frozenset(),
        "found": frozenset({"query", "answer"}),
        "confirm": frozenset({"query", "visual_context", "told"}),
        "unconfirmed": frozenset({"answer"}),
        "last_step": frozenset(),
        "language": frozenset({"told"}),
        "translation": frozenset({"language", "query"}),
        "no_sound": frozenset(),
        "no_speech": frozenset(),
    }
)
TRAINED: Final = "sage-mm"
GENERAL: Final = "general"
PACKS: Final = (TRAINED, GENERAL, NANO.name)

# Files that a pack may do without, and those that hold no instructions but results.
_OPTIONAL: Final = frozenset({"system.txt", "last_step.txt", "no_sound.txt", "no_speech.txt"})
_RESULTS: Final = frozenset({"no_sound.txt", "no_speech.txt"})

_TOOLS: Final = "tools.jsonl"
_STYLE: Final = "pack.toml"
# Where prompts are looked for below the given folder, which may be a checkout's root, `sage/prompts/sage`, or a folder between them. The
# last one found takes precedence.
_PLACES: Final = ("sage/prompts/sage", "sage/prompts", "prompts/sage", "prompts", "sage", "")
# The reference keeps the prompt of the paper's direct baseline with those for other models.
_DIRECT_PLACES: Final = ("sage/prompts/sampled_frames", "prompts/sampled_frames", "sampled_frames", "../sampled_frames")
_PLACEHOLDER: Final = re.compile("<<<(.*?)>>>")

K = TypeVar("K", bound=str)
Order: TypeAlias = tuple[K, ...]
Orders: TypeAlias = Annotated[tuple[Order[K], ...], Field(min_length=1)]
Given: TypeAlias = Literal["recommended_tools", "final_answer", "found"]
Call: TypeAlias = Literal["rationale", "name", "arguments"]
Sizes: TypeAlias = tuple[PositiveInt, PositiveInt]

_CHECKED: Final = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, config=_CHECKED)
class FrameStyle:
    """How the frames of a family of models are sampled and sized.

    Attributes:
        fps: frames per second, up to the frame limit; ``None``: always as many frames as the limit allows.
        reference: fewest and most pixels of a frame in the released configuration; ``None`` for the model's default. Larger frames are
            scaled down to it, smaller ones up.
        paper: the same in the paper.
        still: the same of an extracted frame that is looked at; ``None`` for that of the first look.
        shared: few frames that are looked at closely may be as large as stills, many share the pixels of a first look. Else stills are as
            large as the context allows, and windows and clips have the size of the first look.
    """

    fps: PositiveFloat | None = None
    reference: Sizes | None = None
    paper: Sizes | None = None
    still: Sizes | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, config=_CHECKED)
class Style:
    """How a family of checkpoints replies and sees. An order is one in which the keys of an object may come.

    Attributes:
        first, later: orders of the first reply and of later ones.
        answerable: order of the verdict in later replies.
        first_call, later_call: orders of a tool call in the first reply and in later ones.
        rationale: names of the key that gives the reason for a call.
        reason_beside_call: allow a reason against tools next to a call, as trained models sometimes write.
        answer_characters: maximum length of an answer.
        arguments_shown: show each result with the arguments of its call.
        transcript_entry_s: segments are merged into transcript entries of up to this many seconds; 0 to keep them.
        longest_name: bytes of the longest file name that the model can copy; a video with a longer one is ``video.mp4`` to it. 0: any.
        clock_names: name frames ``f1/00:45.jpg`` rather than ``f1/0045.jpg``.
        empty_media: allow ``analyze`` without media even if there is something to look at.
        whole_video: allow ``analyze`` to look at the video itself.
        clips_from_zero: time the frames of windows and clips from the window's start, as those of a file cut out of the video.
        timed_frames: write the time before each frame that is looked at closely.
        fix_units: take ``HH:MM:SS`` far past the end for ``MM:SS`` or for swapped fields; see :func:`sage_cli.timecode.repair`.
        notes: tell the model, too, how the times of its call were corrected.
        smallest_window_s: shortest useful window; a shorter one is widened to it.
        names_tools: tell the model the names of the tools where it calls one that there is not.
        second_look: after a first reply that says that nothing was shown or said, ask again for a call.
        confirm: before an answer after transcripts alone, ask whether they or the description hold it at all.
        whole_transcript_s: in videos up to this length, the first call of a run is a transcript, and transcripts cover the whole video.
        translates: translate a question that shares few words with a long transcript.
        frames: sampling and sizes by model family.
    """

    first: Orders[Literal["video_context", "query_intent"] | Given]
    later: Orders[Literal["answerable"] | Given]
    answerable: Order[Literal["verdict", "reasoning"]]
    first_call: Orders[Call]
    later_call: Orders[Call]
    rationale: Annotated[tuple[str, ...], Field(min_length=1)]
    reason_beside_call: bool = False
    transcript_entry_s: float
    clock_names: bool
    empty_media: bool
    whole_video: bool
    longest_name: int = 0
    clips_from_zero: bool = False
    timed_frames: bool = True
    answer_characters: int = 2000
    arguments_shown: bool = False
    fix_units: bool = True
    notes: bool = False
    smallest_window_s: float = 0.0
    names_tools: bool = False
    second_look: bool = False
    confirm: bool = False
    whole_transcript_s: float = 0.0
    translates: bool = True
    frames: Mapping[str, FrameStyle]

    def of_frames(self, family: str) -> FrameStyle:
        """Sampling and sizes for a model family; those of Qwen3-VL if the pack has none for it, the model's own if it has none at all."""
        return self.frames.get(family) or self.frames.get("qwen3-vl") or FrameStyle()


def pack_for(metadata: Mapping[str, object], name: str) -> str:
    """The pack for a model: ``sage-mm`` if the metadata of its GGUF or its file's name say that it was trained for this agent, else
    ``general``."""
    told = [str(value) for key, value in metadata.items() if key.startswith("general.") and isinstance(value, str)]
    return TRAINED if any(re.search(r"sage[-_ ]?mm", text, re.IGNORECASE) for text in [name, *told]) else GENERAL


class Prompts:
    """The prompt texts in force.

    Args:
        source: name of a pack, or a folder whose files replace those of a pack.
        pack: the pack that a folder's files replace; for a checkout of the reference always the one for trained checkpoints.

    Raises:
        UsageError: there is no such pack; the folder holds none of the files, or one of them cannot be used.
    """

    def __init__(self, source: str | Path = TRAINED, pack: str = TRAINED) -> None:
        folder = None if str(source) in PACKS else user_path(source)
        self.reference = reference_tools(folder) if folder else None
        chosen = str(source) if folder is None else TRAINED if self.reference else pack
        # Files that a pack lacks come from the first one, except those that a pack may do without.
        common = {name: text for name, text in _built_in(TRAINED).items() if name not in _OPTIONAL}
        self._texts = common | _built_in(chosen)
        if folder is not None and (system := reference_system(folder)) is not None:
            self._texts |= {"system.txt": system, "analyze.txt": system}
        if folder is not None:
            self._texts |= _given(folder)
        if self.reference is not None:
            self._texts[_TOOLS] = self.reference
        self.style = _style(self._texts[_STYLE], source)
        self.tools = _tools(self._texts[_TOOLS], source)

    def render(self, name: str, **values: str) -> str:
        """The prompt with its placeholders filled in; empty if the pack does without it. What is filled in is never searched for
        placeholders itself."""
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self._texts.get(f"{name}.txt", ""))

    def tool_lines(self, names: Sequence[str]) -> str:
        """The tools of these wire names for the system prompt, one JSON object a line. The same tools give the same bytes: they are part of
        every cached prefix."""
        return "\n".join(["<tools>", *(line for name, line in self.tools.items() if name in names), "</tools>"])

    @cached_property
    def digest(self) -> str:
        """Hash of all texts."""
        return hashlib.blake2b(json.dumps(self._texts, sort_keys=True).encode(), digest_size=12).hexdigest()

    @cached_property
    def instructions(self) -> str:
        """All texts that tell the model what to do, to detect answers that only repeat them."""
        return "\n".join(text for name, text in self._texts.items() if name.endswith(".txt") and name not in _RESULTS)


# ---- files ---------------------------------------------------------------------------------------------------------


def _built_in(pack: str) -> dict[str, str]:
    folder = NANO.prompts if pack == NANO.name else files(__name__) / "packs" / pack
    return {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.is_file()}


def _given(folder: Path) -> dict[str, str]:
    """The files of a user's folder that replace built-in ones."""
    wanted = (*(f"{name}.txt" for name in PLACEHOLDERS), _TOOLS, _STYLE)
    places = [(place, name) for place in _PLACES for name in wanted] + [(place, "direct.txt") for place in _DIRECT_PLACES]
    found = {name: path for place, name in places if (path := folder / place / name).is_file()}
    if not found:
        problem = "no prompt file in it" if folder.is_dir() else "no such pack or folder"
        raise UsageError(f"--prompts {folder}: {problem}; give {', '.join(PACKS)}, or a folder with one of {', '.join(wanted)}")
    texts = {}
    for name, path in found.items():
        try:
            texts[name] = read_unicode(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read as UTF-8 text ({error}); fix the file or leave it out") from error
        placeholders = PLACEHOLDERS.get(path.stem, frozenset())
        if path.suffix == ".txt" and (unknown := set(_PLACEHOLDER.findall(texts[name])) - placeholders):
            known = ", ".join(sorted(placeholders)) or "none"
            raise UsageError(f"{path}: unknown placeholder <<<{min(unknown)}>>>; known in this file: {known}")
    return texts


def _style(text: str, source: str | Path) -> Style:
    try:
        data: dict[str, Any] = tomlkit.parse(text).unwrap()
        return Style(**data["replies"], **data["tools"], frames=data["frames"])
    except (TOMLKitError, KeyError, TypeError, ValidationError) as error:
        reason: object = error
        if isinstance(error, ValidationError):
            wrong = error.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        known = ", ".join(field.name for field in fields(Style))
        problem = f"{_STYLE} cannot be used ({reason}); its tables replies, tools and frames hold {known}"
        raise UsageError(f"--prompts {source}: {problem}") from error


def _tools(text: str, source: str | Path) -> dict[str, str]:
    """The lines of a ``tools.jsonl`` by wire name, in order."""
    try:
        return {json.loads(line)["function"]["name"]: line for line in text.split("\n") if line.strip()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"--prompts {source}: {_TOOLS} cannot be used ({error}); it has one JSON object per tool and line") from error
