# ruff: noqa: RUF001
"""Text extraction from pages of any encoding and kind, including malicious ones."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pypdf
import pytest

from sage_cli.web import Page, WebError
from sage_cli.web import extract as extraction
from sage_cli.web.extract import decode, extract, parse, readable
from tests.web.conftest import Open
from tests.web.internet import Internet, article, done, http

PHRASES = {
    "utf-8": "Žluťoučký kůň \u2014 \u4e16\u754c",
    "windows-1252": "caf\u00e9 \u201cna\u00efve\u201d \u20ac5",
    "iso-8859-1": "caf\u00e9 \u201cna\u00efve\u201d \u20ac5",  # what servers call so is windows-1252
    "iso-8859-2": "Žluťoučký kůň",
    "iso-8859-15": "\u0152uvre \u20ac",
    "windows-1250": "Žluťoučký kůň",
    "windows-1251": "Привет, мир",
    "koi8-r": "Привет, мир",
    "windows-1253": "Καλημέρα κόσμε",
    "windows-1254": "Işık ağaç",
    "iso-8859-9": "Işık ağaç \u20ac",  # windows-1254
    "windows-1255": "שלום עולם",
    "windows-1256": "مرحبا بالعالم",
    "shift_jis": "こんにちは世界 \u2460",  # windows-31j
    "euc-jp": "こんにちは世界",
    "iso-2022-jp": "こんにちは世界",
    "gb2312": "你好，世界 \u9555",  # gb18030
    "gbk": "你好，世界",
    "big5": "你好，世界",
    "euc-kr": "안녕 세계 \ub620",  # windows-949
    "utf-16le": "Žluťoučký \u4e16\u754c",
}
CODECS = {
    "iso-8859-1": "cp1252",
    "iso-8859-9": "cp1254",
    "shift_jis": "cp932",
    "gb2312": "gb18030",
    "euc-kr": "cp949",
}


@pytest.mark.parametrize("label", PHRASES)
def test_the_encoding_that_the_server_names(label: str) -> None:
    data = article("T", PHRASES[label]).encode(CODECS.get(label, label))
    assert PHRASES[label] in decode(data, f'text/html; Charset="{label.upper()}"')


@pytest.mark.parametrize("label", [label for label in PHRASES if label not in ("utf-16le", "iso-2022-jp")])
@pytest.mark.parametrize("meta", ['<meta charset="{}">', "<META http-equiv=Content-Type content='text/html; charset={}'>"])
def test_the_encoding_that_the_page_names(label: str, meta: str) -> None:
    data = article("T", PHRASES[label], head=meta.format(label)).encode(CODECS.get(label, label))
    assert PHRASES[label] in decode(data, "text/html")


@pytest.mark.parametrize("name", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_believed_before_all_else(name: str) -> None:
    data = article("T", PHRASES["utf-8"], head='<meta charset="koi8-r">').encode(name)
    text = decode(data, "text/html; charset=iso-8859-1")
    assert PHRASES["utf-8"] in text
    assert text.startswith("<!DOCTYPE")


def test_an_encoding_that_nobody_names() -> None:
    assert PHRASES["utf-8"] in decode(article("T", PHRASES["utf-8"]).encode(), "text/html")
    russian = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. "
    assert russian in decode(article("T", russian * 5).encode("cp1251"), "text/html")


@pytest.mark.parametrize("said", ["Il était une fois à Noël.", "Я не знаю, что делать.", "あなたが何をしたいのか。"])
def test_a_byte_that_is_wrong_leaves_utf8_readable(said: str) -> None:
    data = article("T", said * 9).encode()
    middle = data.index(said.encode()) + len(said.encode())
    assert decode(data[:middle] + b"\xff" + data[middle:], "text/html").count(said) == data.decode().count(said)


@pytest.mark.parametrize(
    "label", ["zip", "rot13", "hex", "utf-16", "utf-7", "idna", "unicode_escape", "klingon", "../../etc/passwd", "cp037"]
)
def test_what_is_no_encoding_of_pages(label: str) -> None:
    """A page that says so of itself is read for what it is."""
    assert "café" in decode(f'<meta charset="{label}">café +ADw-script+AD4-'.encode(), "text/html")
    assert "<script>" not in decode(f'<meta charset="{label}">café +ADw-script+AD4-'.encode(), f"text/html; charset={label}")


def test_bytes_that_the_encoding_does_not_have() -> None:
    assert decode(b"caf\xff\xfe", "text/plain; charset=utf-8") == "caf\ufffd\ufffd"


@pytest.mark.parametrize(
    ("kind", "may"),
    [(kind, True) for kind in ("text/html; charset=x", "TEXT/HTML", "", "application/pdf", "application/json", "text/csv")]
    + [(kind, False) for kind in ("image/png", "video/mp4", "application/zip", "application/x-sh", "font/woff2")],
)
def test_what_may_be_readable(kind: str, may: bool) -> None:
    assert readable(kind) == may


# ---- what is taken out ---------------------------------------------------------------------------------------------

SENTENCE = "The train left Vienna at noon, with three hundred people on board and a dog that belonged to nobody. "


def test_an_article() -> None:
    head = '<meta property="article:published_time" content="2021-03-04T10:00:00Z">'
    page = parse(article("A train", SENTENCE * 3, head=head).encode(), "text/html", "http://site.example/a")
    assert (page.title, page.date, page.url) == ("A train", "2021-03-04", "http://site.example/a")
    assert SENTENCE.strip() in page.text
    assert "Home" not in page.text
    assert "rights reserved" not in page.text


def test_scripts_and_styles_are_not_text() -> None:
    data = article("A", SENTENCE + "<script>steal()</script><style>p {color: red}</style><!-- hidden -->").encode()
    assert not any(word in parse(data, "text/html", "u").text for word in ("steal", "color", "hidden"))


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ("<p>short</p>", "text/html", "short"),
        ("<ul><li>one</li><li>two</li></ul>", "text/html", "one"),
        ("plain words", "text/html", "plain words"),
        ("<b>no type</b>", "", "no type"),
        ("<b>not markup</b>", "text/plain", "<b>not markup</b>"),
        ('{"a": 1}', "application/json", '{"a": 1}'),
        ('<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>xhtml</p></body></html>',
         "application/xhtml+xml", "xhtml"),
        ("<rss><channel><title>News</title><item><title>It rained</title></item></channel></rss>", "text/xml", "It rained"),
    ],
)  # fmt: skip
def test_other_pages(data: str, kind: str, text: str) -> None:
    assert text in parse(data.encode(), kind, "u").text


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "text/html"),
        (b"   ", "text/plain"),
        (b"<html><script>x</script></html>", "text/html"),
        (b"\x7fELF\0\0", "application/octet-stream"),
    ],
)
def test_nothing_to_read(data: bytes, kind: str) -> None:
    with pytest.raises(WebError):
        parse(data, kind, "u")


def test_a_long_page_is_cut() -> None:
    assert len(parse(b"word " * 100_000, "text/plain", "u").text) == extraction.LONGEST


def make_pdf(*pages: str, title: str | None = None, password: str | None = None) -> bytes:
    writer = pypdf.PdfWriter()
    font = pypdf.generic.DictionaryObject()
    font.update(
        {pypdf.generic.NameObject(key): pypdf.generic.NameObject(value) for key, value in
         {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}.items()}
    )  # fmt: skip
    for text in pages:
        page = writer.add_blank_page(200, 200)
        content = pypdf.generic.DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode("latin-1"))
        fonts = pypdf.generic.DictionaryObject({pypdf.generic.NameObject("/F1"): font})
        page[pypdf.generic.NameObject("/Resources")] = pypdf.generic.DictionaryObject({pypdf.generic.NameObject("/Font"): fonts})
        page[pypdf.generic.NameObject("/Contents")] = writer._add_object(content)
    if title:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["application/pdf", "application/octet-stream", "text/html"])
def test_a_pdf(kind: str) -> None:
    page = parse(make_pdf("Emma was written", "by Jane Austen", title="On  Emma"), kind, "u")
    assert page == Page("u", "On Emma", "Emma was written\nby Jane Austen", None)


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7 and nothing else", make_pdf("secret", password="x"), make_pdf("cut short")[:300], make_pdf("")]
)
def test_a_pdf_without_text_to_be_had(data: bytes) -> None:
    with pytest.raises(WebError):
        parse(data, "application/pdf", "u")


# ---- in a process of its own ---------------------------------------------------------------------------------------


def test_apart(internet: Internet, open_web: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """The whole way. A module in the folder where the user happens to be is not mistaken for one of ours."""
    monkeypatch.chdir(str(tmp_path))
    with open("trafilatura.py", "w") as trap:  # noqa: PTH123
        trap.write("raise SystemExit('trapped')")
    internet.host(
        "site.example", rest=http(article("Κόσμος", SENTENCE * 3).encode("iso-8859-7"), content_type="text/html; charset=iso-8859-7")
    )
    page, _ = done(open_web().read("http://site.example/"))
    assert page.title == "Κόσμος"
    assert SENTENCE.strip() in page.text


def test_a_page_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "TIMEOUT_S", 0.01)
    with pytest.raises(WebError, match="could not be taken apart"):
        extract(article("A", SENTENCE).encode(), "text/html", "u")


def test_a_parser_that_dies_takes_nobody_along(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dies = tmp_path / "python"
    dies.write_text("#!/bin/sh\necho started\nkill -9 $$\n")
    dies.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(dies))
    with pytest.raises(WebError, match="could not be taken apart"):
        extract(b"hello", "text/plain", "u")


def test_a_parser_that_cannot_be_started_is_not_the_fault_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(WebError, match=r"no page can be read: .*false does not start .its status is 1"):
        extract(b"hello", "text/plain", "u")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WebError, match=r"no page can be read: /nowhere/python does not start .*No such file"):
        extract(b"hello", "text/plain", "u")


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize("name", ["LD_LIBRARY_PATH", "PYTHONHOME"])
def test_a_python_that_needs_its_environment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text(f"""#!/bin/sh
[ -n "${name}" ] || {{ echo "error while loading shared libraries: libpython3.so" >&2; exit 127; }}
unset {name}
exec "{sys.executable}" "$@"
""")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(WebError, match=r"does not start .error while loading shared libraries"):
        extract(b"hello", "text/plain", "u")
    monkeypatch.setenv(name, "/somewhere")
    assert extract(b"hello", "text/plain", "u").text == "hello"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no such limits")
def test_memory_is_limited() -> None:
    program = "from sage_cli.web import extract\nextract._limit()\nbytearray(3 << 30)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


def test_keys_are_kept_from_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is given nothing but where Python finds its modules."""
    for name in "SAGE_SEARCH_KEY", "HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HOME", "USER", "http_proxy":
        monkeypatch.setenv(name, "s3cret")
    assert {*extraction._environment()} <= {"PYTHONPATH", *extraction._NEEDED}
    assert extract(b"<title>T</title><p>Some words to read here.</p>", "text/html", "http://u/").title == "T"


@pytest.mark.parametrize(
    "page",
    ["<div>" * 50_000, "<table><tr><td>" * 5_000, "<a href='" + "a" * 500_000, "&" * 200_000, "<!--" * 50_000, "<p a=" + "b " * 100_000],
    ids=["deep", "tables", "attribute", "entities", "comments", "attributes"],
)
def test_pages_made_to_stall_a_parser(page: str) -> None:
    """They end, with or without a text."""
    try:
        extract(page.encode(), "text/html", "http://site.example/")
    except WebError as error:
        assert str(error).startswith("http://site.example/")
