"""Select the files of a model in a repository. Repositories follow conventions, not rules; these are the conventions.

The language model is one ``.gguf`` for each quantization, its name ending in it (``Qwen3VL-4B-Instruct-Q4_K_M.gguf``,
``SAGE-MM.i1-Q4_K_M.gguf``), or several files of it (``...-00001-of-00002.gguf``), perhaps in a folder; the vision encoder has ``mmproj``
somewhere in its name; ``imatrix`` files are by-products. Whisper repositories hold many models, one file each.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from sage_cli.errors import ModelError
from sage_cli.store.models import SHARD, mmproj_rank, named_mmproj

# The automatic choice: careful four-bit quantizations lose little; then the nearest in quality for their size.
PREFERENCE: Final = (
    *("Q4_K_M", "UD-Q4_K_XL", "Q4_K_L", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_1", "Q4_0", "Q5_K_M", "UD-Q5_K_XL", "Q5_K_S", "Q5_1", "Q5_0"),
    *("Q6_K", "UD-Q6_K_XL", "Q8_0", "Q3_K_L", "UD-Q3_K_XL", "Q3_K_M", "IQ3_M", "IQ3_S", "Q3_K_S", "IQ3_XS", "IQ3_XXS"),
    *("Q2_K_L", "UD-Q2_K_XL", "Q2_K", "IQ2_M", "BF16", "F16", "F32"),
)

_QUANTIZATION = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q\d[A-Z\d]*(?:_[A-Z\d]+)*|BF16|F16|F32|MXFP4))(?=$|[-._])", re.IGNORECASE)
_BY_PRODUCTS = ("imatrix", "mtp-", "draft")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: in the repository.
        size: in bytes.
        sha256: of its content, in hexadecimal digits; ``None`` if the Hub does not give it.
    """

    path: str
    size: int
    sha256: str | None

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of a model.

    Attributes:
        files: all of them, the language model's first shard first.
        quantization: of the language model, ``""`` if its name does not contain it.
        fits: whether they fit the memory they were selected for.
    """

    files: tuple[RemoteFile, ...]
    quantization: str
    fits: bool

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def quantization_of(stem: str) -> str:
    """``Q4_K_M`` of ``Qwen3VL-4B-Instruct-Q4_K_M``; ``""`` if there is none."""
    found = _QUANTIZATION.findall(SHARD.sub("", stem))
    return str(found[-1]).upper() if found else ""


def choose_vision(
    files: Iterable[RemoteFile], *, repository: str, quantization: str | None = None, preferred: str | None = None, room: int | None = None
) -> Choice:
    """Select the language model and the vision encoder in a repository.

    Args:
        repository: its name, for messages.
        quantization: the only acceptable one.
        preferred: taken if it exists and fits.
        room: bytes of memory for both files; ``None`` for any. If nothing fits, the smallest is taken.

    Raises:
        ModelError: a part is missing, or the quantization is.
    """
    ggufs = [file for file in files if file.path.lower().endswith(".gguf") and not any(word in file.name.lower() for word in _BY_PRODUCTS)]
    encoders = [file for file in ggufs if named_mmproj(file.name)]
    versions = _versions(file for file in ggufs if not named_mmproj(file.name))
    if not versions:
        raise ModelError(f"{repository} contains no GGUF language model: choose a repository of GGUF conversions")
    if not encoders:
        raise ModelError(
            f"{repository} holds no vision encoder (mmproj*.gguf): choose a repository that has both, "
            "or give the encoder of the same model to --mmproj"
        )
    any_text = PurePosixPath(next(iter(versions.values()))[0].path)
    encoder = min(encoders, key=lambda file: mmproj_rank(any_text, PurePosixPath(file.path)))
    label = _pick(versions, repository, quantization, preferred, None if room is None else room - encoder.size)
    text = versions[label]
    size = sum(file.size for file in text) + encoder.size
    return Choice((*text, encoder), label, room is None or size <= room)


def choose_single(files: Iterable[RemoteFile], match: str, *, repository: str, quantization: str | None = None) -> Choice:
    """The one file whose name is ``match``, then possibly a version and a quantization: the newest version, unquantized by default.

    Raises:
        ModelError: there is none.
    """
    pattern = re.compile(rf"{re.escape(match)}(?:-v(?P<version>[\d.]+))?(?:-(?P<quantization>q\d\w*))?\.bin")
    found = [(file, named) for file in files if (named := pattern.fullmatch(file.name))]
    wanted = [(file, named) for file, named in found if (named["quantization"] or "").lower() == (quantization or "").lower()]
    if not wanted:
        have = ", ".join(file.name for file, _ in found)
        raise ModelError(f"{repository} holds no {match}*.bin{f' as {quantization}: it has {have}' if have else ''}")
    newest, named = max(wanted, key=lambda pair: [int(number) for number in re.findall(r"\d+", pair[1]["version"] or "")])
    return Choice((newest,), (named["quantization"] or "").upper(), fits=True)


def _versions(files: Iterable[RemoteFile]) -> dict[str, tuple[RemoteFile, ...]]:
    """Whole language models by quantization, each as its shards in order. Of several models, the one with most versions."""
    models: dict[str, dict[str, dict[int, RemoteFile]]] = {}
    counts: dict[tuple[str, str], int] = {}
    for file in sorted(files, key=lambda file: file.path):
        shard = SHARD.search(file.stem)
        label = quantization_of(file.stem)
        model = SHARD.sub("", file.stem).upper().removesuffix(label).rstrip("-._")
        models.setdefault(model, {}).setdefault(label, {})[int(shard[1]) if shard else 1] = file
        counts[model, label] = int(shard[2]) if shard else 1
    whole = {
        model: {
            label: tuple(shards[number] for number in sorted(shards))
            for label, shards in versions.items()
            if len(shards) == counts[model, label]
        }
        for model, versions in models.items()
    }
    return max(whole.values(), key=len, default={})


def _pick(
    versions: dict[str, tuple[RemoteFile, ...]], repository: str, quantization: str | None, preferred: str | None, room: int | None
) -> str:
    sizes = {label: sum(file.size for file in shards) for label, shards in versions.items()}
    if quantization:
        if match := _same(quantization, versions):
            return match
        have = ", ".join(sorted(versions, key=sizes.__getitem__)) or "others"
        raise ModelError(f"{repository} has no {quantization}: it has {have}")
    fitting = [label for label in versions if room is None or sizes[label] <= room]
    if not fitting:
        return min(versions, key=sizes.__getitem__)
    if preferred and (match := _same(preferred, fitting)):
        return match
    order = {label: place for place, label in enumerate(PREFERENCE)}
    return min(fitting, key=lambda label: (order.get(label, len(order)), sizes[label]))


def _same(wanted: str, labels: Collection[str]) -> str | None:
    """``q4_k_m`` is ``Q4_K_M``, and ``Q4_K_XL`` is ``UD-Q4_K_XL`` where there is no other."""
    if (exact := wanted.upper()) in labels:
        return exact
    plain = exact.replace("-", "_").removeprefix("UD_")
    return next((label for label in labels if label.removeprefix("UD-") == plain), None)
