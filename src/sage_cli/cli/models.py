"""``sage models``: list, download, choose and remove models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.complete import installed_models, model_names
from sage_cli.cli.consent import Yes, confirm
from sage_cli.errors import ModelError, UsageError
from sage_cli.session.option import size_text

NANO = "nano"  # sage_cli.assets.NANO.name; not imported, so that --help stays quick
_FACTS = (
    *("name", "installed", "about", "kind", "size", "memory", "quantization", "architecture", "context", "fit", "damaged"),
    *("path", "files", "source", "checkpoint", "repositories"),
)

if TYPE_CHECKING:
    from pathlib import Path

    from sage_cli.store.catalogue import Reference
    from sage_cli.store.choose import RemoteFile
    from sage_cli.store.hub import Hub
    from sage_cli.store.install import Installed

app = typer.Typer(
    name="models",
    help="List, download and choose models.\n\nFiles are stored in the shared Hugging Face cache (HF_HOME); files that another program "
    "has downloaded are reused.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage models list
  sage models pull qwen3-vl-4b
  sage models pull hf:unsloth/Qwen3-VL-4B-Instruct-GGUF:Q8_0 --name big
  sage models pull whisper-base
  sage models default qwen3-vl-4b
  sage models info qwen3-vl-4b
  sage models path whisper-base
  sage models rm big --keep-files""",
)

AnyName = Annotated[str, typer.Argument(metavar="NAME", help="A model.", autocompletion=model_names)]
InstalledName = Annotated[str, typer.Argument(metavar="NAME", help="An installed model.", autocompletion=installed_models)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per model.")]
Offline = Annotated[
    bool,
    typer.Option("--offline", help="Make no connections; use the shared cache only."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]


@app.command(name="list")
def list_(json: Json = False) -> int:
    """List models: download size, memory use, status.

    STATUS is default, installed, bundled or damaged; for the others fits, slow (fits, but answers take minutes without a GPU) or too big.
    """
    from sage_cli import assets
    from sage_cli.cli.machine import entry_fit, installed_fit
    from sage_cli.model.devices import this_machine
    from sage_cli.session import load_options
    from sage_cli.store.catalogue import catalogue
    from sage_cli.store.install import installed

    machine, options = this_machine(), load_options()
    here = {model.name: model for model in installed()}
    rows: list[dict[str, Any]] = []
    for entry in catalogue().values():
        fit = entry_fit(entry, machine)
        fits = "no" if not fit.fits else "slow" if entry.slow and not machine.gpu else "yes"
        memory = fit.bytes if entry.size else 0
        rows.append(_row(entry.name, entry.kind, here.pop(entry.name, None), size=entry.size, memory=memory, fits=fits, about=entry.about))
    for model in here.values():
        memory, fits = 0, ""
        with suppress(ModelError):  # damaged, or no model that sage runs
            fit = installed_fit(model, machine)
            memory, fits = fit.bytes, "yes" if fit.fits else "no"
        rows.append(_row(model.name, model.kind, model, size=model.size, memory=memory, fits=fits, about=model.source))
    nano = _nano()
    rows.append(_row(nano.name, nano.kind, nano, size=nano.size, memory=0, fits="yes", about=assets.NANO.about))
    for row in rows:
        row["default"] = row["name"] in (options.model, options.speech_model)
    if json:
        for row in rows:
            console.write(console.dumps(row))
        return 0
    tables.table(
        ("NAME", "SIZE", "MEMORY", "STATUS", "ABOUT"),
        [(row["name"], _size(row["size"]), _size(row["memory"]), _status(row), row["about"]) for row in rows],
    )
    return 0


@app.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="As in qwen3-vl-4b, qwen3-vl-4b:Q8_0, hf:OWNER/REPO.",
            autocompletion=model_names,
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Install under this name.")] = None,
    update: Annotated[bool, typer.Option("--update", help="Download newer files of installed models.")] = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> int:
    """Download models.

    Lists the repository and selects the language model and its vision encoder, in a quantization that fits this machine. Verifies
    checksums. An interrupted download resumes when the command is run again.
    """
    from sage_cli.store.catalogue import parse
    from sage_cli.store.install import check_name, find

    if name is not None:
        if len(names) > 1:
            raise UsageError("--name works with one model only")
        check_name(name)
    for reference in [parse(text) for text in names]:  # a mistyped name is reported before anything is downloaded
        wanted = name or reference.name
        model = None if update else find(wanted)
        if model is None:
            model = _pull(wanted, reference, _hub(offline))
        else:
            console.note(f"{wanted} is already installed; --update checks for newer files")
        console.write_path(model.path)
    return 0


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Installed models.", autocompletion=installed_models)],
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Keep the files in the shared cache, for other programs.")] = False,
    yes: Yes = False,
) -> int:
    """Uninstall models and delete their files; asks first."""
    from sage_cli.session import settings
    from sage_cli.store.install import check_removable, find, remove

    models = [_installed(name) for name in dict.fromkeys(names)]
    if NANO in names:
        raise UsageError(f"{NANO} is part of the package and cannot be removed")
    for model in models:
        check_removable(model)
    what = ", ".join(f"{model.name} ({_size(model.size)})" for model in models)
    confirm(f"remove {what}{'' if keep_files else ' and delete the files'}", yes=yes)
    for model in models:
        try:
            freed = remove(model, keep_files=keep_files)
        finally:  # what is left of it may not be deleted
            defaults = {} if find(model.name) else settings.from_file()
            for key in ("model", "speech-model"):
                if defaults.get(key) == model.name:
                    settings.change(key, None)
        console.say(f"removed {model.name}, freed {_size(freed)}" if freed else f"removed {model.name}")
    return 0


@app.command()
def info(name: AnyName, json: Json = False) -> int:
    """Show a model's source, files and memory use on this machine; exit code 3 if its files are damaged."""
    from sage_cli import assets
    from sage_cli.cli.machine import entry_fit
    from sage_cli.model.devices import this_machine
    from sage_cli.session import load_options
    from sage_cli.session.models import Models
    from sage_cli.store.catalogue import catalogue, parse
    from sage_cli.store.gguf import read_metadata
    from sage_cli.store.models import named_mmproj

    model = _find(name)
    # Models of one's own have names that the catalogue does not know.
    entry = parse(name).entry if model is None else catalogue().get(model.name)
    facts: dict[str, Any] = dict.fromkeys(_FACTS)  # in every state the same, so that programs find them
    facts |= {"name": model.name if model else parse(name).name, "installed": model is not None, "files": [], "repositories": []}
    if name == NANO:
        facts["about"] = assets.NANO.about
    if entry:
        facts |= {"kind": entry.kind, "about": entry.about, "checkpoint": entry.checkpoint, "repositories": list(entry.repositories)}
    if entry and entry.size:
        fit = entry_fit(entry, this_machine())
        facts |= {"size": entry.size, "memory": fit.bytes, "fit": fit.text if entry.kind == "vision" else None}
    if model is not None:
        facts |= {"kind": model.kind, "size": model.size, "quantization": model.quantization, "source": model.source or None}
        facts |= {"path": str(model.path), "files": [str(path) for path in model.files], "fit": None}
        facts["damaged"] = damage = model.damage or _cut_short(model)
        encoder = next((path for path in model.files if named_mmproj(path.name)), None)
        if model.kind == "vision" and encoder and not damage:
            header = read_metadata(model.path)
            facts["architecture"] = header.get("general.architecture")
            facts["context"] = header.get(f"{facts['architecture']}.context_length")
            with suppress(ModelError, UsageError):  # no run can use it, or none begins
                plan = Models(replace(load_options(), model=str(model.path), mmproj=encoder)).plan
                facts |= {"memory": plan.bytes, "fit": plan.text}
    status = ModelError.exit_code if facts["damaged"] else 0
    if json:
        console.write(console.dumps(facts))
        return status
    lines = []
    for key, value in facts.items():
        text = "yes" if value is True else "no" if value is False else _size(value) if key in ("size", "memory") and value else value
        values = [str(line) for line in (text if isinstance(text, list) else [text]) if line not in ("", None)]
        if key == "path":  # the first of its files
            continue
        lines += [("" if number else key, line) for number, line in enumerate(values)]
    tables.facts(lines)
    return status


@app.command()
def path(name: InstalledName) -> int:
    """Print the path of an installed model's main file, for scripts."""
    console.write_path(_installed(name).path)
    return 0


@app.command()
def default(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="An installed model.", autocompletion=installed_models)] = None,
) -> int:
    """Set the default model; without NAME, show the defaults."""
    from sage_cli.cli.config import warn_if_overridden
    from sage_cli.session import load_options, settings

    if name is None:
        options = load_options()
        tables.facts([("model", options.model or _automatic("vision")), ("speech-model", options.speech_model or _automatic("speech"))])
        return 0
    model = _installed(name)
    key = "model" if model.kind == "vision" else "speech-model"
    settings.change(key, model.name)
    warn_if_overridden(key)
    return 0


# ---- downloading ---------------------------------------------------------------------------------------------------


def download(names: list[str]) -> list[str]:
    """Download and install models; return the names they are installed under."""
    from sage_cli.store.catalogue import parse

    references, hub = [parse(name) for name in names], _hub(offline=False)
    return [_pull(reference.name, reference, hub).name for reference in references]


def _hub(offline: bool) -> Hub:
    from sage_cli.session import load_options
    from sage_cli.store.hub import Hub

    return Hub(offline=offline or load_options().offline)


def _pull(name: str, reference: Reference, hub: Hub) -> Installed:
    from sage_cli.cli.interrupts import resumable
    from sage_cli.cli.machine import rooms
    from sage_cli.model.devices import this_machine
    from sage_cli.session import load_options, settings
    from sage_cli.store.install import install, plan

    kv = reference.entry.kv if reference.entry else 0
    planned = plan(reference, hub, rooms=rooms(kv, this_machine()), preferred=load_options().quantization)
    choice = planned.choice
    quantization = f", {choice.quantization}" if choice.quantization else ""
    console.note(f"{name}: {_size(choice.size)} from {planned.listing.repository}{quantization}")
    if not choice.fits:
        console.note("this model needs more memory than this machine has: it may not load")
    with resumable(), _bars() as told:
        model = install(planned, hub, told, name=name)
    if model.kind == "vision" and load_options().model is None:
        settings.change("model", model.name)
        console.note(f"{model.name} is now the default model; change it with 'sage models default NAME'")
    return model


@contextmanager
def _bars() -> Iterator[Callable[[RemoteFile], Callable[[int], None]]]:
    """A progress bar per file on a terminal, a line per file elsewhere."""
    if not console.shows_progress():

        def line(file: RemoteFile) -> Callable[[int], None]:
            console.note(f"{file.name} ({_size(file.size)})")
            return lambda _done: None

        yield line
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from sage_cli.cli.bars import bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with bars(*columns, transient=False) as progress:

        def bar(file: RemoteFile) -> Callable[[int], None]:
            task = progress.add_task(console.neutral(file.name), total=file.size)
            return lambda done: progress.update(task, completed=done)

        yield bar


# ---- helpers -------------------------------------------------------------------------------------------------------


def _nano() -> Installed:
    """The bundled model, in the form of an installed one."""
    from sage_cli import assets
    from sage_cli.store.install import Installed

    paths = (assets.NANO.text, assets.NANO.mmproj)
    return Installed(NANO, "vision", paths, "", sum(path.stat().st_size for path in paths))


def _find(name: str) -> Installed | None:
    """The installed model of a name, or the one that ``--model`` or ``--speech-model`` takes by it: ``base.en`` for ggml-base.en.bin."""
    from sage_cli.store import find_model, find_speech_model
    from sage_cli.store.install import find, installed

    if name == NANO or (model := find(name)) is not None:
        return _nano() if name == NANO else model
    taken: list[Path | None] = []
    with suppress(ModelError):
        taken.append(find_model(name).text)
    with suppress(ModelError):
        taken.append(find_speech_model(name))
    return next((model for model in installed() if model.path in taken), None)


def _installed(name: str) -> Installed:
    from sage_cli.store.catalogue import parse
    from sage_cli.store.install import installed

    if (model := _find(name)) is not None:
        return model
    names = ", ".join(model.name for model in installed()) or "none"
    try:
        parse(name)
        advice = f"install it with 'sage models pull {name}'"
    except (UsageError, ModelError):
        advice = "'sage models list' shows all"
    raise ModelError(f"{name} is not installed (installed: {names}); {advice}")


def _cut_short(model: Installed) -> str | None:
    """What is wrong with the files beyond their headers, if anything is."""
    from sage_cli.speech.ggml import check_whisper
    from sage_cli.store.gguf import read_tensors

    try:
        for path in model.files:
            (read_tensors if path.suffix == ".gguf" else check_whisper)(path)
    except ModelError as error:
        return str(error)
    return None


def _automatic(kind: str) -> str:
    """The model that is used when no default is set."""
    from sage_cli.session import load_options
    from sage_cli.session.models import Models
    from sage_cli.store.install import installed

    if kind == "speech":
        found = Models(load_options()).speech_file
        named = next((model.name for model in installed() if model.path == found), None)
        return f"{named} (the largest installed)" if named else f"{found.name} (of the default model)" if found else "none installed"
    models = [model for model in installed() if model.kind == kind]
    if not models:
        return "none installed"
    return f"{models[0].name} (the only one installed)" if len(models) == 1 else f"not set ({len(models)} are installed)"


def _row(name: str, kind: str, model: Installed | None, *, size: int, memory: int, fits: str, about: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "about": about,
        "installed": model is not None,
        "quantization": model.quantization if model else None,
        "damaged": model is not None and model.damage is not None,
        "size": model.size if model else size,
        "memory": memory,
        "fits": fits,
        "path": str(model.path) if model else None,
    }


def _status(row: dict[str, Any]) -> str:
    fits = {"yes": "fits", "slow": "slow", "no": "too big", "": ""}[row["fits"]]
    if not row["installed"]:
        return fits
    if row["damaged"]:
        return "damaged"
    state = "default" if row["default"] else "bundled" if row["name"] == NANO else f"installed {row['quantization'] or ''}".rstrip()
    return state if fits in ("fits", "") else f"{state}, {fits}"


def _size(size: int) -> str:
    """Decimal units, as on the hub; empty if unknown."""
    return size_text(size) if size else ""
