"""Readings of a text: decodes encoded, spelled out or disguised parts.

Each reading has a hint, which Hyperscan searches together with the detectors' hints, so that ordinary texts have no
extra cost. A reading creates views of the text, which are scanned like texts.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from guardrails.folding import pattern
from guardrails.hints import Part
from guardrails.views import Change, View


@dataclass(frozen=True)
class Reading:
    """A way to read a text."""

    hint: str
    """Expression for Hyperscan."""
    views: Callable[[View], Iterable[View]]
    disguise: bool = False
    """Whether only words count in its views, and no other findings."""
    part: Part = Part.WORDS
    """Database of the hint."""


# --- characters written as escapes ----------------------------------------------------------------

_ESCAPE = re.compile(
    r"&#[xX](?P<hex>[0-9a-fA-F]{1,6});?|&#(?P<number>[0-9]{1,7});?|&(?P<name>[A-Za-z]{2,31});|(?P<url>(?:%[0-9A-Fa-f]{2})+)"
    r"|\\u\{(?P<brace>[0-9a-fA-F]{1,6})\}|(?P<unit>(?:\\u[0-9a-fA-F]{4})+)|\\U(?P<wide>[0-9a-fA-F]{8})"
    r"|\\x(?P<byte>[0-9a-fA-F]{2})|\\(?P<plain>[nrtbf\"'/\\])"
    r"|(?P<at> ?[\[({<] ?(?:at|@) ?[\])}>] ?)|(?P<dot> ?[\[({<] ?(?:dot|\.) ?[\])}>] ?)",
    re.IGNORECASE,
)
_ESCAPE_HINT = (
    r"&#[xX]?[0-9a-fA-F]|&[A-Za-z]{2,31};|%[0-9A-Fa-f]{2}|\\[uU][0-9a-fA-F{]|\\x[0-9a-fA-F]{2}|\\[\"'/\\]"
    r"|(?i)[\[({<] ?(?:at|@|dot|\.) ?[\])}>]"
)
_PLAIN = {"n": "\n", "r": "\n", "t": " ", "b": " ", "f": " "}


def _number(digits: str, base: int) -> str:
    value = int(digits, base)
    return chr(value) if value < 0x110000 else "\ufffd"


def _unescaped(match: re.Match[str]) -> str:
    kind, value = match.lastgroup or "", match[match.lastgroup or 0]
    if kind in ("hex", "brace", "wide", "byte"):
        return _number(value, 16)
    if kind == "number":
        return _number(value, 10)
    if kind == "name":
        return html.unescape(match[0])
    if kind == "url":
        return bytes.fromhex(value.replace("%", "")).decode("utf-8", "replace")
    if kind == "unit":
        return bytes.fromhex(value.replace("\\u", "")).decode("utf-16-be", "surrogatepass")
    return {"at": "@", "dot": "."}.get(kind) or _PLAIN.get(value, value)


def _escapes(view: View) -> Iterator[View]:
    def changes() -> Iterator[Change]:
        for match in _ESCAPE.finditer(view.text):
            new, start = _unescaped(match), match.start()
            width = len(match[0]) // len(new) if new else 0
            if len(new) > 1 and width * len(new) == len(match[0]) and width in (3, 6):
                yield from ((start + n * width, start + (n + 1) * width, char) for n, char in enumerate(new))
            elif new != match[0]:
                yield *match.span(), new

    yield view.changed(changes())


_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]+")


def _without_controls(view: View) -> Iterator[View]:
    yield view.changed((*match.span(), "") for match in _CONTROLS.finditer(view.text))


# --- encoded texts --------------------------------------------------------------------------------

BLOB_HINT = r"[A-Za-z0-9+/_\-]{20}"
_BLOB = re.compile(r"[A-Za-z0-9+/_-]{20,}(?:[ \t\r]*\n[A-Za-z0-9+/_-]{4,})*={0,2}")
_PIECE = re.compile(r"[A-Za-z0-9+/]{20,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}(?:[ :,]|\\x|0x)*){12,}")
_ALL_HEX = re.compile(r"[0-9a-fA-F]+")
_SPACES = re.compile(r"\s+")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")


def _text_of(content: bytes) -> str:
    """Text of decoded bytes; empty if they are not text."""
    try:
        wide = len(content) > 8 and not any(content[1:16:2])
        text = content.decode("utf-16-le" if wide else "utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if _UNPRINTABLE.search(text) else text


def _decoded(blob: str) -> str:
    blob = _SPACES.sub("", blob)
    if len(blob) % 2 == 0 and _ALL_HEX.fullmatch(blob) and (text := _text_of(bytes.fromhex(blob))):
        return text
    blob = blob.rstrip("=").replace("-", "+").replace("_", "/")
    # An incomplete end of a truncated text is left out.
    blob = blob[: len(blob) - 1] if len(blob) % 4 == 1 else blob
    try:
        return _text_of(base64.b64decode(blob + "=" * (-len(blob) % 4)))
    except (binascii.Error, ValueError):
        return ""


def _blobs(view: View) -> Iterator[View]:
    def changes() -> Iterator[Change]:
        for match in _BLOB.finditer(view.text):
            if text := _decoded(match[0]):
                yield *match.span(), text
                continue
            for piece in _PIECE.finditer(view.text, *match.span()):
                if piece.span() != match.span() and (text := _decoded(piece[0])):
                    yield *piece.span(), text

    if found := list(changes()):
        yield view.changed(found)


def _hex(view: View) -> Iterator[View]:
    def changes() -> Iterator[Change]:
        for match in _HEX.finditer(view.text):
            digits = re.sub(r"[ :,]|\\x|0x", "", match[0])
            if len(digits) % 2 == 0 and (text := _text_of(bytes.fromhex(digits))):
                yield *match.span(), text

    if found := list(changes()):
        yield view.changed(found)


# --- numbers in words -----------------------------------------------------------------------------

_WORDS = (
    "zero one two three four five six seven eight nine",
    "null eins zwei drei vier funf sechs sieben acht neun",
    "zero un deux trois quatre cinq six sept huit neuf",
    "cero uno dos tres cuatro cinco seis siete ocho nueve",
)
_DIGIT = {word: str(digit) for words in _WORDS for digit, word in enumerate(words.split())} | {"oh": "0"}
_HAN = {char: str(digit) for digit, char in enumerate("零一二三四五六七八九")} | {"〇": "0"}
SAID = rf"(?:double |triple )?(?:{'|'.join(sorted(_DIGIT, key=len, reverse=True))})"
_SPELLED = re.compile(rf"(?i)\b{SAID}(?:[\s,.\-]{{1,3}}{SAID}\b){{7,}}|[{''.join(_HAN)}]{{8,}}")
_SPELLED_HINT = rf"(?i)(?:{SAID}[\s,.\-]{{1,3}}){{3}}|(?:{'|'.join(_HAN)}){{8}}"
"""The hint matches three words instead of seven, which would add 0.3 s to 0.4 s to the build of the database."""
_ONE = re.compile(
    rf"(?i)(double |triple )?(?:({'|'.join(sorted(_DIGIT, key=len, reverse=True))})\b|([{''.join(_HAN)}]))"
)


def _spelled(view: View) -> Iterator[View]:
    def changes() -> Iterator[Change]:
        for run in _SPELLED.finditer(view.text):
            place = run.start()
            for match in _ONE.finditer(view.text, *run.span()):
                if place < match.start():
                    yield place, match.start(), ""
                digit = _DIGIT[match[2].lower()] if match[2] else _HAN[match[3]]
                yield *match.span(), digit * {"d": 2, "t": 3}.get((match[1] or "").lower()[:1], 1)
                place = match.end()

    if found := list(changes()):
        yield view.changed(found)


# --- disguised words ------------------------------------------------------------------------------

_BROKEN = ("ignore", "disregard", "forget", "override", "bypass", "previous", "instruction", "prompt", "directive")
_BETWEEN = r"[\W_]{0,3}"
_BROKEN_HINT = "(?i)" + "|".join(_BETWEEN.join(word) for word in _BROKEN)
_BROKEN_WORD = re.compile(_BROKEN_HINT)
_AROUND = 200
_NO_LETTERS = re.compile(r"[^A-Za-z]+")


def _joined(view: View) -> Iterator[View]:
    """Views of words with separators between their letters: the letters alone."""
    end = 0
    for match in _BROKEN_WORD.finditer(view.text):
        if match[0].isalpha() or match.end() <= end:
            continue
        start, end = max(end, match.start() - _AROUND), match.end() + _AROUND
        around = view.changed(((0, start, ""), (end, len(view.text), ""))) if end < len(view.text) or start else view
        yield around.changed((*gap.span(), "") for gap in _NO_LETTERS.finditer(around.text))


_LEET = str.maketrans("0134579@$!|", "oieastgasii")
_SIGNS = {"o": "o0", "i": "i1!|", "l": "l1!|", "e": "e3", "a": "a4@", "s": "s5$", "t": "t7", "g": "g9"}
_LEET_HINT = "(?i)" + "|".join(
    "".join(f"[{_SIGNS[letter]}]" if letter in _SIGNS else letter for letter in word)
    for word in (
        "ignore",
        "disregard",
        "forget",
        "override",
        "previous",
        "instructions",
        "prompt",
        "jailbreak",
        "reveal",
    )
)
_LEET_WORD = re.compile(_LEET_HINT)
_AS_L = {"aii": "all", "ruies": "rules", "guideiines": "guidelines", "fuii": "full", "reveai": "reveal",
         "jaiibreak": "jailbreak"}  # fmt: skip
"""Words in which the sign for i means l."""
_L = re.compile(rf"(?i)\b(?:{'|'.join(_AS_L)})\b")


def _leet(view: View) -> Iterator[View]:
    if all(match[0].isalpha() for match in _LEET_WORD.finditer(view.text)):
        return
    text = view.text.translate(_LEET)
    yield view.same_length(_L.sub(lambda match: _AS_L[match[0].lower()], text))


_ROT13 = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm"
)


def _rot13(view: View) -> Iterator[View]:
    yield view.same_length(view.text.translate(_ROT13))


def _backwards(view: View) -> Iterator[View]:
    yield view.reversed(0, len(view.text))


READINGS: tuple[Reading, ...] = (
    Reading(_ESCAPE_HINT, _escapes),
    Reading("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f]", _without_controls),
    Reading(BLOB_HINT, _blobs),
    Reading(r"(?:[0-9a-fA-F]{2}(?:[ :,]|\\x|0x)){11}", _hex, part=Part.PAIRS),
    Reading(pattern(_SPELLED_HINT), _spelled),
    Reading(_BROKEN_HINT, _joined, disguise=True, part=Part.LETTERS),
    Reading(_LEET_HINT, _leet, disguise=True),
    Reading(r"(?i)vtaber|qvfertneq|vafgehpgvba|cerivbhf|flfgrz cebzcg", _rot13, disguise=True),
    Reading(r"(?i)erongi|drager?sid|noitcurtsni|suoiverp|tpmorp", _backwards, disguise=True),
)
