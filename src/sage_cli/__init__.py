"""sage-cli: questions about videos, answered on the user's own machine (SAGE, arXiv 2512.13874)."""

from sage_cli.version import __version__

__all__ = ["__version__"]
