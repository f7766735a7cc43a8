# ruff: noqa: SIM905
"""HTML as a browser renders it, parsed by Lexbor (package selectolax), which follows the HTML standard.

Hidden content is left out: elements that browsers never render, and those with `hidden` or an inline style that hides
them. Style sheets are not evaluated. White space follows `innerText`.
Source: HTML Living Standard, "15.3.1 Hidden elements", "The innerText getter steps".
"""

from __future__ import annotations

import re
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from retriever.reading import characters

_HIDDEN = frozenset(
    "area audio base basefont canvas colgroup datalist embed frame frameset head iframe link meta noembed noframes "
    "noscript object param rp script source style template title track video desc metadata defs symbol".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li listing main menu nav ol optgroup option p "
    "plaintext pre search section summary table tbody tfoot thead tr ul xmp".split()
)
_APART = frozenset(("p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote", "pre", "section"))
"""Blocks between empty lines, where passages may be split."""
_CELLS = frozenset(("td", "th"))
_INLINE_BLOCKS = frozenset(("button", "select", "textarea", "input", "img"))
"""Elements that separate words."""
_AS_WRITTEN = frozenset(("pre", "textarea", "listing", "xmp", "plaintext"))
_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))\b", re.I)
_META = re.compile(rb"""<meta\s[^>]{0,500}?charset\s*=\s*["']?\s*([A-Za-z0-9._:-]{1,40})""", re.I)
_COMMENT = re.compile(rb"<!--.*?-->", re.S)
_SNIFFED_BYTES = 1024
_SPACES = re.compile(r"[ \t\n\f\r]+")


def html(content: bytes, declared: str = "") -> str:
    """Text of a page. `declared`: label of the encoding from outside the page, which has priority over its own."""
    start = _COMMENT.sub(b"", content[:_SNIFFED_BYTES])
    if not declared and (found := _META.search(start)):
        declared = found[1].decode()
    page = LexborHTMLParser(characters.decode(content, declared, "cp1252").replace("\0", "\ufffd"))
    written = _Written()
    _walk(page.root, written)
    return written.text()


class _Written:
    """Output so far, with collapsed white space. Adjacent line breaks are merged."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._breaks = 0
        self._space = ""

    def words(self, text: str, *, as_written: bool) -> None:
        if as_written:
            self._flush()
            self._pieces.append(text)
            return
        for place, word in enumerate(_SPACES.split(text)):
            if place:
                self._space = self._space or " "
            if word:
                self._flush()
                self._pieces.append(word)

    def lines(self, number: int) -> None:
        """Put at least this number of line breaks before the next word."""
        self._breaks, self._space = max(self._breaks, number), ""

    def apart(self, space: str) -> None:
        self._space = space

    def newline(self) -> None:
        self._flush()
        self._pieces.append("\n")

    def _flush(self) -> None:
        if self._breaks:
            self._pieces.append("\n" * self._breaks)
        elif self._space:
            self._pieces.append(self._space)
        self._breaks, self._space = 0, ""

    def text(self) -> str:
        return "".join(self._pieces).strip("\n")


def _shown(node: Any) -> bool:
    if node.tag in _HIDDEN:
        return False
    attributes = node.attributes
    if "hidden" in attributes or (node.tag == "dialog" and "open" not in attributes):
        return False
    return not _STYLE.search(attributes.get("style") or "")


def _walk(root: Any, written: _Written) -> None:
    """Traverse without recursion, since pages can be nested to any depth."""
    node, preformatted = root, 0
    while node is not None:
        child = None
        if node.is_text_node:
            written.words(node.text_content or "", as_written=preformatted > 0)
        elif node.is_element_node and (node.tag in ("html", "body") or _shown(node)):
            _open(node, written)
            preformatted += node.tag in _AS_WRITTEN
            child = node.first_child
            if child is None:
                preformatted -= node.tag in _AS_WRITTEN
                _close(node, written)
        elif not node.is_element_node:
            child = node.first_child  # the document node itself
        if child is not None:
            node = child
            continue
        while node is not None and node.next is None:
            node = node.parent
            if node is not None and node.is_element_node:
                preformatted -= node.tag in _AS_WRITTEN
                _close(node, written)
        node = node.next if node is not None else None


def _open(node: Any, written: _Written) -> None:
    tag = node.tag
    if tag == "br":
        written.newline()
    elif tag in _BLOCKS:
        written.lines(2 if tag in _APART else 1)
    elif tag in _INLINE_BLOCKS:
        written.apart(" ")


def _close(node: Any, written: _Written) -> None:
    tag = node.tag
    if tag in _BLOCKS:
        written.lines(2 if tag in _APART else 1)
    elif tag in _CELLS:
        written.apart("\t")
    elif tag in _INLINE_BLOCKS:
        written.apart(" ")
