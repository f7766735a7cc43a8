"""Generated files of each kind, and files that overload a parser."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any


def pdf(stream: bytes, more: bytes = b"") -> bytes:
    """A PDF of one page with a content stream."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R "
        b"/Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(stream), more, stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    content, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(content)
    content += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return content + b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % table


def pdf_text(text: str) -> bytes:
    """A PDF that shows a text."""
    return pdf(b"BT /F 12 Tf 10 50 Td (%s) Tj ET" % text.encode())


def pdf_bomb(megabytes: int = 90) -> bytes:
    """A PDF of about 93 KB with a stream that is a thousand times as large after decompression."""
    compressor = zlib.compressobj(9)
    piece = b"BT /F 12 Tf 10 50 Td (A) Tj ET\n" * 32768
    content = b"".join(compressor.compress(piece) for _ in range(megabytes)) + compressor.flush()
    return pdf(content, b"/Filter /FlateDecode")


def office_bomb(kind: str, megabytes: int = 100) -> bytes:
    """An Office file with a part of this size after unpacking."""
    made = {"docx": word, "pptx": slides, "xlsx": sheet}[kind]("x")
    file = io.BytesIO(made)
    names = {"docx": "word/media.xml", "pptx": "ppt/media.xml", "xlsx": "xl/media.xml"}
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(names[kind], "w") as part:
        for _ in range(megabytes):
            part.write(b" " * 2**20)
    return file.getvalue()


def _saved(document: Any) -> bytes:
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def word(text: str) -> bytes:
    """A Word file: a header, a paragraph, a table of Quito and Ecuador."""
    import docx

    document = docx.Document()
    document.add_paragraph(text)
    table = document.add_table(1, 2)
    table.cell(0, 0).text, table.cell(0, 1).text = "Quito", "Ecuador"
    document.sections[0].header.paragraphs[0].text = "Head of the page"
    return _saved(document)


def slides(text: str) -> bytes:
    """A PowerPoint file: one slide with a title, a text and notes."""
    import pptx

    made = pptx.Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = "Title"
    slide.placeholders[1].text = text
    slide.notes_slide.notes_text_frame.text = "Said aloud"
    return _saved(made)


def sheet(text: str) -> bytes:
    """An Excel file: a row, a cell far away, a hidden sheet."""
    import openpyxl

    book = openpyxl.Workbook()
    assert book.active is not None, "a new book has a sheet"
    book.active.append([text, 1, 2.5, None, True])
    book.active["C5000"] = "far away"
    hidden = book.create_sheet("hidden")
    hidden.append(["not shown"])
    hidden.sheet_state = "hidden"
    return _saved(book)
