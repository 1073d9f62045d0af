"""``sage setup``: from a fresh installation to a first answer in one step."""

from __future__ import annotations

from typing import Annotated

import typer

from sage_cli.cli import console

EXAMPLES = """[bold]Examples[/]
  sage setup
  sage setup -y    # in a script: download without asking"""


def setup(yes: Annotated[bool, typer.Option("--yes", "-y", help="Download without asking.")] = False) -> int:
    """Install models that fit this machine.

    Selects a model for questions and one for speech, shows their sizes, and downloads them after a yes. Keeps installed models. Then checks
    the installation.
    """
    from sage_cli.cli.checks import Speeds, advise, check_setup, check_system
    from sage_cli.cli.machine import recommended
    from sage_cli.cli.offer import SPEECH, download_after_yes
    from sage_cli.session import load_options
    from sage_cli.session.models import require_network

    system = check_system()
    found = check_setup()
    if system.broken and not found.served:  # a model would be of no use
        raise system.broken[0]
    names = [*([] if found.model else [recommended(system.machine).name]), *([] if found.speech_model else [SPEECH])]
    if names:
        require_network(load_options(), f"downloading {' and '.join(names)}")
        download_after_yes(names, yes=yes)
        found = check_setup()
    console.say(f"questions: {found.model or found.model_problem}")
    console.say(f"speech: {found.speech_model or found.speech_problem}")
    for line in advise(system, found, Speeds()):
        console.say(line)
    console.say('ready: try sage ask VIDEO "What happens?"; sage doctor measures how fast it is')
    return 0
