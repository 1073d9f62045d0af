"""``--web=ask``: somebody at the terminal decides what may leave the machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sage_cli.cli import console

if TYPE_CHECKING:
    from sage_cli.agent.events import WebRequested


class Consent:
    """Asks on stderr, hears on stdin. ``a`` says yes to the rest of the command; anything but a yes is a no.

    Not asked about: a host's rules for robots, which are read for a page that was just agreed to, and redirects that stay on its host.
    """

    def __init__(self) -> None:
        self._all = False
        self._host = ""

    def __call__(self, request: WebRequested) -> bool:
        if self._all or (request.purpose in ("robots", "redirect") and request.host == self._host):
            return True
        print(f"sage: {' '.join(console.neutral(request.line).split())}? [y]es, [n]o, [a]ll: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline().strip().lower()
        self._all = answer in ("a", "all")
        allowed = self._all or answer in ("y", "yes")
        self._host = request.host if allowed else ""
        return allowed
