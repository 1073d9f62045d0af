"""``python -m sage_cli`` is ``sage``."""

from sage_cli.cli import main

if __name__ == "__main__":
    main()
