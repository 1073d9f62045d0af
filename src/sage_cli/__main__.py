"""``sage``, and ``python -m sage_cli``: the command line, from its first moment."""

import signal

# Ctrl-C before the command line is loaded ends the process as it ends any other; Python would print a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Run ``sage`` and exit."""
    from sage_cli.cli import main

    main()


if __name__ == "__main__":
    main()
