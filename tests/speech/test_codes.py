from __future__ import annotations

import pytest

from sage_cli.speech.codes import english_name, short


def test_every_language_of_whisper_finds_its_track() -> None:
    from sage_cli.speech.whisper import languages

    alone = {short(language) for language in languages()}
    assert len(alone) == len(languages())
    assert all(short(three) == short(two) for three, two in (("jav", "jw"), ("tgl", "tl"), ("heb", "he"), ("hrv", "hr"), ("msa", "ms")))


CODES = (
    "eng:en en-US:en ger:de deu:de zho:zh chi:zh bul:bg ind:id lit:lt rum:ro ron:ro lav:lv mac:mk mlt:mt per:fa fas:fa kaz:kk kan:kn "
    "ben:bn bos:bs nob:no nor:no nno:nn yue:yue haw:haw und: :"
)


@pytest.mark.parametrize(("code", "expected"), [pair.split(":") for pair in CODES.split()])
def test_language_codes(code: str, expected: str) -> None:
    assert short(code) == expected


@pytest.mark.parametrize(("code", "name"), [("en", "English"), ("zh", "Chinese"), ("yue", "Cantonese"), ("", ""), ("xx", "")])
def test_names(code: str, name: str) -> None:
    assert english_name(code) == name


def test_every_language_of_whisper_has_a_name() -> None:
    from sage_cli.speech.whisper import languages

    assert all(map(english_name, languages()))
