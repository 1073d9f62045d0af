"""``sage``, and ``python -m sage_cli``: the entry point of the command line."""

# The core of the module signal, without its enums: importing them takes longer than all before.
import _signal as signal  # type: ignore[import-not-found,unused-ignore]
import sys

# Until the command line is loaded, Ctrl-C ends the process silently; Python would print a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run ``sage`` and exit."""
    try:
        from sage_cli.cli import main
    except ImportError as error:  # typer is missing
        from sage_cli.errors import ModelError, import_trouble

        sys.stderr.write(f"sage: error: {import_trouble(error)}\n")
        sys.exit(ModelError.exit_code)

    main()


if __name__ == "__main__":
    main()
