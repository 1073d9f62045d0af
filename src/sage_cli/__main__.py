"""``sage``, and ``python -m sage_cli``: the entry point of the command line."""

import signal

# Until the command line is loaded, Ctrl-C ends the process silently; Python would print a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run ``sage`` and exit."""
    from sage_cli.cli import main

    main()


if __name__ == "__main__":
    main()
