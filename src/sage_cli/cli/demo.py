"""``sage demo``: three bundled clips, three questions, three horizons; offline, with a model made for nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from sage_cli.cli import console, nano
from sage_cli.cli.options import option, setting
from sage_cli.errors import EXIT_NO_ANSWER

if TYPE_CHECKING:
    from sage_cli.speech import Transcript
    from sage_cli.video import Video

EXAMPLES = """[bold]Examples[/]
  sage demo
  sage demo --jsonl | jq -r 'select(.type == "answer") | .answer'"""


class Scene(NamedTuple):
    """One act of the demonstration."""

    title: str
    clip: str
    question: str


SCENES = (
    Scene("answered at first look", "short.mp4", "Which shape appears last?"),
    Scene("answered from speech", "speech.mp4", "Which number is spoken?"),
    Scene("found in a moment that the first look missed", "long.mp4", "What appears between 07:43 and 07:50?"),
)


def demo(
    threads: Annotated[
        int | None, setting("Model", "--threads", min=1, metavar="N", help="CPU threads. Default: the number of cores.")
    ] = None,
    jsonl: Annotated[bool, option("Output", "--jsonl", help="Every event as a line of JSON, as it happens.")] = False,
    quiet: Annotated[bool, option("Output", "--quiet", "-q", help="Nothing but answers and errors.")] = False,
    verbose: Annotated[bool, option("Output", "--verbose", "-v", help="Token counts, timings and library logs too.")] = False,
    debug: Annotated[bool, option("Output", "--debug", help="Tracebacks and all logs.")] = False,
) -> int:
    """Watch sage work: three questions about three bundled clips, answered in one look or in several.

    All it needs is in the package; nothing is downloaded. The model, nano, knows coloured shapes and a few spoken words, and nothing else.
    """
    console.log(verbose=verbose, debug=debug)
    from sage_cli.agent import Agent, Settings
    from sage_cli.assets import CLIPS, NANO
    from sage_cli.cli.renderers import follow, renderer
    from sage_cli.model.llama import LlamaModel
    from sage_cli.store import find_model
    from sage_cli.tools import TOOLS
    from sage_cli.video import Video

    files = find_model(NANO.name)
    nano.warn(files, quiet=quiet)
    settings = nano.as_trained(Settings(frames=0), files)
    output: Literal["text", "jsonl"] = "jsonl" if jsonl else "text"
    answered = []
    with (
        LlamaModel(files.text, files.mmproj, threads=threads) as model,
        renderer(output, quiet=quiet, verbose=verbose, several=True) as view,
    ):
        for number, scene in enumerate(SCENES, start=1):
            if not quiet:
                console.say(f"{number} of {len(SCENES)}, {scene.title}: {scene.clip}")
            video = Video(CLIPS / scene.clip)
            tools = [tool for tool in TOOLS if video.has_audio or tool.name != "transcribe-speech"]
            agent = Agent(model, video, tools=tools, settings=settings, transcriber=partial(_transcript, video, threads))
            answered.append(follow(agent, scene.question, view))
    return 0 if all(answered) else EXIT_NO_ANSWER


def _transcript(video: Video, threads: int | None) -> Transcript:
    from sage_cli.assets import NANO
    from sage_cli.speech import Transcriber, Transcript

    return Transcript(Transcriber(NANO.speech, threads=threads), video, video.id)
