"""Finds card, bank account and telephone numbers at any position in a row of digits."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers
from stdnum import iban as stdnum_iban
from stdnum import numdb

from guardrails.checks import Span, Spans, alnum_at, digits_of
from guardrails.folding import pattern

_GROUP = re.compile(r"\d+")
_FRACTION_BEFORE = re.compile(r"\d[.,]\Z")
_FRACTION_AFTER = re.compile(r"[.,]\d")
_WORD_BEFORE = re.compile(r"(?:\A|[^A-Za-z0-9])[A-Za-z]*[G-Zg-z][A-Za-z]*\Z")
_WORD_AFTER = re.compile(r"[A-Za-z]*[G-Zg-z][A-Za-z]*")
_SIXTEEN = frozenset((16,))
_TO_NINETEEN = frozenset((16, 17, 18, 19))
_MAESTRO = frozenset(range(12, 20))
NETWORKS: tuple[tuple[int, int, frozenset[int]], ...] = (
    (1, 1, frozenset((15,))),  # UATP
    (2014, 2014, frozenset((15,))),  # Diners Club enRoute
    (2149, 2149, frozenset((15,))),  # Diners Club enRoute
    (2200, 2204, _TO_NINETEEN),  # Mir
    (2205, 2205, _SIXTEEN),  # BORICA
    (2221, 2720, _SIXTEEN),  # Mastercard
    (300, 305, frozenset((14, 16, 17, 18, 19))),  # Diners Club
    (3095, 3095, frozenset((14, 16, 17, 18, 19))),  # Diners Club
    (34, 34, frozenset((15,))),  # American Express
    (3528, 3589, _TO_NINETEEN),  # JCB
    (36, 36, frozenset(range(14, 20))),  # Diners Club
    (37, 37, frozenset((15,))),  # American Express
    (38, 39, frozenset((14, 16, 17, 18, 19))),  # Diners Club
    (4, 4, frozenset((13, 16, 19))),  # Visa, with Dankort 4571 and LankaPay's co-badged cards
    (5018, 5018, _MAESTRO),
    (5019, 5019, _SIXTEEN),  # Dankort
    (5020, 5020, _MAESTRO),
    (5038, 5038, _MAESTRO),
    (506099, 506198, frozenset((16, 18, 19))),  # Verve
    (506221, 506221, _SIXTEEN),  # Carnet
    (507865, 507964, frozenset((16, 18, 19))),  # Verve
    (508, 508, _SIXTEEN),  # RuPay
    (509, 509, _SIXTEEN),  # Elo
    (51, 55, _SIXTEEN),  # Mastercard
    (5610, 5610, _SIXTEEN),  # Bankcard
    (5614, 5614, _SIXTEEN),  # Uzcard
    (5612, 5612, _MAESTRO),
    (5893, 5893, _MAESTRO),
    (60, 60, _SIXTEEN),  # RuPay, Hipercard 606282, NPS Pridnestrovie 6054
    (60400100, 60420099, _TO_NINETEEN),  # UkrCard
    (6011, 6011, _TO_NINETEEN),  # Discover
    (62, 62, _TO_NINETEEN),  # UnionPay, with Discover's 622126 to 622925
    (6304, 6304, _MAESTRO),
    (6334, 6334, frozenset((16, 18, 19))),  # Solo
    (636, 639, _TO_NINETEEN),  # InterPayment, InstaPayment, Elo, Cabal
    (644, 649, _TO_NINETEEN),  # Discover
    (65, 65, _TO_NINETEEN),  # Discover, RuPay, Elo, Verve, Troy
    (6759, 6759, _MAESTRO),
    (6761, 6763, _MAESTRO),
    (6767, 6767, frozenset((16, 18, 19))),  # Solo
    (6706, 6706, frozenset((16, 17, 18, 19))),  # Laser
    (6709, 6709, frozenset((16, 17, 18, 19))),  # Laser
    (6771, 6771, frozenset((16, 17, 18, 19))),  # Laser
    (81, 82, _TO_NINETEEN),  # UnionPay 8100 to 8171, RuPay
    (8600, 8600, _SIXTEEN),  # Uzcard
    (9792, 9792, _SIXTEEN),  # Troy
    (9860, 9860, _SIXTEEN),  # Humo
)
"""Prefixes and lengths by network. Source: ISO/IEC 7812-1, and the networks' published ranges."""
_BY_FIRST: dict[str, list[tuple[int, int, int, frozenset[int]]]] = {}
for _low, _high, _lengths in NETWORKS:
    for _first in range(int(str(_low)[0]), int(str(_high)[0]) + 1):
        _BY_FIRST.setdefault(str(_first), []).append((len(str(_low)), _low, _high, _lengths))
_GROUPINGS = (
    *((4, 4, 4, 4, 3), (6, 13), (4, 4, 4, 4, 2), (4, 4, 4, 4, 1)),
    *((4, 4, 4, 4), (8, 8), (6, 10), (6, 4, 6), (4, 12), (12, 4), (4, 4, 8), (8, 4, 4), (4, 8, 4)),
    *((4, 6, 5), (4, 5, 6), (4, 4, 4, 3), (4, 6, 4), (4, 4, 4, 2), (4, 4, 4, 1), (4, 4, 5)),
)
"""Number of digits per group, as printed by networks and written by people; longest first."""
_BY_SIZES: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
"""Groupings by the lengths of their first two groups, which most rows of digits do not match."""
for _grouping in _GROUPINGS:
    _BY_SIZES.setdefault(_grouping[:2], []).append(_grouping)
_LONGEST_ROW = 40


_SINGLE = bytes(range(10)).rjust(58, b"\0").ljust(256, b"\0")
_DOUBLED = bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)).rjust(58, b"\0").ljust(256, b"\0")
"""Luhn value of each ASCII digit."""


def _luhn(number: str) -> bool:
    """Luhn check of ISO/IEC 7812-1, annex B. stdnum's implementation is many times slower."""
    digits = number.encode()
    return not (sum(digits[-1::-2].translate(_SINGLE)) + sum(digits[-2::-2].translate(_DOUBLED))) % 10


def is_card(number: str) -> bool:
    """Whether a number has the prefix and length of a known network, and a valid check digit."""
    length = len(number)
    for width, low, high, lengths in _BY_FIRST.get(number[0], ()):
        if length in lengths and low <= int(number[:width]) <= high:
            return _luhn(number)
    return False


def card(text: str, start: int, end: int) -> Spans:
    """Card numbers in a row of digits: whole groups in a grouping of cards, or the whole row.

    A valid check digit decides, independent of surrounding words and numbers.
    """
    groups = [match.span() for match in _GROUP.finditer(text, start, end)]
    sizes = tuple([last - first for first, last in groups])
    found: list[Span] = []
    place = 0
    while place < len(groups):
        span = _card_from(text, groups, sizes, place)
        if span is not None:
            found.append(span)
            while place < len(groups) and groups[place][0] < span[1]:
                place += 1
        else:
            place += 1
    if not found and 1 < len(groups) <= _LONGEST_ROW:
        first, last = groups[0][0], groups[-1][1]
        fraction = len(groups) == 2 and text[groups[0][1] : groups[1][0]] == "."
        if not fraction and _is_card(text, first, last, digits_of(text[first:last])):
            found.append((first, last))
    return found


def _card_from(text: str, groups: list[Span], sizes: tuple[int, ...], place: int) -> Span | None:
    start, end = groups[place]
    if 12 <= sizes[place] <= 19 and _is_card(text, start, end, text[start:end]):
        return start, end
    mixed: Span | None = None
    for grouping in _BY_SIZES.get(sizes[place : place + 2], ()):
        last = place + len(grouping)
        if sizes[place:last] == grouping:
            end = groups[last - 1][1]
            digits = [text[first:behind] for first, behind in groups[place:last]]
            if text.count("\n", start, end) > 1 or not _is_card(text, start, end, "".join(digits)):
                continue
            between = text[groups[place][1] : groups[place + 1][0]]
            if between.join(digits) == text[start:end]:
                return start, end
            mixed = mixed or (start, end)
    return mixed


def _is_card(text: str, start: int, end: int, number: str) -> bool:
    if not 12 <= len(number) <= 19 or number[0] == number[-1] == "0" or not is_card(number):
        return False
    spread = len(number) < end - start
    if not spread and (_FRACTION_BEFORE.search(text[max(0, start - 2) : start]) or _FRACTION_AFTER.match(text, end)):
        return False
    before = alnum_at(text, start - 1) and not _WORD_BEFORE.search(text[max(0, start - 20) : start])
    if before or not alnum_at(text, end):
        return not before
    after = _WORD_AFTER.match(text, end)
    return after is not None and not text[after.end() : after.end() + 1].isdigit()


def _iban_lengths() -> dict[str, int]:
    known = numdb.get("iban")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    found: dict[str, int] = {}
    for code in (a + b for a in letters for b in letters):
        for part, about in known.info(code):
            if part == code and "bban" in about:
                found[code] = 4 + sum(map(int, re.findall(r"\d+", about["bban"])))
    return found


_IBAN_LENGTH = _iban_lengths()
"""Length of an IBAN by country, from the IBAN registry (ISO 13616) in python-stdnum."""


def iban(text: str, start: int, end: int) -> Spans:
    """IBANs with valid country, length and check digits. Preceding letters may be joined, since check digits decide."""
    length = _IBAN_LENGTH.get(text[start : start + 2].upper())
    if length is None or (start and text[start - 1].isdigit()):
        return ()
    number, place = "", start
    while place < end and len(number) < length:
        if text[place].isalnum():
            number += text[place]
        place += 1
    fits = len(number) == length and not alnum_at(text, place) and stdnum_iban.is_valid(number)
    return ((start, place),) if fits else ()


_ID_BEFORE = re.compile(
    r"(?i)(order|invoice|tracking|serial|sku|isbn|ref(erence)?|ticket|case|build|uuid|hash|part)\W*(no|number|id|nr)?\W*$"
)
"""Words after which a number without a check digit is something else."""
_PHONE_BEFORE = re.compile(
    pattern(
        r"(?i)(?:\b(?:tel|telephone|phone|fon|telefon\w*|mobile?|cell|call|fax|handy|whatsapp|sms|dial|movil)\b|电话|電話|전화|тел)[^\n]{0,12}$"
    )
)
_ZEROS = re.compile(r"00[1-9]\d{6,}\Z")
_PARTED = re.compile(r"[ ().\-/]")
REGIONS = ("GB", "DE", "FR", "IT", "ES", "NL", "BR", "IN", "AU", "JP")
"""Countries whose national formats are tried after words such as "phone"."""


def phone(text: str, start: int, end: int) -> Spans:
    """Phone numbers: international, in the North American format, or national after announcing words."""
    before = text[max(0, start - 40) : start]
    if alnum_at(text, start - 1) or (text[start - 1 : start] in (".", "-") and alnum_at(text, start - 2)):
        return ()
    if _ID_BEFORE.search(before[-30:]):
        return ()
    said = _PHONE_BEFORE.search(before) is not None
    for last in _ends(text, start, end):
        value = text[start:last]
        if alnum_at(text, last) or (_FRACTION_AFTER.match(text, last) and text[last] == "."):
            continue
        if _dialled(value, said):
            return (_unbracketed(value, start),)
    return ()


def _unbracketed(value: str, start: int) -> Span:
    """The span without brackets around the number, as in "(212-555-0123)"."""
    inner = value[1:].rstrip(")")
    if value[0] == "(" and ")" not in inner:
        return start + 1, start + 1 + len(inner)
    return start, start + len(value)


def _ends(text: str, start: int, end: int) -> Iterator[int]:
    """Ends of a match's groups, last first."""

    def closed(place: int) -> int:
        open_bracket = text.count("(", start, place) > text.count(")", start, place)
        return place + (open_bracket and text.startswith(")", place))

    ends = [closed(match.end()) for match in _GROUP.finditer(text, start, end)]
    return reversed(ends[-8:])


def _dialled(value: str, said: bool) -> bool:
    parted = bool(_PARTED.search(value.strip()))
    if value.startswith("00"):
        if not (parted or said):
            return False  # plain digits can be anything
        value = "+" + value[2:]
    elif not value.startswith("+") and not (parted or said):
        return False
    if value.startswith("+") or not value.startswith("0"):
        return _possible(value, "US")
    return said and any(_possible(value, region) for region in REGIONS)


def _possible(value: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(value, region))
    except phonenumbers.NumberParseException:
        return False


def account(text: str, start: int, end: int) -> Spans:
    """Bank account numbers, which have no check digit: the longest sequence of whole groups with 8 to 17 digits."""
    if alnum_at(text, start - 1):
        return ()
    for last in _ends(text, start, end):
        if 8 <= len(digits_of(text[start:last])) <= 17 and not alnum_at(text, last):
            return ((start, last),)
    return ()
