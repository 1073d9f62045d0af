"""Write the pages that say what the code says: ``uv run python docs/generate.py``. A test fails when they are out of date."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sage_cli.cli import application
from sage_cli.cli.help import topics
from sage_cli.session.option import Option
from sage_cli.session.options import settable, taken_by
from sage_cli.store.catalogue import catalogue

DOCS = Path(__file__).parent
TOPICS = DOCS / "topics"
NOTE = "<!-- Written by docs/generate.py: change the code, or a topic in docs/topics, and run it again. -->\n\n"

# Variables that are no settings.
VARIABLES = {
    "SAGE_CONFIG": "the settings file",
    "SAGE_CACHE_DIR": "the cache folder",
    "SAGE_MODELS_DIR": "the models folder",
    "SAGE_LOG_FILE": "the log of questions and answers",
    "SAGE_API_KEY": "key of a served model",
    "OPENAI_API_KEY`, `OPENAI_BASE_URL": "key and address of `--model openai:NAME`",
    "SAGE_JUDGE_KEY": "key of a served judge",
    "SAGE_SEARCH_KEY": "key of a search service",
    "SAGE_WEB_ROBOTS": "`0` ignores `robots.txt`",
    "SAGE_WEB_MAX_AGE": "hours that a web result is used again",
    "HTTPS_PROXY`, `DDGS_PROXY": "proxies, see `sage help web`",
    "SSL_CERT_FILE": "certificate authorities to trust instead of the usual ones",
    "HF_HOME": "folder of the Hugging Face cache, for downloads",
    "HF_ENDPOINT": "address of another hub",
    "HF_TOKEN": "token for private and gated repositories",
    "HF_HUB_OFFLINE": "`1`: no downloads",
    "TMPDIR": "folder for temporary files",
    "NO_COLOR": "no colours",
    "VISUAL`, `EDITOR": "what `sage config edit` opens",
}


def pages() -> dict[Path, str]:
    """Every generated page, by where it belongs."""
    from docs.picture import PICTURES, run_picture

    found: dict[Path, str] = {PICTURES / "run.svg": run_picture()}
    group = application()
    for name in sorted(path.stem for path in TOPICS.glob("*.md")):
        found[DOCS / f"{name}.md"] = NOTE + (TOPICS / f"{name}.md").read_text(encoding="utf-8").rstrip() + _appendix(name) + "\n"
    commands: Mapping[str, Any] = group.commands
    for name, command in commands.items():
        variables = {one.name: one.variable for one in taken_by(name) if one.setting}
        found[DOCS / "reference" / f"{name}.md"] = NOTE + "\n\n".join(_command(f"sage {name}", command, variables)) + "\n"
    index = [
        "# Reference",
        "Every command with all its options, as `--help` shows them.",
        _table(("command", ""), [(f"[`sage {name}`]({name}.md)", _first(command)) for name, command in commands.items()]),
        "Beyond commands: " + ", ".join(f"[{title.lower()}](../{name}.md)" for name, title in topics().items()) + ".",
    ]
    found[DOCS / "reference" / "README.md"] = NOTE + "\n\n".join(index) + "\n"
    return found


def _appendix(topic: str) -> str:
    if topic == "config":
        rows = [(f"`{key}`", f"`{one.variable}`", one.default_text or _default(one), one.help) for key, one in settable().items()]
        others = [(f"`{name}`", about) for name, about in VARIABLES.items()]
        return (
            "\n\n## All settings\n\n"
            + _table(("setting", "variable", "default", ""), rows)
            + "\n\n## Other variables\n\n"
            + _table(("variable", "sets"), others)
        )
    if topic == "models":
        rows = [
            (f"`{entry.name}`", _size(entry.size), ", ".join(f"`{name}`" for name in entry.repositories) or "searched", entry.about)
            for entry in catalogue().values()
        ]
        return "\n\n## The catalogue\n\n" + _table(("name", "download", "from", ""), rows)
    return ""


def _command(path: str, command: Any, variables: Mapping[str, str]) -> list[str]:
    blocks = [f"# {path}", _plain(command.help or "")]
    children = getattr(command, "commands", {})
    options = [option for option in command.params if option.name != "help"]
    if not children:
        arguments = " ".join(option.metavar or option.name.upper() for option in options if option.param_type_name == "argument")
        flags = " [OPTIONS]" if any(option.param_type_name == "option" for option in options) else ""
        blocks.append(f"```\n{path}{flags} {arguments}".rstrip() + "\n```")
    if options:
        rows = [
            (_names(option), f"`{variables[option.name]}`" if option.name in variables else "", _plain(option.help or ""))
            for option in options
        ]
        blocks.append(
            _table(("option", "variable", ""), rows) if any(row[1] for row in rows) else _table(("option", ""), [row[::2] for row in rows])
        )
    if command.epilog and not children:
        blocks.append(
            "```sh\n" + "\n".join(line.strip() for line in _plain(command.epilog).splitlines() if line.strip() != "Examples") + "\n```"
        )
    for name, child in children.items():
        blocks += [re.sub(r"^#", "##", block) for block in _command(f"{path} {name}", child, {})]
    return blocks


def _names(option: Any) -> str:
    if option.param_type_name == "argument":
        return f"`{option.metavar or option.name.upper()}`"
    kinds = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH"}
    choices = getattr(option.type_descriptor, "choices", None)
    value = option.metavar or (
        "|".join(map(str, choices)) if choices else kinds.get(getattr(option.type_descriptor.annotation, "__name__", ""), "")
    )
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    return names if option.is_flag or not value else f"{names} `{value}`"


def _first(command: Any) -> str:
    return _plain(command.help or "").partition("\n")[0]


def _plain(text: str) -> str:
    """Without the markup that colours it on a terminal."""
    return re.sub(r"\[/?(?:bold|dim)?\]", "", text).replace("\\[", "[").strip()


def _default(one: Option) -> str:
    return "off" if one.default is False else "none"


def _size(size: int) -> str:
    return "" if not size else f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in line)} |" for line in lines)


def main() -> None:
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(DOCS.parent))
    main()
