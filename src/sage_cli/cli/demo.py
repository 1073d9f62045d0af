"""``sage demo``: three questions about three bundled clips, offline, with the bundled model."""

from __future__ import annotations

from typing import NamedTuple

from sage_cli.cli import console
from sage_cli.cli.options import check_forms, takes
from sage_cli.errors import EXIT_NO_ANSWER
from sage_cli.session.options import Options

EXAMPLES = """[bold]Examples[/]
  sage demo
  sage demo --jsonl | jq -r 'select(.type == "answer") | .answer'"""


class Scene(NamedTuple):
    """One question of the demo."""

    title: str
    clip: str
    question: str


SCENES = (
    Scene("answered at first look", "short.mp4", "Which shape appears last?"),
    Scene("answered from speech", "speech.mp4", "Which number is spoken?"),
    Scene("found in a moment that the first look missed", "long.mp4", "What appears between 07:43 and 07:50?"),
)


@takes("demo")
def demo(options: Options) -> int:
    """Answer three questions about three bundled clips.

    One at first look, one from speech, one on a second look. Nothing is downloaded. The bundled model, nano, knows coloured shapes and
    a few spoken words only.
    """
    check_forms(options)
    console.need_stdout()
    from sage_cli.assets import CLIPS, NANO
    from sage_cli.cli.opening import introduce
    from sage_cli.cli.renderers import follow, renderer
    from sage_cli.session import Session

    # Independent of the user's settings, and computed each time.
    own = Options(model=NANO.name, threads=options.threads, verbose=options.verbose, cache_limit=0)
    answered = []
    with Session(own) as session, renderer(options, several=True) as view:
        introduce(session)
        for number, scene in enumerate(SCENES, start=1):
            console.note(f"{number} of {len(SCENES)}, {scene.title}: {scene.clip}")
            answered.append(follow(session.ask(CLIPS / scene.clip, scene.question), view))
    return 0 if all(answered) else EXIT_NO_ANSWER
