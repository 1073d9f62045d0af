"""Decoding of external text."""

# ruff: noqa: RUF001 - letters of all scripts

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from sage_cli.text import decode, decode_prose, decode_unicode, escape_markdown, from_argument, lines, read_unicode


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Was ist das für ein Café?".encode(), "Was ist das für ein Café?"),
        (b"caf\xe9?", "café?"),
        ("Café?".encode("utf-8-sig"), "Café?"),
        ("Café?".encode("utf-16"), "Café?"),
        ("Café?\r\n".encode("utf-16-le"), "Café?\r\n"),
        ("Café?".encode("utf-16-be"), "Café?"),
        (b"\x81", "\ufffd"),  # nothing, in Windows-1252 too
        (b"", ""),
    ],
)
def test_decode(data: bytes, text: str) -> None:
    assert decode(data) == text


SENTENCES = {
    "fr cp1252": "Il veut que tu viennes à Noël.|Tu êtes très fatigués après le dîner.|Où étiez-vous hier soir ?",
    "pt cp1252": "Não sei o que você quer dizer.|A reunião começa às três horas.|O coração dele está muito fraco.",
    "Fr cp1252": "C´est à toi, mon cœur.|L´été dernier, il a été très malade.|Où étiez-vous hier soir ?",
    "es cp1252": "¡Qué lástima, señor!|¿Dónde está el niño?|Mañana será otro día.",
    "de cp1252": "Die Tür ist größer als früher.|Ich weiß nicht, was du möchtest.|Schöne Grüße aus München.",
    "DE cp1252": "DIE TÜR IST GRÖSSER ALS FRÜHER.|WIR MÜSSEN JETZT GEHEN.|SCHÖNE GRÜSSE AUS MÜNCHEN.",
    "fr mac_roman": "Où étais-tu hier ? Ça m'est égal.|Je ne sais pas ce que ça veut dire.|Il est déjà trop tard, mon frère.",
    "de mac_roman": "Die Tür ist größer als früher.|Wir müssen jetzt gehen.|Schöne Grüße aus München.",
    "sv mac_roman": "Jag förstår inte vad du säger.|Vi åker till Göteborg på fredag.|Det är för sent nu.",
    "da cp865": "Jeg har aldrig hørt om det før.|Hvor har du været hele året?|Kom nu, køkkenet er åbent.",
    "it cp1252": "Perché non è venuto?|La città è più bella di sera.|Lunedì sarà già troppo tardi.",
    "nl cp1252": "Hij heeft één kind en drie katten.|België is een mooi land.|Dat is het idee, hè?",
    "sv cp1252": "Jag förstår inte vad du säger.|Vi åker till Göteborg på fredag.|Det är för sent nu.",
    "da cp1252": "Jeg ved ikke, hvad du mener.|Hvor har du været hele året?|Må jeg få en øl?",
    "is cp1252": "Ég veit ekki hvað þú átt við.|Hún fór heim í gær.|Það er of seint núna.",
    "ca cp1252": "No sé què vols dir.|Això és molt difícil.|Demà anirem a la plaça.",
    "en cp1252": "I’ve never seen him before.|She went to the café yesterday.|“Don’t go,” he said.",
    "pl cp1250": "Nie wiem, o co ci chodzi.|Gdzie są moje książki?|Zadzwonię do ciebie później.",
    "pl iso8859-2": "Proszę, usiądź tutaj.|Chcę wrócić do domu.|Myślę, że już czas iść.",
    "pl mac_latin2": "Nie wiem, o co ci chodzi.|Gdzie są moje książki?|Zadzwonię do ciebie później.",
    "cs cp1250": "Nevím, co chceš říct.|Přijď zítra večer domů.|Už je příliš pozdě.",
    "hu cp1250": "Nem tudom, mit akarsz mondani.|Később felhívlak.|Szeretnék hazamenni ősszel.",
    "ro cp1250": "Unde este fratele meu?|Vino mâine seară acasă.|Copiii merg la şcoală.",
    "lv cp1257": "Es nezinu, ko tu gribi teikt.|Atnāc rīt vakarā mājās.|Paldies, man viss kārtībā.",
    "ru cp1251": "Я не знаю, что ты хочешь сказать.|Приходи завтра вечером домой.|Уже слишком поздно.",
    "ru koi8-r": "Я не знаю, что ты хочешь сказать.|Приходи завтра вечером домой.|Уже слишком поздно.",
    "RU koi8-r": "Я НЕ ЗНАЮ, ЧТО ТЫ ХОЧЕШЬ СКАЗАТЬ.|ПРИХОДИ ЗАВТРА ВЕЧЕРОМ ДОМОЙ.|УЖЕ СЛИШКОМ ПОЗДНО.",
    "ru cp866": "Я не знаю, что ты хочешь сказать.|Приходи завтра вечером домой.|Уже слишком поздно.",
    "pl cp852": "Proszę, usiądź tutaj.|Chcę wrócić do domu.|Myślę, że już czas iść.",
    "uk cp1251": "Я не знаю, що ти хочеш сказати.|Приходь завтра ввечері додому.|Вже надто пізно.",
    "el cp1253": "Δεν ξέρω τι θέλεις να πεις.|Πού είναι το βιβλίο μου;|Είναι πολύ αργά πια.",
    "tr cp1254": "Ne demek istediğini bilmiyorum.|Yarın akşam eve gel.|Artık çok geç oldu.",
    "he cp1255": "אני לא יודע מה אתה רוצה להגיד.|איפה הספר שלי?|כבר מאוחר מדי.",
    "ar cp1256": "لا أعرف ماذا تريد أن تقول.|تعال غدا مساء إلى البيت.|لقد فات الأوان.",
    "th cp874": "ฉันไม่รู้ว่าคุณหมายถึงอะไร|พรุ่งนี้เย็นมาที่บ้านนะ|สายเกินไปแล้ว",
    "ja cp932": "何を言いたいのか分かりません。|私の本はどこですか。|手伝ってくれませんか",
    "ja euc_jp": "何を言いたいのか分かりません。|私の本はどこですか。|手伝ってくれませんか",
    "zh gbk": "我不知道你想说什么。|我的书在哪里|明天晚上来家里吧。",
    "zh big5": "我不知道你想說什麼。|我的書在哪裡|明天晚上來家裡吧。",
    "ko cp949": "무슨 말을 하려는지 모르겠어요.|내일 저녁에 집으로 오세요.|이미 너무 늦었어요.",
}


@pytest.mark.parametrize("language", SENTENCES)
@pytest.mark.parametrize("shape", ["short", "long", "bilingual"])
def test_sentences_in_old_encodings(language: str, shape: str) -> None:
    sentences = SENTENCES[language].split("|") * (20 if shape == "long" else 1)
    if shape == "bilingual":
        sentences = [f"{sentence}\nI never said that to him before." for sentence in sentences]
    text = "\r\n\r\n".join(f"{n}\r\n00:00:{n:02},000 --> 00:00:{n:02},900\r\n{sentence}" for n, sentence in enumerate(sentences))
    code, encoding = language.split()
    assert decode_prose(text.encode(encoding)) == text
    assert decode_prose(text.encode(encoding), code.lower()) == text


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp"])
@pytest.mark.parametrize(
    "text", ["お母さんはどこ\nそれはちがうと思うけど", "コンピューターが壊れたから\nえっ、うそでしょ", "もう遅いから帰ろう"]
)
def test_a_line_or_two_of_japanese(text: str, encoding: str) -> None:
    assert decode_prose(text.encode(encoding)) == decode_prose(text.encode(encoding), "ja") == text


@pytest.mark.parametrize("encoding", ["cp1253", "iso8859-7"])
def test_greek_sets_differ_in_one_letter(encoding: str) -> None:
    text = "Δημοκρατία της Νότιας Αφρικής\nΛίστα όλων των μελών της ομάδας\nΠαλιά Νότια Αραβικά\nΆνοιγμα σε νέο παράθυρο"
    assert decode_prose(text.encode(encoding)) == text


def test_a_language_decides_where_letters_do_not() -> None:
    text = "Jau per vėlu.\nAčiū, man viskas gerai.\nAš tavęs nesuprantu, žmogau."
    assert decode_prose(text.encode("cp1257"), "lt") == text
    assert decode_prose("caf\xe9".encode("cp1252"), "fr") == "café"
    estonian = "Ma ei tea, mida sa teha tahad.\nKus mu vend on? Aitäh, et tulid, õde käis šokis."
    assert [decode_prose(estonian.encode(name), "et") for name in ("cp1257", "cp1252", "cp775")] == [estonian] * 3


@pytest.mark.parametrize(("sentences", "language"), [(1, "sq"), (3, "sq"), (3, ""), (30, "")])
def test_albanian(sentences: int, language: str) -> None:
    lines = ["Mirëmëngjes, si je?", "Ndoshta vjen në mbrëmje.", "Çfarë është kjo? Unë punoj në shkollë."] * 10
    text = "\n".join(lines[:sentences])
    assert decode_prose(text.encode("cp1252"), language) == text
    baltic = "Kur yra mėlyna kėdė? Mėgstu skaityti, bet šiandien neturiu laiko. Ačiū, viskas gerai, žmogau."
    assert decode_prose(baltic.encode("cp1257"), "lt") == baltic


def test_sentences_in_unicode_even_if_damaged() -> None:
    text = "Приходи завтра вечером домой.\n" * 9
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le"):
        assert decode_prose((text if encoding != "utf-16-le" else "a plain line\n" * 30 + text).encode(encoding)).endswith(text)
    assert decode_prose(text.encode() + b"\xd0") == text + "\ufffd"
    assert decode_prose(b"\x81\xf0") == "\ufffdð"


def test_lines_end_where_a_key_was_pressed() -> None:
    assert lines("one\r\n\n two\u2028\x0cstill two \rthree") == ["one", "two\u2028\x0cstill two", "three"]


def test_words_of_the_command_line() -> None:
    assert from_argument("Café?") == "Café?"
    assert from_argument("Caf\udce9?") == "Café?"
    assert from_argument("\ud800") == "\ufffd"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_unicode(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("Café?\r\nJa\rNein\n".encode(encoding))
    assert read_unicode(tmp_path / "file") == "Café?\nJa\nNein\n"


@pytest.mark.parametrize("data", [b"caf\xe9?", b"\xef\xbb\xbfcaf\xe9?", b"\xff\xfea"])
def test_what_is_not_unicode_is_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode_unicode(data)


@pytest.mark.parametrize(
    "text",
    [
        "Which shape <b>appears</b> first? [x](y)",
        "*a* **b** _c_ __d__ ~~e~~ `f` $g$",
        "a | b \\| c \\ d",
        "&amp; &#35; R&D; AT&T",
        "# heading",
        "## heading",
        "- item",
        "+ item",
        "* item",
        "1. item",
        "12) item",
        "---",
        "===",
        "> quote",
        "```",
        "~~~",
        "-7",
        "1.5",
        "snake_case and 2 * 3 * 4",
        "<https://a.example> ![x](y)",
        "[x]: y",
        "a  b",
        "-",
        "#",
    ],
)
def test_markdown_shows_text_as_it_is(text: str) -> None:
    """In a paragraph after another line, in a heading, in an item and in a cell, as a renderer reads them."""
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for around in ("{}", "first\n{}", "# {}", "- {}", "| a |\n| --- |\n| {} |"):
        page = renderer.render(around.format(escape_markdown(text, cell="|" in around)))
        words = html.unescape(re.sub("<[^>]*>", "", page)).split("\n")
        assert [" ".join(line.split()) for line in words if line.strip() and line not in ("first", "a")] == [" ".join(text.split())], page
        assert not re.search("<(?:a|b|em|strong|code|s|hr|h2|ol|blockquote|img)\\b", page)
