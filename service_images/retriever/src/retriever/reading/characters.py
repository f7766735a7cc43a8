"""Bytes to characters, and one form of each character, for texts and for queries.

Source of decoding: WHATWG Encoding Standard; its labels are those of the package webencodings.
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
"""What PostgreSQL or UTF-8 cannot hold."""
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
"""Soft hyphen, zero width space, word joiner, byte order mark: shown by nobody, and no part of a word."""
_KEPT_FORMS = ("<super>", "<sub>", "<fraction>", "<circle>", "<square>")
"""Compatibility forms that mean something else than the plain characters: x², ½, ①."""


def decode(content: bytes, declared: str = "", fallback: str = "") -> str:
    """Text of bytes: by a byte order mark, as `declared` (a label), as UTF-8, else as `fallback`. Raises Unreadable."""
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
        raise Unreadable("it is not UTF-8, nor UTF-16 with a byte order mark: save it as UTF-8") from None


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable(f"it begins as {encoding.upper()} and is not: save it as UTF-8") from None


def _known(label: str) -> str:
    """Python's name of an encoding; empty: the label is unknown."""
    import webencodings

    found = webencodings.lookup(label)
    if found is None:
        return ""
    # A page that could be read up to this label is not UTF-16, whatever it says.
    return "utf-8" if found.name.startswith("utf-16") else found.codec_info.name


def normal(text: str) -> str:
    """One form of each text that looks the same: NFC, with ligatures and wide letters as plain ones.

    Invisible characters are left out; NUL and surrogates become U+FFFD.
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
    """A table for `str.translate`, filled as characters come."""

    def __missing__(self, code: int) -> str | int:
        return _plain(code)
