"""Run the instructions of the Dockerfile one by one in copies of a fresh Debian root, where there is no Docker daemon.

    debootstrap --variant=minbase bookworm WORK/base
    python .ci/image.py WORK -- help
    python .ci/image.py WORK -- demo

Needs root on Linux. WORK/base must be able to reach the package indexes: copy ``/etc/resolv.conf`` there, and a certificate
of your own to a path that no package owns, as in ``--env PIP_CERT=/etc/index-ca.crt``.
The words after ``--`` go to the image's entry point, which runs as the image's user.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile: name and arguments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        yield name.upper(), rest.strip()


@dataclass
class Stage:
    """A root under construction, and how its commands are run."""

    root: Path
    variables: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    entry: tuple[str, ...] = ()

    def expand(self, text: str) -> str:
        return re.sub(r"\$\{?(\w+)\}?", lambda match: self.variables.get(match[1], ""), text)

    def run(self, command: str) -> None:
        """A shell command in the root, with processes and devices of its own."""
        inside = f"mount --bind /dev {self.root}/dev && exec chroot --userspec={self.user} {self.root} /usr/bin/env -i " + " ".join(
            shlex.quote(f"{name}={value}") for name, value in {"PATH": PATH, "HOME": f"/home/{self.user}", **self.variables}.items()
        )
        inside += f" sh -c {shlex.quote(f'cd {self.folder} && {command}')}"
        subprocess.run(["unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.root}/proc", "sh", "-c", inside], check=True)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


def checkout(target: Path) -> None:
    """The committed files, as ``COPY .`` takes them from a clean checkout."""
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "-C", SOURCE, "archive", "HEAD"], check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x", "-C", target], input=archive, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for every command")
    parser.usage = "%(prog)s [--env NAME=VALUE]... WORK [-- WORD...]"
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    words = sys.argv[len(own) + 2 :]  # for the entry point
    options = parser.parse_args(own)
    work: Path = options.work.resolve()
    stages: dict[str, Stage] = {}
    given: dict[str, str] = {}
    stage: Stage | None = None
    for name, rest in instructions((SOURCE / "Dockerfile").read_text(encoding="utf-8")):
        began = time.monotonic()
        print(f"==> {name} {rest}", flush=True)
        if name == "FROM":
            label = rest.split()[-1] if " AS " in rest else "final"
            shutil.rmtree(work / label, ignore_errors=True)
            copy(work / "base", work / label)
            stage = stages[label] = Stage(work / label, dict(one.split("=", 1) for one in options.env))
        elif name == "ARG":
            key, _, value = rest.partition("=")
            (stage.variables if stage else given)[key] = value.strip('"')
        elif stage is None:
            raise SystemExit(f"{name} before FROM")
        elif name == "ENV":
            for pair in shlex.split(rest):
                key, _, value = pair.partition("=")
                stage.variables[key] = stage.expand(value) if key != "PATH" else value.replace("$PATH", PATH)
        elif name == "RUN":
            stage.run(rest)
        elif name == "COPY":
            *flags, source, target = rest.split()
            if flags:
                copy(stages[flags[0].removeprefix("--from=")].root / source.lstrip("/"), stage.root / target.lstrip("/"))
            else:
                checkout(stage.root / target.lstrip("/"))
        elif name == "USER":
            stage.user = rest
        elif name == "WORKDIR":
            stage.folder = rest
        elif name == "ENTRYPOINT":
            stage.entry = tuple(json.loads(rest))
        else:
            raise SystemExit(f"unknown instruction: {name}")
        print(f"    {time.monotonic() - began:.0f} s", flush=True)
    assert stage is not None
    size = sum(path.lstat().st_size for path in stage.root.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"==> the image: {size / 1e6:.0f} MB, run by {stage.user}", flush=True)
    if words:
        stage.run(shlex.join([*stage.entry, *words]))


if __name__ == "__main__":
    main()
