"""``sage models``: which there are, which fit, and getting them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import installed_models, model_names
from sage_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from sage_cli.store.catalogue import Entry, Reference
    from sage_cli.store.choose import RemoteFile
    from sage_cli.store.hub import Hub
    from sage_cli.store.install import Installed, Plan
    from sage_cli.store.models import NotInstalledError

app = typer.Typer(
    name="models",
    help="List, download and choose models.\n\nFiles lie in the cache that all Hugging Face programs share (HF_HOME); what others have "
    "downloaded is not downloaded again.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage models list
  sage models pull qwen3-vl-4b
  sage models pull hf:unsloth/Qwen3-VL-4B-Instruct-GGUF:Q8_0 --name big
  sage models pull whisper-base silero-vad
  sage models default qwen3-vl-4b""",
)

AnyName = Annotated[str, typer.Argument(metavar="NAME", help="A model.", show_default=False, autocompletion=model_names)]
InstalledName = Annotated[
    str, typer.Argument(metavar="NAME", help="An installed model.", show_default=False, autocompletion=installed_models)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a model.")]
Offline = Annotated[
    bool,
    typer.Option("--offline", envvar="SAGE_OFFLINE", show_envvar=False, help="Make no connection: use what the shared cache holds."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notices.")]


@app.command(name="list")
def list_(json: Json = False) -> int:
    """Show the models that have a name, what they need, and which are installed.

    FITS says whether a model fits this machine: yes, slow (it does, but without a GPU an answer takes minutes) or no.
    """
    from sage_cli.assets import NANO
    from sage_cli.cli.machine import entry_fit
    from sage_cli.model.devices import this_machine
    from sage_cli.store import config
    from sage_cli.store.catalogue import catalogue
    from sage_cli.store.install import installed

    machine, settings = this_machine(), config.current()
    here = {model.name: model for model in installed()}
    rows: list[dict[str, Any]] = []
    for entry in catalogue().values():
        fit = entry_fit(entry, machine)
        fits = "no" if not fit.fits else "slow" if entry.slow and not machine.gpu else "yes"
        memory = fit.bytes if entry.size else 0
        rows.append(_row(entry.name, entry.kind, here.pop(entry.name, None), size=entry.size, memory=memory, fits=fits, about=entry.about))
    rows += [_row(model.name, model.kind, model, size=model.size, memory=0, fits="", about=model.source) for model in here.values()]
    size = NANO.text.stat().st_size + NANO.mmproj.stat().st_size
    row = _row(NANO.name, "vision", None, size=size, memory=0, fits="yes", about="comes with the package, for demonstrations")
    rows.append(row | {"installed": True, "path": str(NANO.text)})
    for row in rows:
        row["default"] = row["name"] in (settings.model, settings.speech_model)
    if json:
        for row in rows:
            console.write(console.dumps(row))
        return 0
    table = [("NAME", "SIZE", "MEMORY", "FITS", "INSTALLED", "")]
    for row in rows:
        state = ("default " if row["default"] else "") + (row["quantization"] or "yes" if row["installed"] else "")
        table.append((row["name"], _size(row["size"]), _size(row["memory"]), row["fits"], state.strip(), row["about"]))
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        console.write(console.neutral(f"{'  '.join(cells)}  {line[-1]}".rstrip()))
    return 0


@app.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="A name from the list, or hf:OWNER/REPO; with :QUANTIZATION, that one, such as qwen3-vl-4b:Q8_0.",
            show_default=False,
            autocompletion=model_names,
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="What to call it.", show_default=False)] = None,
    update: Annotated[bool, typer.Option("--update", help="Look for newer files of what is installed.")] = False,
    offline: Offline = False,
    quiet: Quiet = False,
) -> int:
    """Download models.

    The repository is listed, and the language model, its vision encoder and all parts of them are chosen: in the quantization that loses
    little and fits this machine. Stopped half-way, the same command goes on where it stopped. Checksums are checked.
    """
    from sage_cli.store.catalogue import parse
    from sage_cli.store.install import find

    if name and len(names) > 1:
        raise UsageError("--name is for one model")
    for reference in [parse(text) for text in names]:  # a mistyped name is told before anything is downloaded
        wanted = name or reference.name
        model = None if update else find(wanted)
        if model is None:
            hub = _hub(offline)
            model = _pull(wanted, hub, _plan(reference, hub), quiet=quiet)
        elif not quiet:
            console.say(f"{wanted} is installed; --update looks for newer files")
        console.write(str(model.path))
    return 0


@app.command()
def rm(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="Installed models.", show_default=False, autocompletion=installed_models),
    ],
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave the files in the shared cache, for other programs.")] = False,
) -> int:
    """Uninstall models and delete their files."""
    from sage_cli.store import config
    from sage_cli.store.install import remove

    for model in [_installed(name) for name in names]:
        freed = remove(model, keep_files=keep_files)
        for key, value in config.from_file().items():
            if key in ("model", "speech-model") and value == model.name:
                config.change(key, None)
        console.say(f"{model.name} is gone, {_size(freed)} freed" if freed else f"{model.name} is gone")
    return 0


@app.command()
def info(name: AnyName, json: Json = False) -> int:
    """Show what a model is, where it comes from, and what it takes on this machine."""
    from sage_cli.cli.machine import entry_fit
    from sage_cli.model.devices import this_machine
    from sage_cli.store import ModelFiles
    from sage_cli.store.catalogue import parse
    from sage_cli.store.fit import Needs, fit
    from sage_cli.store.gguf import read_metadata
    from sage_cli.store.install import find

    model = find(name)
    entry = None if model and model.name != name else _entry(name)
    facts: dict[str, Any] = {"name": model.name if model else parse(name).name, "installed": model is not None}
    if entry:
        facts |= {"about": entry.about, "checkpoint": entry.checkpoint, "repositories": list(entry.repositories)}
    if model is not None:
        facts |= {"kind": model.kind, "size": model.size, "quantization": model.quantization, "source": model.source}
        facts["files"] = [str(path) for path in model.files]
        encoder = next((path for path in model.files if "mmproj" in path.name.lower()), None)
        if model.kind == "vision" and encoder:
            header = read_metadata(model.path)
            facts["architecture"] = header.get("general.architecture")
            facts["context"] = header.get(f"{facts['architecture']}.context_length")
            facts["fit"] = fit(Needs.of(ModelFiles(model.path, encoder)), this_machine()).text
    elif entry and entry.size:
        facts |= {"kind": entry.kind, "size": entry.size, "fit": entry_fit(entry, this_machine()).text}
    if json:
        console.write(console.dumps(facts))
        return 0
    for key, value in facts.items():
        text = "yes" if value is True else "no" if value is False else _size(value) if key == "size" else value
        for number, line in enumerate(text if isinstance(text, list) else [text]):
            if line not in ("", None):
                console.write(console.neutral(f"{'' if number else key:<13} {line}".rstrip()))
    return 0


@app.command()
def path(name: InstalledName) -> int:
    """Print the path of an installed model's main file, for scripts."""
    console.write(str(_installed(name).path))
    return 0


@app.command()
def default(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="An installed model.", show_default=False, autocompletion=installed_models)
    ] = None,
) -> int:
    """Choose the model that is used when none is named; without NAME, show which they are."""
    from sage_cli.store import config

    if name is None:
        settings = config.current()
        for key, value in ("model", settings.model), ("speech-model", settings.speech_model):
            console.write(f"{key:<13} {value or 'automatic: the only one, or the largest'}")
        return 0
    model = _installed(name)
    if model.kind == "pauses":
        raise UsageError(f"{name} is used wherever it is installed: there is nothing to choose")
    config.change("model" if model.kind == "vision" else "speech-model", model.name)
    return 0


# ---- the first run -------------------------------------------------------------------------------------------------


def offer(missing: NotInstalledError, *, offline: bool = False) -> str:
    """Ask once whether to download what is missing, and do so.

    Returns:
        Its name.

    Raises:
        ModelError: nobody can be asked, or the answer was no; the message names the command to run.
    """
    from sage_cli.cli.machine import recommended
    from sage_cli.model.devices import this_machine
    from sage_cli.store.catalogue import parse

    name = missing.name or recommended(this_machine()).name
    refusal = missing if missing.name else ModelError(f"no model: run 'sage models pull {name}', or give --model the path of a GGUF")
    if offline or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise refusal
    hub = _hub(offline)
    plan = _plan(parse(name), hub)
    about = plan.reference.entry.about if plan.reference.entry else plan.listing.repository
    console.say(f"no model is installed; what fits this machine is {name}: {about}" if not missing.name else f"{name}: {about}")
    size, place = _size(plan.choice.size), plan.listing.repository
    if not typer.confirm(f"sage: download {size} from {place}?", default=True, err=True):
        raise refusal
    return _pull(plan.reference.name, hub, plan, quiet=False).name


# ---- downloading ---------------------------------------------------------------------------------------------------


def _hub(offline: bool) -> Hub:
    from sage_cli.store import config
    from sage_cli.store.hub import Hub

    return Hub(offline=offline or config.current().offline)


def _plan(reference: Reference, hub: Hub) -> Plan:
    from sage_cli.cli.machine import rooms
    from sage_cli.model.devices import this_machine
    from sage_cli.store import config
    from sage_cli.store.install import plan

    kv = reference.entry.kv if reference.entry else 0
    return plan(reference, hub, rooms=rooms(kv, this_machine()), preferred=config.current().quantization)


def _pull(name: str, hub: Hub, plan: Plan, *, quiet: bool) -> Installed:
    from sage_cli.store import config
    from sage_cli.store.install import install

    if not quiet:
        quantization = f", {plan.choice.quantization}" if plan.choice.quantization else ""
        console.say(f"{name}: {_size(plan.choice.size)} from {plan.listing.repository}{quantization}")
        if not plan.choice.fits:
            console.say("this is more than the memory of this machine: it will hardly run")
    with _bars(quiet) as bars:
        try:
            model = install(plan, hub, bars, name=name)
        except KeyboardInterrupt:
            if not quiet:
                console.say("what has arrived is kept: the same command goes on from here")
            raise
    if model.kind == "vision" and config.current().model is None:
        config.change("model", model.name)
        if not quiet:
            console.say(f"{model.name} is the default model now: 'sage models default NAME' chooses another")
    return model


@contextmanager
def _bars(quiet: bool) -> Iterator[Callable[[RemoteFile], Callable[[int], None]]]:
    """A bar for each file, on a terminal; a line for each elsewhere."""
    if quiet or not sys.stderr.isatty():

        def line(file: RemoteFile) -> Callable[[int], None]:
            if not quiet:
                console.say(f"{file.name} ({_size(file.size)})")
            return lambda _done: None

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=True) as progress:

        def bar(file: RemoteFile) -> Callable[[int], None]:
            task = progress.add_task(console.neutral(file.name).replace("[", r"\["), total=file.size)
            return lambda done: progress.update(task, completed=done)

        yield bar


# ---- helpers -------------------------------------------------------------------------------------------------------


def _installed(name: str) -> Installed:
    from sage_cli.store.install import find, installed

    if (model := find(name)) is not None:
        return model
    names = ", ".join(model.name for model in installed()) or "none"
    raise ModelError(f"{name} is not installed (these are: {names}); 'sage models pull {name}' gets it")


def _entry(name: str) -> Entry | None:
    from sage_cli.store.catalogue import parse

    return parse(name).entry


def _row(name: str, kind: str, model: Installed | None, *, size: int, memory: int, fits: str, about: str) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "about": about,
        "installed": model is not None,
        "quantization": model.quantization if model else None,
        "size": model.size if model else size,
        "memory": memory,
        "fits": fits,
        "path": str(model.path) if model else None,
    }


def _size(size: int) -> str:
    """Decimal units, as the hub and disk makers use."""
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
