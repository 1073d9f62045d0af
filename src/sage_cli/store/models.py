"""Resolve ``--model`` to files on disk. Cheap: only headers are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from glob import escape
from hashlib import blake2b
from pathlib import Path, PurePath

from sage_cli.assets import NANO, Nano
from sage_cli.errors import ModelError, UsageError, reading
from sage_cli.store.content import fingerprint
from sage_cli.store.gguf import Value, check_text, check_vision, read_metadata
from sage_cli.store.paths import models_dir
from sage_cli.text import user_path

SPEECH_MAGIC = b"lmgg"  # "ggml" as whisper.cpp writes it: one little-endian 32-bit number

# Vision encoders are small and quantize badly: 16 bits first, then the smallest loss.
_PRECISIONS = ("f16", "bf16", "q8_0", "f32")
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


class NotInstalledError(ModelError):
    """A model that could be pulled.

    Attributes:
        name: in the catalogue, or ``hf:OWNER/REPO``; ``None`` if none was asked for.
    """

    def __init__(self, message: str, name: str | None = None) -> None:  # pickled, only the message is passed; the name is set after
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A vision-language model on disk.

    Attributes:
        text: the language model.
        mmproj: the vision encoder, as llama.cpp calls it.
        bundled: the nano model, if this is the bundled one, or one that its recipe made.
    """

    text: Path
    mmproj: Path
    bundled: Nano | None = None

    def fingerprints(self, *, remember: bool = True) -> list[str]:
        """Identities of the contents of both; ``remember`` as of :func:`fingerprint`.

        Raises:
            OSError: a file cannot be read.
        """
        return [weights_fingerprint(self.text, remember=remember), fingerprint(self.mmproj, remember=remember)]


def find_model(model: str | None, mmproj: Path | None = None) -> ModelFiles:
    """Find the two files of a model and check that they are a pair.

    Args:
        model: ``nano``, the bundled model; path of the language model's GGUF, path of a folder that holds both files, or a
            name in the models folder (a folder or a file, with or without ``.gguf``), as ``sage models pull`` gives them. ``None`` takes
            the only model in the models folder.
        mmproj: path of the vision encoder; ``None`` takes the best match beside the language model.

    Raises:
        NotInstalledError: it is not installed, but can be pulled.
        ModelError: something is missing, broken, ambiguous, or does not belong together.
    """
    if model == NANO.name:
        if mmproj is not None:
            read_encoder(mmproj)
        return ModelFiles(NANO.text, mmproj or NANO.mmproj, NANO)
    text = _find_text(model)
    metadata = read_metadata(text)
    architecture = metadata.get("general.architecture")
    if architecture == "clip":
        raise ModelError(
            f"{text} is a vision encoder (mmproj), not a language model: give the language model to --model and this to --mmproj"
        )
    check_text(text, metadata)
    if mmproj is None:
        mmproj = _mmproj_beside(text)
        if mmproj is None:
            raise ModelError(
                f"{text} is the language model alone, there is no mmproj*.gguf beside it: download the vision encoder of the same model "
                "and put it there, or give its path to --mmproj"
            )
    vision = read_encoder(mmproj)
    wanted, given = metadata.get(f"{architecture}.embedding_length"), vision.get("clip.vision.projection_dim")
    if None not in (wanted, given) and wanted != given:
        raise ModelError(
            f"{mmproj.name} does not belong to {text.name}: it makes embeddings of {given} numbers, the model takes {wanted}; "
            "give the mmproj of the same model and size"
        )
    return ModelFiles(text, mmproj, Nano(text.parent) if text.name == NANO.text.name else None)


def read_encoder(mmproj: Path) -> dict[str, Value]:
    """The metadata of a vision encoder.

    Raises:
        ModelError: it is missing, broken, or something else.
    """
    if not mmproj.is_file():
        raise ModelError(f"no such file: {mmproj} (--mmproj takes the path of the model's vision encoder)")
    metadata = read_metadata(mmproj)
    if metadata.get("general.architecture") != "clip":
        raise ModelError(f"{mmproj} is not a vision encoder (mmproj): give --mmproj the model's mmproj GGUF")
    check_vision(mmproj, metadata)
    return metadata


def is_language_model(path: Path) -> bool:
    """Whether a GGUF is one, by its name; of one split into shards, the first shard alone (llama.cpp finds the others)."""
    shard = SHARD.search(path.stem)
    return not named_mmproj(path.name) and (shard is None or int(shard[1]) == 1)


def visible(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder in order, except in hidden folders, which are unfinished."""
    paths = (path for path in folder.glob(pattern) if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in paths if path.is_file())


def shards(text: Path) -> list[Path]:
    """All files of a language model, given the first."""
    shard = SHARD.search(text.stem)
    return sorted(text.parent.glob(f"{escape(text.stem[: shard.start()])}-*-of-{shard[2]}.gguf")) if shard else [text]


def weights_fingerprint(text: Path, *, remember: bool = True) -> str:
    """Identity of the content of a language model, with all its shards.

    Raises:
        OSError: a file cannot be read.
    """
    every = [fingerprint(path, remember=remember) for path in shards(text)]
    return every[0] if len(every) == 1 else blake2b(" ".join(every).encode(), digest_size=12).hexdigest()


def find_speech_model(model: str | None) -> Path | None:
    """Find a Whisper model in whisper.cpp's format.

    Args:
        model: ``nano``, its path, or a name in the models folder (``ggml-base.en.bin`` or ``base.en``); ``None`` takes the largest
            ``ggml-*.bin`` there.

    Returns:
        Its path; ``None`` if none was named and none is installed: speech cannot be transcribed then.

    Raises:
        ModelError: there is none of this name, or it is something else.
    """
    if model == NANO.name:
        return NANO.speech
    folder = models_dir()
    found = [path for path in visible(folder, "**/ggml-*.bin") if "silero" not in path.name]
    if model is None:
        return max(found, key=lambda path: path.stat().st_size, default=None)
    plain = model.removeprefix("whisper-").removeprefix("ggml-").replace(":", "-").lower()
    paths = (user_path(model), folder / model, folder / f"{model}.bin", folder / f"ggml-{model}.bin")
    named = [path for path in paths if path.is_file()] + [path for path in found if path.stem.lower() == f"ggml-{plain}"]
    if not named:
        for name in model, f"whisper-{model}":
            _offer(name)
        raise _no_such(model, f"neither a file nor the name of a Whisper model (ggml-*.bin) in {folder}")
    with reading(named[0], ModelError), named[0].open("rb") as file:
        magic = file.read(4)
    if magic != SPEECH_MAGIC:
        raise ModelError(f"{named[0]} is not a Whisper model in whisper.cpp's format: give a ggml-*.bin file")
    return named[0]


# ---- the language model --------------------------------------------------------------------------------------------


def _find_text(model: str | None) -> Path:
    folder = models_dir()
    if model is None:
        found = _text_models(folder, "**/*.gguf")
        if not found:
            raise NotInstalledError(
                "no model: pull one ('sage models list' shows which), or give --model the path of a Qwen3-VL or Qwen2.5-VL GGUF "
                "with its mmproj beside it",
                None,
            )
        return _only(found, f"several models in {folder}", "choose one with --model, or set a default with 'sage models default NAME'")
    for path in (user_path(model), folder / model, folder / f"{model}.gguf"):
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return path
    if (pulled := _offer(model)) is not None and (folder / pulled).is_dir():
        return _in_folder(folder / pulled)
    raise _no_such(model, f"neither a file or folder nor a name in {folder}")


def _no_such(model: str, problem: str) -> ModelError:
    from sage_cli.store.catalogue import other_names

    return ModelError(f"no such model: {model} is {problem}; {other_names(model)}")


def _offer(model: str, *, gone: bool = False) -> str | None:
    """The folder of a model that ``sage models pull`` can install under a name; ``None`` for other names.

    Args:
        gone: the folder exists, but not the files it links to.

    Raises:
        NotInstalledError: it is not installed, or its files are gone.
    """
    from sage_cli.store.catalogue import parse

    try:
        reference = parse(model)
    except (UsageError, ModelError):
        return None
    if gone or not (models_dir() / reference.name).is_dir():
        problem = f"the files of {model} are gone from the hub's cache" if gone else f"{model} is not installed"
        raise NotInstalledError(f"{problem}: run 'sage models pull {model}'", model)
    return reference.name


def _in_folder(folder: Path) -> Path:
    found = _text_models(folder, "*.gguf")
    if not found and any(path.is_symlink() for path in folder.glob("*.gguf")):
        _offer(folder.name, gone=True)
        raise ModelError(f"the files of {folder.name} are gone from the hub's cache: pull it again ('sage help models')")
    if not found:
        raise ModelError(f"no language model in {folder}: a model is a GGUF file and its mmproj GGUF")
    return _only(found, f"several language models in {folder}", "give --model the path of one")


def _text_models(folder: Path, pattern: str) -> list[Path]:
    return [path for path in visible(folder, pattern) if is_language_model(path)]


def _only(found: list[Path], problem: str, remedy: str) -> Path:
    if len(found) > 1:
        raise ModelError(f"{problem} ({', '.join(path.name for path in found)}): {remedy}")
    return found[0]


# ---- the vision encoder --------------------------------------------------------------------------------------------


def named_mmproj(name: str) -> bool:
    """Whether a file is a vision encoder, by its name."""
    return "mmproj" in name.lower()


def mmproj_rank(text: PurePath, mmproj: PurePath) -> tuple[int, int, str]:
    """Rank of a vision encoder for a language model, lower is better: most words of the name in common, then the best precision."""
    words, others = _words(text), _words(mmproj)
    precision = next((place for place, name in enumerate(_PRECISIONS) if name in others), len(_PRECISIONS))
    return -len(words & others), precision, mmproj.name


def _mmproj_beside(text: Path) -> Path | None:
    """The best vision encoder in the model's folder."""
    found = [path for path in text.parent.glob("*.gguf") if named_mmproj(path.name)]
    return min(found, key=partial(mmproj_rank, text), default=None)


def _words(path: PurePath) -> set[str]:
    """``Qwen3-VL-4B-Instruct-Q8_0.gguf`` as words, without the precision of the language model, which says nothing about a match."""
    words = set(re.split(r"[-.\s]+", path.stem.lower())) - {"mmproj"}
    return words if named_mmproj(path.name) else words - set(_PRECISIONS)
