"""How the commands of this package end: an error that the user can act on is one line on stderr, with an exit code as of ``sage``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

from pydantic import ValidationError

from sage_cli.errors import EXIT_INTERRUPTED, SageError, UsageError, machine_trouble

_GLANCE_S: Final = 1.0


def run(command: Callable[[], None]) -> None:
    """Run a command, and exit with 2 for wrong arguments or a missing extra, 3 and 4 as ``sage`` does, 130 after Ctrl-C, and 1 otherwise.

    Errors in the code keep their traceback.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the processes of other stages are ended, too
    try:
        command()
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if not module or module in ("training", "sage_cli") or (module not in sys.modules and find_spec(module)):
            raise
        _fail(
            f"there is no module {module}: install the extra 'train' (uv sync --extra train), which needs Python 3.11 or later",
            UsageError.exit_code,
        )
    except SageError as error:
        _fail(str(error), error.exit_code)
    except subprocess.CalledProcessError as error:
        _fail(f"a stage failed with exit code {error.returncode}; its error is above", 1)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on from the last checkpoint", EXIT_INTERRUPTED)
    except (OSError, MemoryError) as error:
        _fail(machine_trouble(error), 1)


def end_with(parent: int) -> None:
    """End, as by SIGTERM, when the process of this number, which started this one, is killed: nobody would use the result.

    Not on Windows: the parent's number stays the same there, and in a virtual environment it is that of a launcher.
    """
    if sys.platform == "win32":
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_GLANCE_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def invalid(source: str, error: ValidationError) -> UsageError:
    """What is wrong in a file of settings, as one line."""
    first, *more = error.errors(include_url=False)
    where = ".".join(map(str, first["loc"]))
    return UsageError(f"{source}: {where}: {first['msg'].lower()}{f', and {len(more)} more' if more else ''}")


def _fail(message: str, exit_code: int) -> None:
    print(f"training: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(exit_code)
