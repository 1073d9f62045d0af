"""Keys that the user put into the system's keyring."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "sage-cli"


def from_keyring(name: str) -> str:
    """The key that is kept under ``sage-cli NAME``; empty if there is none, or no keyring that can be read."""
    try:
        import keyring  # an extra: few need it
    except ImportError:
        return ""
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(SERVICE, name) or ""
    except KeyringError:  # none on this machine, or locked
        return ""
