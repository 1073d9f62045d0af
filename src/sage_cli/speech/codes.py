"""Codes of languages, and their names."""

from __future__ import annotations

import re


def short(language: str) -> str:
    """The shortest code of a language: ``"en"`` of ``"eng"`` or ``"en-US"``; ``""`` of ``"und"``. Several codes of one give the same."""
    from babel.core import get_global

    code = re.split(r"[-_]", language.lower())[0]
    if code in ("", "und", "mul", "zxx", "mis"):
        return ""
    preferred = get_global("language_aliases").get(code, code).partition("_")[0]
    return "no" if preferred == "nb" else preferred


def english_name(code: str) -> str:
    """The name of a code's language in English; ``""`` if there is none of that code."""
    from babel import Locale

    name = Locale("en").languages.get(short(code))
    return "" if name is None else str(name)
