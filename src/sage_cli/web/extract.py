"""The readable text of a page: its title, what it says, its date.

What strangers wrote is taken apart in a process of its own, with limits on its time and memory: a page made to crash or to stall a parser
harms nobody but itself.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from sage_cli.text import guess_encoding, without_surrogates
from sage_cli.web.base import Page, WebError

TIMEOUT_S: Final = 30.0
LONGEST: Final = 200_000  # characters of text kept of a page
_MEMORY: Final = 2 << 30
_TITLE: Final = 300
# Windows starts nothing without the first; the others say where some Pythons have their libraries.
_NEEDED: Final = ("SYSTEMROOT", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")

_HTML: Final = frozenset({"text/html", "application/xhtml+xml", "application/xml", "text/xml"})
_PDF: Final = "application/pdf"
_PLAIN: Final = frozenset({"application/json", "application/ld+json"})
_UNKNOWN: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})

# The encodings of the web and what browsers take their names for (WHATWG Encoding): often a larger set, which pages really use. No others:
# in UTF-7, say, plain letters are not plain.
_ENCODINGS: Final = frozenset(
    {
        *("utf-8", "utf-16-le", "utf-16-be", "gb18030", "big5hkscs", "cp932", "euc_jp", "iso2022_jp", "cp949", "koi8-r", "koi8-u"),
        *("cp866", "cp874", "mac-roman", "mac-cyrillic"),
        *(f"cp125{number}" for number in range(9)),
        *(f"iso8859-{number}" for number in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)),
    }
)
_MEANT: Final = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "utf-16": "utf-16-le",
}
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META: Final = re.compile(rb"""<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*["']?\s*([\w:.-]+)""", re.IGNORECASE)
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([\w:.-]+)""", re.IGNORECASE)


def readable(content_type: str) -> bool:
    """Whether a page that is declared like this may have text in it."""
    kind = _kind(content_type)
    return kind in _HTML | _PLAIN | _UNKNOWN or kind == _PDF or kind.startswith("text/")


def extract(data: bytes, content_type: str, url: str) -> Page:
    """The readable part of a page.

    Raises:
        WebError: there is none, it takes too much to get at, or the process cannot be started.
    """
    head = json.dumps({"content_type": content_type, "url": url}).encode()
    command = [sys.executable, "-m", __name__]
    # Started in this package's folder: `-m` searches the current folder first, and that could be any.
    home = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, input=head + b"\n" + data, capture_output=True, timeout=TIMEOUT_S, cwd=home, env=_environment())
        started, _, text = done.stdout.partition(b"\n")
        if not started:
            reason = done.stderr.decode("utf-8", "replace").split("\n")
            raise OSError(next((line.strip() for line in reversed(reason) if line.strip()), f"its status is {done.returncode}"))
        answer = json.loads(text)
    except OSError as error:
        raise WebError(f"no page can be read: {sys.executable} does not start ({error})") from error
    except (subprocess.TimeoutExpired, ValueError):
        raise WebError(f"{url} could not be taken apart: it is too large or broken") from None
    if "error" in answer:
        raise WebError(f"{url}: {answer['error']}")
    return Page(**answer)


def _environment() -> dict[str, str]:
    """What Python needs to start, and nothing else: a parser of hostile pages has no use for tokens, keys or names."""
    needed = {name: os.environ[name] for name in _NEEDED if name in os.environ}
    return needed | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


# ---- in the process of its own -------------------------------------------------------------------------------------


def _main() -> None:
    sys.stdout.write("started\n")
    sys.stdout.flush()
    _limit()
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    try:
        answer = asdict(parse(data, **json.loads(head)))
    except WebError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer))


def _limit() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, int(TIMEOUT_S)), (resource.RLIMIT_CORE, 0)):
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # a stricter limit is in force, or the system knows none of this kind
            continue


def parse(data: bytes, content_type: str, url: str) -> Page:
    """What :func:`extract` does, here and now.

    Raises:
        WebError: there is no text in it.
    """
    kind = _kind(content_type)
    start = data[:1024].lstrip()
    if kind == _PDF or start.startswith(b"%PDF-"):
        return _pdf(data, url)
    if kind in _UNKNOWN and b"\0" in start and not start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WebError("it is not text")
    text = decode(data, content_type)
    if kind in _HTML or (kind in _UNKNOWN and text.lstrip().startswith("<")):
        return _html(text, url)
    return _page(url, "", text, None)


def _html(text: str, url: str) -> Page:
    import trafilatura

    document: Any = trafilatura.bare_extraction(text, url=url, with_metadata=True, include_comments=False)
    if document is None or not document.text:
        # What the extractor does not take for a page: a few words, a list, a feed.
        return _page(url, (document and document.title) or "", trafilatura.html2txt(f"<html><body><div>{text}</div></body></html>"), None)
    return _page(url, document.title or "", document.text, document.date or None)


def _pdf(data: bytes, url: str) -> Page:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    texts: list[str] = []
    try:
        reader = PdfReader(BytesIO(data))
        title = (reader.metadata.title if reader.metadata else None) or ""
        for page in reader.pages:
            texts.append(page.extract_text())
            if sum(map(len, texts)) > LONGEST:
                break
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, RecursionError, NotImplementedError, ImportError) as error:
        raise WebError("the PDF cannot be read") from error
    return _page(url, title, "\n".join(texts), None)


def _page(url: str, title: str, text: str, date: str | None) -> Page:
    text = text.strip()[:LONGEST]
    if not text:
        raise WebError("there is no text on the page")
    # Broken PDFs have halves of surrogate pairs.
    return Page(url, without_surrogates(" ".join(title.split())[:_TITLE]), without_surrogates(text), date)


def decode(data: bytes, content_type: str) -> str:
    """Bytes as text: by the byte order mark, what the server says, what the page says of itself; else by what it looks like."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    if (sent := _CHARSET.search(content_type)) and (codec := _codec(sent[1])):
        return data.decode(codec, "replace")
    if (written := _META.search(data[:2048])) and (codec := _codec(written[1].decode())):
        # Whoever can write that in plain bytes does not write UTF-16.
        return data.decode("utf-8" if codec.startswith("utf-16") else codec, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode(_codec(guess_encoding(data)) or "cp1252", "replace")


def _codec(label: str) -> str | None:
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    name = _MEANT.get(name, name)
    return name if name in _ENCODINGS else None


def _kind(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


if __name__ == "__main__":
    _main()
