"""``sage cache``: what is kept between questions, and how much of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sage_cli.cli import console
from sage_cli.cli.complete import media_files
from sage_cli.errors import UsageError

if TYPE_CHECKING:
    from sage_cli.store.cache import Entry

# What sage_cli.store.cache.KINDS holds; spelled out because --help must not import it.
KindName = Literal["transcripts", "times", "embeddings", "prefixes", "web"]

app = typer.Typer(
    name="cache",
    help="Show and clear what is kept between questions.\n\nEverything in it can be made again: it is safe to clear at any time. "
    "Models are not in it: see 'sage models'.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage cache info
  sage cache clear --video talk.mp4
  sage cache prune --older-than 7
  sage cache limit '20 GiB'""",
)

Video = Annotated[
    str | None,
    typer.Option(
        "--video", metavar="FILE|NAME", help="Only what was made from this video.", show_default=False, autocompletion=media_files
    ),
]
Kind = Annotated[KindName | None, typer.Option("--kind", help="Only this kind.", show_default=False)]


@app.command()
def info(json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> int:
    """Show what is cached: by kind, and by video."""
    from sage_cli.store import cache_dir, config
    from sage_cli.store.cache import KINDS, entries, media_paths

    found, names, limit = entries(), media_paths(), int(config.current().cache_limit)
    kinds = [(kind.name, kind.about, [entry for entry in found if entry.kind == kind.name]) for kind in KINDS]
    videos = {media: [entry for entry in found if entry.media == media] for media in {entry.media for entry in found} - {""}}
    ordered = sorted(videos.items(), key=lambda video: -max(entry.used for entry in video[1]))
    if json:
        record = {
            "path": str(cache_dir()),
            "size": _total(found),
            "limit": limit,
            "kinds": [{"kind": name, "about": about, "entries": len(own), "size": _total(own)} for name, about, own in kinds],
            "videos": [
                {
                    "id": media,
                    "path": str(names[media]) if media in names else None,
                    "entries": len(own),
                    "size": _total(own),
                    "used": max(entry.used for entry in own),
                }
                for media, own in ordered
            ],
        }
        console.write(console.dumps(record))
        return 0
    console.write(f"{cache_dir()}: {_size(_total(found))} of {_size(limit)}")
    for name, about, own in kinds:
        console.write(f"{name:<12} {_size(_total(own)):>9}  {len(own):>5}  {about}")
    for media, own in ordered:
        label = names[media].name if media in names else media
        day = time.strftime("%Y-%m-%d", time.localtime(max(entry.used for entry in own)))
        console.write(console.neutral(f"{day:<12} {_size(_total(own)):>9}  {len(own):>5}  {label}"))
    return 0


@app.command()
def clear(kind: Kind = None, video: Video = None) -> int:
    """Throw away what is cached: everything, or one kind, or what belongs to one video."""
    from sage_cli.store.cache import entries, forget_media, remove

    media = _media(video) if video else None
    chosen = [entry for entry in entries() if kind in (None, entry.kind) and (media is None or entry.media == media)]
    freed = remove(chosen)
    forget_media(but={entry.media for entry in entries()})
    console.say(f"{_size(freed)} freed")
    return 0


@app.command()
def prune(
    older_than: Annotated[
        float,
        typer.Option("--older-than", min=0, metavar="DAYS", help="What was not used for so long goes. Default: 30.", show_default=False),
    ] = 30.0,
) -> int:
    """Throw away what was not used for long, what was left unfinished, and what is over the limit."""
    from sage_cli.store import config
    from sage_cli.store.cache import entries, forget_media, trim

    freed = trim(int(config.current().cache_limit), older_than=time.time() - older_than * 24 * 3600)
    forget_media(but={entry.media for entry in entries()})
    console.say(f"{_size(freed)} freed")
    return 0


@app.command()
def limit(
    size: Annotated[str | None, typer.Argument(metavar="[SIZE]", help="Such as '20 GiB'; 0 keeps nothing.", show_default=False)] = None,
) -> int:
    """Set how much the cache may hold, and throw away what is more; without SIZE, show it."""
    from sage_cli.store import config
    from sage_cli.store.cache import trim

    if size is None:
        console.write(_size(int(config.current().cache_limit)))
        return 0
    config.change("cache-limit", size)
    if freed := trim(int(config.current().cache_limit)):
        console.say(f"{_size(freed)} freed")
    return 0


@app.command()
def path() -> int:
    """Print where the cache is."""
    from sage_cli.store import cache_dir

    console.write(str(cache_dir()))
    return 0


def _media(video: str) -> str:
    """The content id of a video, given as a file, as the name of one that is there no more, or as the id itself."""
    from sage_cli.store.cache import entries, media_paths
    from sage_cli.store.content import fingerprint

    if Path(video).is_file():
        return fingerprint(Path(video))
    known = {entry.media for entry in entries()} - {""}
    names = {media: path for media, path in media_paths().items() if media in known}
    found = {media for media, path in names.items() if video in (path.name, str(path))} | (known & {video})
    if len(found) != 1:
        raise UsageError(
            f"{'nothing is' if not found else 'more than one video called this is'} cached: {video} ('sage cache info' shows all)"
        )
    return found.pop()


def _total(entries: list[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _size(size: int) -> str:
    """Binary units, as the limit is given in."""
    value, unit = float(size), "B"
    for unit in "B", "KiB", "MiB", "GiB":
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
