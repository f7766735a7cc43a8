"""Word, Excel and PowerPoint files (Office Open XML), with python-docx, openpyxl and python-pptx.

They are ZIP archives of XML. The declared sizes are checked before anything is unpacked; Python's zipfile unpacks no
more of an entry than its declared size.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

from retriever.reading.errors import Unreadable

UNPACKED_BYTES = 64 * 2**20
ENTRIES = 10_000
_OLD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_PARTS = ("/header", "/footer", "/footnotes", "/endnotes")


def _checked(content: bytes) -> io.BytesIO:
    """The archive, after size checks. Raises Unreadable."""
    if content.startswith(_OLD):
        raise Unreadable("the file is encrypted, or has the old binary format: save it again without a password")
    file = io.BytesIO(content)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise Unreadable(f"the file is not an Office file: {error}") from None
    if len(entries) > ENTRIES:
        raise Unreadable(f"the file is an archive with {len(entries)} parts; the maximum is {ENTRIES}")
    if (size := sum(entry.file_size for entry in entries)) > UNPACKED_BYTES:
        raise Unreadable(f"the file has {size} bytes after unpacking; the maximum is {UNPACKED_BYTES}")
    file.seek(0)
    return file


def docx(content: bytes) -> str:
    """Headers, the text with tables and text boxes, and footnotes. Tracked changes count as accepted."""
    file = _checked(content)
    import docx as library

    document = library.Document(file)
    roots = [document.element.body]
    for part in document.part.package.iter_parts():
        if any(name in str(part.partname) for name in _PARTS):
            roots.append(_parsed(part))
    return "\n\n".join(text for root in roots if (text := _blocks(root, _WORD)))


def _parsed(part: Any) -> Any:
    from docx.oxml import parse_xml

    return part.element if hasattr(part, "element") else parse_xml(part.blob)


def pptx(content: bytes) -> str:
    """Slides in order, each with shapes, tables and notes."""
    file = _checked(content)
    import pptx as library

    slides: list[str] = []
    for slide in library.Presentation(file).slides:
        if slide.element.get("show") == "0":
            continue
        roots = [slide.element, *([slide.notes_slide.element] if slide.has_notes_slide else [])]
        slides.append("\n".join(_blocks(root, _DRAWING) for root in roots))
    return "\n\n".join(slides)


def xlsx(content: bytes, characters: int) -> str:
    """Visible sheets: one line per row with values, cells separated by tabs. Formulas have their last results."""
    file = _checked(content)
    book = _openpyxl().load_workbook(file, read_only=True, data_only=True, keep_links=False)
    pieces: list[str] = []
    size = 0
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        sheet.reset_dimensions()  # the declared size may be wrong
        pieces.append(f"\n{sheet.title}\n")
        for row in sheet.iter_rows(values_only=True):
            line = "\t".join(_cell(value) for value in row).rstrip("\t")
            if line:
                pieces.append(line)
                size += len(line)
            if size > characters:
                raise Unreadable(f"the file has more than {characters} characters: split it")
    return "\n".join(pieces)


def _openpyxl() -> Any:
    """openpyxl without numpy, which it loads if installed, and which needs more memory than a worker has."""
    absent = "numpy" not in sys.modules
    if absent:
        sys.modules["numpy"] = None  # type: ignore[assignment]
    try:
        import openpyxl
    finally:
        if absent:
            del sys.modules["numpy"]
    return openpyxl


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return value.isoformat(" ") if hasattr(value, "hour") and hasattr(value, "year") else str(value)


def _blocks(root: Any, space: str) -> str:
    """Paragraphs on separate lines; cells of a row on one line, separated by tabs."""
    for node in list(root.iter(_FALLBACK)):  # a duplicate for older programs
        node.getparent().remove(node)
    return "\n".join(_lines(root, space))


def _lines(root: Any, space: str) -> Iterator[str]:
    row, cell, paragraph = f"{space}tr", f"{space}tc", f"{space}p"
    stack = [root]
    while stack:
        node = stack.pop()
        if node.tag == row:
            cells = [child for child in node.iter(cell) if _nearest(child, row) is node]
            yield "\t".join(" ".join(_text(p, space) for p in each.iter(paragraph)) for each in cells)
        elif node.tag == paragraph:
            if text := _text(node, space):
                yield text
            # Text boxes belong to a paragraph and contain paragraphs.
            inside = [each for each in node.iter(paragraph) if each is not node and _nearest(each, paragraph) is node]
            stack.extend(reversed(inside))
        else:
            stack.extend(reversed(node))


def _nearest(node: Any, tag: str) -> Any:
    return next(node.iterancestors(tag), None)


def _text(paragraph: Any, space: str) -> str:
    """Text of a paragraph, without nested paragraphs and deleted text."""
    pieces: list[str] = []
    for node in paragraph.iter(f"{space}t", f"{space}tab", f"{space}br", f"{space}cr", f"{space}noBreakHyphen"):
        if _nearest(node, f"{space}p") is not paragraph or not _shown(node, space):
            continue
        kind = node.tag.removeprefix(space)
        pieces.append({"t": node.text or "", "tab": "\t", "noBreakHyphen": "-"}.get(kind, "\n"))
    return "".join(pieces)


def _shown(node: Any, space: str) -> bool:
    """Whether a node is visible: neither hidden nor the origin of moved text."""
    run = _nearest(node, f"{space}r")
    hidden = run is not None and run.find(f"{space}rPr/{space}vanish") is not None
    return not hidden and _nearest(node, f"{space}moveFrom") is None
