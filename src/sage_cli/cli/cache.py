"""``sage cache``: show, limit and clear the disk cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sage_cli.cli import console, tables
from sage_cli.cli.consent import Yes, confirm
from sage_cli.errors import UsageError
from sage_cli.session.option import size_text

if TYPE_CHECKING:
    from sage_cli.store.cache import Entry

# What sage_cli.store.cache.KINDS holds; spelled out because --help must not import it.
KindName = Literal["transcripts", "times", "damage", "embeddings", "prefixes", "summaries", "web", "links", "fingerprints", "speeds"]

app = typer.Typer(
    name="cache",
    help="Show, limit and clear the disk cache.\n\nEverything in it can be computed again, so it is safe to clear at any time. Models are "
    "stored elsewhere: see 'sage models'.",
    no_args_is_help=True,
    epilog="""[bold]Examples[/]
  sage cache info
  sage cache clear --video talk.mp4 --yes
  sage cache prune --older-than 7 --yes
  sage cache limit '20 GB' --yes
  sage cache path""",
)

Video = Annotated[
    str | None,
    typer.Option("--video", metavar="FILE|NAME", help="Only entries made from this video."),
]
Kind = Annotated[KindName | None, typer.Option("--kind", help="Only this kind.")]


@app.command()
def info(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> int:
    """Show the cache by kind and by video."""
    from sage_cli.session import load_options
    from sage_cli.store import cache_dir
    from sage_cli.store.cache import KINDS, entries, media_paths

    found, names, limit = entries(), media_paths(), int(load_options().cache_limit)
    by_kind, by_video = _grouped(found, "kind"), _grouped(found, "media")
    kinds = [(kind.name, kind.about, by_kind.get(kind.name, [])) for kind in KINDS]
    by_video.pop("", None)
    ordered = sorted(by_video.items(), key=lambda video: -max(entry.used for entry in video[1]))
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
    tables.facts([("folder", str(cache_dir())), ("size", f"{size_text(_total(found))} of at most {size_text(limit)}")])
    console.write("")
    tables.table(
        ("KIND", "SIZE", "ENTRIES", "CONTENTS"), [(name, size_text(_total(own)), str(len(own)), about) for name, about, own in kinds]
    )
    if ordered:
        rows = []
        for media, own in ordered:
            day = time.strftime("%Y-%m-%d", time.localtime(max(entry.used for entry in own)))
            rows.append((day, size_text(_total(own)), str(len(own)), names[media].name if media in names else media))
        console.write("")
        tables.table(("LAST USED", "SIZE", "ENTRIES", "VIDEO"), rows)
    return 0


@app.command()
def clear(kind: Kind = None, video: Video = None, yes: Yes = False) -> int:
    """Remove cached data: everything, one kind, or one video's."""
    from sage_cli.store.cache import KINDS, entries, forget_media, remove
    from sage_cli.store.files import total

    media = _media(video) if video else None
    chosen = [entry for entry in entries() if kind in (None, entry.kind) and (media is None or entry.media == media)]
    if media is not None:
        _confirm(chosen, yes)
        freed = remove(chosen)
    else:  # also what is damaged or unfinished, and not listed
        whole = [one for one in KINDS if kind in (None, one.name)]
        if files := [path for one in whole for path in one.files()]:
            what = _count(len(chosen), "cached entry", "cached entries") if chosen else _count(len(files), "file", "files")
            confirm(f"remove {what} ({size_text(total(files))})", yes=yes)
        freed = sum(one.reset() for one in whole)
    forget_media(but={entry.media for entry in entries()})
    console.say(f"freed {size_text(freed)}")
    return 0


@app.command()
def prune(
    older_than: Annotated[
        float,
        typer.Option("--older-than", min=0, metavar="DAYS", help="Remove entries unused for N days. Default: 30.", show_default=False),
    ] = 30.0,
    yes: Yes = False,
) -> int:
    """Remove old and unfinished entries, then the oldest ones above the limit."""
    from sage_cli.session import load_options
    from sage_cli.store.cache import entries, forget_media, surplus, trim

    limit, before = int(load_options().cache_limit), time.time() - older_than * 24 * 3600
    _confirm(surplus(limit, older_than=before), yes)
    freed = trim(limit, older_than=before)
    forget_media(but={entry.media for entry in entries()})
    console.say(f"freed {size_text(freed)}")
    return 0


@app.command()
def limit(
    size: Annotated[str | None, typer.Argument(metavar="[SIZE]", help="For example '20 GB'; 0 turns the cache off.")] = None,
    yes: Yes = False,
) -> int:
    """Set the cache's maximum size and remove the excess; without SIZE, show it."""
    from sage_cli.session import load_options, settings
    from sage_cli.store.cache import surplus, trim

    if size is None:
        console.write(size_text(int(load_options().cache_limit)))
        return 0
    wanted = int(load_options({"cache_limit": "cache-limit"}, cache_limit=size).cache_limit)
    _confirm(surplus(wanted), yes)
    settings.change("cache-limit", size)
    if freed := trim(wanted):
        console.say(f"freed {size_text(freed)}")
    return 0


@app.command()
def path() -> int:
    """Print the cache folder."""
    from sage_cli.store import cache_dir

    console.write_path(cache_dir())
    return 0


def _confirm(unwanted: list[Entry], yes: bool) -> None:
    """Ask before entries are removed, if there are any."""
    if unwanted:
        confirm(f"remove {_count(len(unwanted), 'cached entry', 'cached entries')} ({size_text(_total(unwanted))})", yes=yes)


def _media(video: str) -> str:
    """The fingerprint of a video: of an existing file, of one that was cached under this name or path, or given itself."""
    from sage_cli.store.cache import entries, media_paths
    from sage_cli.store.content import fingerprint

    if Path(video).is_file():
        return fingerprint(Path(video))
    known = {entry.media for entry in entries()} - {""}
    names = {media: path for media, path in media_paths().items() if media in known}
    found = {media for media, path in names.items() if video in (path.name, str(path))} | (known & {video})
    if len(found) != 1:
        raise UsageError(
            f"{'nothing is cached for' if not found else 'several cached videos have the name'} {video} (see 'sage cache info')"
        )
    return found.pop()


def _grouped(entries: list[Entry], by: Literal["kind", "media"]) -> dict[str, list[Entry]]:
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(getattr(entry, by), []).append(entry)
    return groups


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def _total(entries: list[Entry]) -> int:
    return sum(entry.size for entry in entries)
