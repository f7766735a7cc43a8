"""Decodes bytes, and normalizes characters in texts and queries.

Source of decoding: WHATWG Encoding Standard, with the labels of the package webencodings.
"""

from __future__ import annotations

import codecs
import functools
import re
import unicodedata

from retriever.reading.errors import Unreadable

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_XML = re.compile(rb"""^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_NEVER = re.compile("[\x00\ud800-\udfff]")
"""Characters that PostgreSQL or UTF-8 cannot store."""
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
"""Soft hyphen, zero width space, word joiner, byte order mark: invisible, and not part of a word."""
_KEPT_FORMS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
"""Compatibility characters whose meaning differs from the plain characters: x², ½, ①."""


def decode(content: bytes, declared: str = "", fallback: str = "") -> str:
    """Decode by a byte order mark, as `declared` (a label), as UTF-8, or as `fallback`. Raises Unreadable."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _decoded(content[len(mark) :], encoding)
    if (found := _XML.match(content)) and not declared:
        declared = found[1].decode()
    if declared and (encoding := _known(declared)):
        return content.decode(encoding, "replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        if fallback:
            return content.decode(fallback, "replace")
        raise Unreadable("the file is neither UTF-8 nor UTF-16 with a byte order mark: save it as UTF-8") from None


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable(f"the file is not {encoding.upper()}, but begins with its mark: save it as UTF-8") from None


def _known(label: str) -> str:
    """Python's name of an encoding; empty for an unknown label."""
    import webencodings

    found = webencodings.lookup(label)
    if found is None:
        return ""
    # A page whose label could be read in ASCII is not UTF-16, whatever the label says.
    return "utf-8" if found.name.startswith("utf-16") else found.codec_info.name


def normal(text: str) -> str:
    """Normalize a text: NFC, and plain characters for ligatures and wide letters.

    Removes invisible characters. Replaces NUL and surrogates with U+FFFD.
    """
    if text.isascii() and "\0" not in text:
        return text
    text = _NEVER.sub("\ufffd", text).translate(_INVISIBLE)
    folded = text.translate(_Plain())
    return unicodedata.normalize("NFC", folded)


@functools.cache
def _plain(code: int) -> str | int:
    form = unicodedata.decomposition(chr(code)).partition(" ")[0]
    if not form.startswith("<") or form in _KEPT_FORMS:
        return code
    return unicodedata.normalize("NFKC", chr(code))


class _Plain(dict[int, str | int]):
    """A table for `str.translate` that computes entries on first use."""

    def __missing__(self, code: int) -> str | int:
        return _plain(code)
