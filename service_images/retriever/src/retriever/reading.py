"""Files to texts: PDF, HTML, and what is text already."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from pathlib import PurePosixPath

from pypdf import PdfReader

MAX_CHARACTERS = 10_000_000
PAGES = 5000
_TEXT = {
    ".txt",
    ".md",
    ".markdown",
    ".rst",
    ".csv",
    ".tsv",
    ".log",
    ".py",
    ".js",
    ".ts",
    ".go",
    ".java",
    ".yaml",
    ".yml",
    ".toml",
    ".xml",
    ".sql",
    ".sh",
    ".c",
    ".cpp",
    ".rs",
    ".rb",
    ".tex",
}
KINDS = sorted({*_TEXT, ".pdf", ".html", ".htm", ".json"})


class Unreadable(ValueError):
    """Why a file has no text."""


def kind(name: str) -> str:
    """By the end of its name. Raises Unreadable."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in KINDS:
        raise Unreadable(f'"{suffix or name}" is not read; there are {", ".join(KINDS)}')
    return suffix


def text(name: str, content: bytes) -> str:
    """What is written in a file. Raises Unreadable."""
    suffix = kind(name)
    try:
        if suffix == ".pdf":
            found = _pdf(content)
        else:
            found = content.decode("utf-8-sig")
            if suffix in (".html", ".htm"):
                found = _html(found)
            elif suffix == ".json":
                found = json.dumps(json.loads(found), indent=1, ensure_ascii=False)
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8") from None
    except RecursionError:
        raise Unreadable("it goes too deep") from None
    except Unreadable:
        raise
    except Exception as error:  # a PDF can be wrong in any way
        raise Unreadable(f"it cannot be read: {error}"[:300]) from None
    if len(found) > MAX_CHARACTERS:
        raise Unreadable(f"it has more than {MAX_CHARACTERS} characters")
    found = found.replace("\x00", " ")
    if not found.strip():
        raise Unreadable("it holds no text")
    return found


def _pdf(content: bytes) -> str:
    reader = PdfReader(io.BytesIO(content))
    if len(reader.pages) > PAGES:
        raise Unreadable(f"it has more than {PAGES} pages")
    pieces: list[str] = []
    size = 0
    for page in reader.pages:
        pieces.append(page.extract_text())
        size += len(pieces[-1])
        if size > MAX_CHARACTERS:
            break
    return "\n\n".join(pieces)


class _Html(HTMLParser):
    """Texts between tags; what browsers do not show is left out."""

    _HIDDEN = frozenset(("script", "style", "template", "noscript", "head"))
    _BLOCKS = frozenset(("p", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "br", "section", "article", "pre"))

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A new block is a new paragraph."""
        if tag in self._HIDDEN:
            self._hidden += 1
        elif tag in self._BLOCKS:
            self.pieces.append("\n\n" if tag != "br" else "\n")

    def handle_endtag(self, tag: str) -> None:
        """The end of what is hidden."""
        if tag in self._HIDDEN and self._hidden:
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        """Text."""
        if not self._hidden:
            self.pieces.append(data)


def _html(content: str) -> str:
    parser = _Html()
    parser.feed(content)
    parser.close()
    return "".join(parser.pieces)
