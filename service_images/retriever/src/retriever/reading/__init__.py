"""Extracts text from files. Runs in worker processes, since a file can make a parser hang, exhaust memory, or crash.

Parsers are imported lazily, so that the service itself does not load them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from retriever.reading import characters
from retriever.reading.errors import Unreadable

__all__ = ["KINDS", "MAX_CHARACTERS", "Unreadable", "kind", "text"]
MAX_CHARACTERS = 10_000_000
"""Maximum characters of a text: about 2,000 pages, or 12,500 passages of the default size."""
_PLAIN = (
    *(".txt", ".md", ".markdown", ".rst", ".csv", ".tsv", ".log", ".yaml", ".yml", ".toml", ".xml", ".sql", ".tex"),
    *(".py", ".js", ".ts", ".go", ".java", ".sh", ".c", ".cpp", ".rs", ".rb"),
)
_ADVICE = {
    ".doc": "save it as .docx",
    ".xls": "save it as .xlsx",
    ".ppt": "save it as .pptx",
    ".rtf": "save it as .docx or .txt",
    ".odt": "save it as .docx",
    ".ods": "save it as .xlsx",
    ".odp": "save it as .pptx",
    ".epub": "convert it to .html or .pdf",
    ".msg": "save it as .eml",
    ".zip": "upload the files in it",
}


def _plain(content: bytes) -> str:
    return characters.decode(content)


def _html(content: bytes) -> str:
    from retriever.reading import markup

    return markup.html(content)


def _pdf(content: bytes) -> str:
    from retriever.reading import pdf

    return pdf.pdf(content, MAX_CHARACTERS)


def _json(content: bytes) -> str:
    from retriever.reading import structured

    return structured.json_text(content)


def _json_lines(content: bytes) -> str:
    from retriever.reading import structured

    return structured.json_lines(content)


def _docx(content: bytes) -> str:
    from retriever.reading import office

    return office.docx(content)


def _xlsx(content: bytes) -> str:
    from retriever.reading import office

    return office.xlsx(content, MAX_CHARACTERS)


def _pptx(content: bytes) -> str:
    from retriever.reading import office

    return office.pptx(content)


def _eml(content: bytes) -> str:
    from retriever.reading import mail

    return mail.eml(content)


_READERS: dict[str, Callable[[bytes], str]] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    ".json": _json,
    ".pdf": _pdf,
    ".docx": _docx,
    ".xlsx": _xlsx,
    ".pptx": _pptx,
    ".eml": _eml,
}
KINDS = sorted(_READERS)
"""Suffixes of the names of supported files."""


def kind(name: str) -> str:
    """Suffix of a file's name, which selects the parser. Raises Unreadable for an unsupported one."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _READERS:
        advice = f"; {_ADVICE[suffix]}" if suffix in _ADVICE else ""
        raise Unreadable(f'files named "*{suffix}" are not supported{advice}. Supported are: {", ".join(KINDS)}')
    return suffix


def text(name: str, content: bytes) -> str:
    """Normalized text of a file. Raises Unreadable with the reason."""
    suffix = kind(name)
    try:
        found = _READERS[suffix](content)
    except (Unreadable, MemoryError, RecursionError):
        raise
    except Exception as error:  # parsers raise any exception for an invalid file
        raise Unreadable(f"the file cannot be read as {suffix}: {type(error).__name__}: {error}"[:300]) from None
    if len(found) > MAX_CHARACTERS:
        raise Unreadable(f"the file has {len(found)} characters; the maximum is {MAX_CHARACTERS}: split it")
    found = characters.normal(found)
    if not found.strip():
        hint = "; images of text are not supported" if suffix == ".pdf" else ""
        raise Unreadable(f"the file contains no text{hint}")
    return found
