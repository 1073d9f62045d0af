"""``sage demo``: three bundled clips, three questions, three horizons; offline, with a model made for nothing else."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from sage_cli.cli import console
from sage_cli.errors import EXIT_NO_ANSWER

ABOUT = (
    "a demonstration: the nano model knows coloured shapes and a few spoken words, and nothing of your footage. "
    "For that, get the real model: see 'Get a model' in the README."
)


class Scene(NamedTuple):
    """One act of the demonstration."""

    title: str
    clip: str
    question: str


SCENES = (
    Scene("Answered at first look", "short.mp4", "Which shape appears last?"),
    Scene("Answered from speech", "speech.mp4", "Which number is spoken?"),
    Scene("Found in a moment that the first look missed", "long.mp4", "What appears between 07:43 and 07:50?"),
)


def demo(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but questions and answers.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Token counts, timings and library logs too.")] = False,
) -> int:
    """Watch sage work: three questions about three bundled clips.

    Everything needed is in the package: nothing is downloaded. The model is a toy made for these clips' world of coloured shapes.
    """
    console.log(verbose=verbose, debug=False)
    from sage_cli.agent import Agent, Settings
    from sage_cli.assets import CLIPS, NANO
    from sage_cli.cli.renderers import follow, renderer
    from sage_cli.model.llama import LlamaModel
    from sage_cli.speech import Transcriber
    from sage_cli.tools import TOOLS
    from sage_cli.video import Video

    if not quiet:
        console.say(ABOUT)
    settings = Settings(frames=NANO.frames, frame_tokens=NANO.frame_tokens, prompts_dir=NANO.prompts)
    answered = []
    with LlamaModel(NANO.text, NANO.mmproj) as model:
        for scene in SCENES:
            video = Video(CLIPS / scene.clip)
            console.write(f"{scene.title} ({scene.clip}): {scene.question}")
            tools = [tool for tool in TOOLS if video.has_audio or tool.name != "transcribe-speech"]
            agent = Agent(model, video, tools=tools, settings=settings, transcriber=lambda: Transcriber(NANO.speech))
            with renderer("text", quiet=quiet, verbose=verbose) as view:
                answered.append(follow(agent, scene.question, view))
    return 0 if all(answered) else EXIT_NO_ANSWER
