"""Folds a text to the letters and digits that a reader sees.

Folded, according to the Unicode standard: compatibility forms (NFKC), diacritics, invisible characters
(Default_Ignorable_Code_Point: zero-width characters, bidirectional controls, variation selectors, tags), digits of all
scripts, dashes, spaces, and letters that look like Latin ones (UTS #39, confusables.txt, from `confusable_homoglyphs`).
Letters of other scripts stay, in lower case. ASCII is never changed, so that an ASCII text is its own folding.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable

from confusable_homoglyphs.confusables import confusables_data

from guardrails.views import Change, View

_SCANNED = (range(0x80, 0x20000), range(0xE0000, 0xE0200))
"""Unicode blocks with characters to fold."""
_INVISIBLE = re.compile(
    "[\x80-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of DerivedCoreProperties.txt, and the C1 controls."""
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""Diacritics. Vowel signs of other scripts are letters and stay."""
_ALIKE = ("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU", "MATHEMATICAL", "ROMAN", "MODIFIER")
"""Scripts whose letters are folded to similar Latin ones."""
_NAMED = re.compile(r"LATIN (?:(SMALL|CAPITAL) )?LETTER (SMALL CAPITAL )?([A-Z])(?: WITH [A-Z ]+)?")
_ENCLOSED = (0x1F130, 0x1F150, 0x1F170, 0x1F1E6)
"""Squared, negative circled, negative squared letters and regional indicators: A to Z each."""
_PUNCTUATION = {
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032\u02b9\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"'),
    **dict.fromkeys("\u00b7\u2022\u2219\u22c5\u30fb\u2024", "."),
    **dict.fromkeys("\u2212\u02d7\u2043", "-"),
    **dict.fromkeys("\u2044\u2215\u29f8", "/"),
    **dict.fromkeys("\u2236\ua789\u02d0", ":"),
    **dict.fromkeys("\u0085\u2028\u2029", "\n"),
    **dict.fromkeys("\u1680\u2800", " "),
    "\u00df": "ss",
    "\u1e9e": "SS",
}


def _look(char: str) -> str | None:
    """The ASCII letter that a letter resembles."""
    name = unicodedata.name(char, "")
    if not name.startswith(_ALIKE):
        return None
    alike = [one["c"] for one in confusables_data.get(char, ()) if len(one["c"]) == 1 and one["c"].isascii()]
    letters = [one for one in alike if one.isalpha()]
    if letters:
        # The prototype of I, l, 1 and | is "l": what is a capital, as the Cyrillic and Greek I, is an I.
        return "I" if letters[0] == "l" and char.isupper() else letters[0]
    if named := _NAMED.fullmatch(name):
        return named[3] if named[1] == "CAPITAL" and not named[2] else named[3].lower()
    return None


def _folded(char: str) -> str:
    if char in _PUNCTUATION:
        return _PUNCTUATION[char]
    if _INVISIBLE.match(char) or _MARKS.match(char):
        return ""
    category = unicodedata.category(char)
    if (digit := unicodedata.digit(char, None)) is not None:
        return str(digit)
    if category == "Pd":
        return "-"
    if category == "Zs":
        return " "
    for first in _ENCLOSED:
        if first <= ord(char) < first + 26:
            return chr(ord("A") + ord(char) - first)
    form = unicodedata.normalize("NFKC", char)
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", char))
    if plain.isascii() and plain.strip():
        # Signs such as "No." in one character are no letters of a word beside them, nor are ordinals of a number.
        return char if char in "\u00aa\u00ba" or (len(plain) > 1 and category == "So" and plain.isalpha()) else plain
    if category[0] in "LNS":
        base = plain if len(plain) == 1 and not "\u1100" <= plain <= "\u11ff" else char
        return _look(char) or _look(base) or (base if base != char else form).lower()
    return form


FOLDED: dict[str, str] = {
    char: folded
    for block in _SCANNED
    for char in map(chr, block)
    if unicodedata.category(char) not in ("Cn", "Cs", "Co") or _INVISIBLE.match(char)
    if (folded := _folded(char)) != char
}
"""Folding by character, for all characters that change."""
_ANY = re.compile("[" + "".join(map(re.escape, FOLDED)) + "]")
_FEW = 64
_HIDING = frozenset(map(chr, (0x202E, *range(0xFE00, 0xFE10), *range(0xE0000, 0xE0200))))
_TAGS = re.compile("[\U000e0020-\U000e007e]+")
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_OVERRIDE = re.compile("\u202e([^\u202a-\u202e\u2028\u2029\n]+)")


def fold(view: View) -> View:
    """The folded text."""
    text = view.text
    if text.isascii():
        return view
    there = FOLDED.keys() & set(text)
    if not there:
        return view
    if len(there) <= _FEW and all(len(FOLDED[char]) == 1 for char in there):
        for char in there:
            text = text.replace(char, FOLDED[char])
        return view.same_length(text)
    return view.changed((match.start(), match.end(), FOLDED[match[0]]) for match in _ANY.finditer(text))


def forms(char: str) -> list[str]:
    """Foldings of a letter's small and capital forms, in lower case. Other characters have one form, or none.

    A capital may look like a Latin letter where the small letter does not: the Cyrillic "\u0412" is folded to "B", and
    "\u0432" is not folded.
    """
    cases = (char, char.lower(), char.upper(), char.upper().lower())
    folded = dict.fromkeys("".join(FOLDED.get(one, one) for one in case).lower() for case in cases)
    return [form for form in folded if form]


def pattern(expression: str) -> str:
    """A case-insensitive expression, changed to match folded texts."""
    return "".join(
        part if part.isascii() else _class(part) if part[0] == "[" else _any_form(part)
        for part in _PARTS.findall(expression)
    )


_PARTS = re.compile(r"\\.|\[(?:\\.|[^\]\\])+\]|.", re.DOTALL)
"""Tokens of an expression: escapes, classes, characters."""


def _any_form(char: str) -> str:
    # An alternation instead of a class: Hyperscan matches bytes, and such a letter has several.
    found = [re.escape(form) for form in forms(char)]
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


def _class(expression: str) -> str:
    return "".join(char if char.isascii() else "".join(forms(char)) for char in expression)


def hidden(view: View) -> list[View]:
    """Hidden texts: in tags, in variation selectors, and in reversed direction."""
    text = view.text
    found: list[View] = []
    if _HIDING.isdisjoint(set(text)):
        return found
    if _TAGS.search(text):
        found.append(view.changed(_only(_TAGS.finditer(text), len(text), _of_tags)))
    if _SELECTORS.search(text):
        found.append(view.changed(_only(_SELECTORS.finditer(text), len(text), _of_selectors)))
    for match in list(_OVERRIDE.finditer(text))[:_OVERRIDES]:
        start, end = match.span(1)
        found.append(View(text[start:end], *_places(view, start, end)).reversed(0, end - start))
    return found


_OVERRIDES = 64


def _places(view: View, start: int, end: int) -> tuple[array[int], array[int]]:
    spans = [view.span(place, place + 1) for place in range(start, end)]
    return array("I", (first for first, _ in spans)), array("I", (last for _, last in spans))


def _of_tags(text: str) -> Iterable[str]:
    return (chr(ord(char) - 0xE0000) for char in text)


def _of_selectors(text: str) -> Iterable[str]:
    # One byte each: U+FE00 to U+FE0F are 0 to 15, U+E0100 to U+E01EF are 16 to 255.
    numbers = (ord(char) - 0xFE00 if char < "\U000e0000" else ord(char) - 0xE0100 + 16 for char in text)
    return (chr(number) if 32 <= number < 127 else "\n" for number in numbers)


def _only(matches: Iterable[re.Match[str]], length: int, decode: Callable[[str], Iterable[str]]) -> Iterable[Change]:
    """Changes that keep the hidden text only."""
    place = 0
    for match in matches:
        yield place, match.start(), ""
        yield from ((match.start() + n, match.start() + n + 1, char) for n, char in enumerate(decode(match[0])))
        place = match.end()
    yield place, length, ""
