"""PDF, with pypdf. Streams are decompressed up to a limit; a page with a larger stream makes the file unreadable."""

from __future__ import annotations

import io

from pypdf import PdfReader, overwrite_configuration
from pypdf.errors import LimitReachedError

from retriever.reading.errors import Unreadable

PAGES = 5000
STREAM_BYTES = 16 * 2**20
"""Maximum bytes of a decompressed stream."""
_LIMITS = {
    f"{name}_maximum_output_length": STREAM_BYTES
    for name in ("array_based_stream", "jbig2", "lzw", "run_length", "zlib", "brotli")
}


def pdf(content: bytes, characters: int) -> str:
    """Text of all pages, up to `characters` characters."""
    overwrite_configuration(**_LIMITS)
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable("the file is encrypted: save it without a password")
    if len(reader.pages) > PAGES:
        raise Unreadable(f"the file has {len(reader.pages)} pages; the maximum is {PAGES}: split it")
    pieces: list[str] = []
    size = 0
    for number, page in enumerate(reader.pages, 1):
        try:
            pieces.append(page.extract_text())
        except LimitReachedError:
            limit = f"{STREAM_BYTES // 2**20} MB"
            raise Unreadable(f"page {number}: a stream has more than {limit} after decompression") from None
        size += len(pieces[-1])
        if size > characters:
            raise Unreadable(f"the file has more than {characters} characters: split it")
    return "\n\n".join(pieces)
