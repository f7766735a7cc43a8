"""Whether what looks like something is it: check digits, ranges, and what stands around it.

Each returns where the thing ends, or 0.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Callable

import phonenumbers
from stdnum import iban as stdnum_iban
from stdnum import luhn
from stdnum.au import tfn
from stdnum.es import nif
from stdnum.exceptions import ValidationError
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale

_NOT_DIGIT = re.compile(r"\D")
_ID_BEFORE = re.compile(
    r"(?i)(order|invoice|tracking|serial|sku|isbn|ref(erence)?|ticket|case|build|uuid|hash|part)\W*(no|number|id|nr)?\W*$"
)
"""Long numbers that are said to be something else."""
_VERSION_BEFORE = re.compile(r"(?i)(\bv|version|release|build|firmware)[\s:=.]*$")
_TLDS = re.compile(r"\.[A-Za-z]{2,24}$")
_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def whole(fits: Callable[[str, int, int], bool]) -> Callable[[str, int, int], int]:
    """All of it, or nothing."""

    @functools.wraps(fits)
    def check(text: str, start: int, end: int) -> int:
        return end if fits(text, start, end) else 0

    return check


def _digits(text: str) -> str:
    return _NOT_DIGIT.sub("", text)


def _around(text: str, start: int, end: int) -> tuple[str, str]:
    """The characters right before and after."""
    return text[start - 1 : start], text[end : end + 1]


def apart(text: str, start: int, end: int) -> bool:
    """Nothing that would make it part of a longer word or number."""
    before, after = _around(text, start, end)
    more = after in ".-" and text[end + 1 : end + 2].isalnum() if after else False
    return not (before.isalnum() or (before in {"_", "-", "."} and text[start - 2 : start - 1].isalnum()) or after.isalnum() or after == "_" or more)  # fmt: skip # noqa: E501


@whole
def email(text: str, start: int, end: int) -> bool:
    """An address whose domain could be one."""
    value = text[start:end]
    local, _, domain = value.rpartition("@")
    return bool(_TLDS.search(domain)) and ".." not in value and not local.startswith(".") and not local.endswith(".")


@whole
def card(text: str, start: int, end: int) -> bool:
    """A number of a known network with the right length and check digit."""
    number = _digits(text[start:end])
    return apart(text, start, end) and _network(number) and luhn.is_valid(number) and not _ID_BEFORE.search(text[max(0, start - 30) : start])  # fmt: skip # noqa: E501


def _network(number: str) -> bool:
    length, two, four = len(number), int(number[:2] or 0), int(number[:4] or 0)
    return (
        (number[0] == "4" and length in (13, 16, 19))
        or (
            length == 16
            and (
                51 <= two <= 55
                or 2221 <= four <= 2720
                or four == 6011
                or two == 65
                or 3528 <= four <= 3589
                or 644 <= int(number[:3]) <= 649
            )
        )
        or (length == 15 and two in (34, 37))
        or (length == 14 and (two in (36, 38, 39) or 300 <= int(number[:3]) <= 305))
    )


def iban(text: str, start: int, end: int) -> int:
    """By country, length and check digits; words that follow look like more of it."""
    for last in range(end, start + 14, -1):
        if text[last - 1] != " " and apart(text, start, last) and stdnum_iban.is_valid(text[start:last]):
            return last
    return 0


@whole
def ssn(text: str, start: int, end: int) -> bool:
    """Never given out: areas 000, 666 and 900 on, group 00, serial 0000. Source: SSA, randomization FAQ."""
    number = _digits(text[start:end])
    fits = number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"
    return fits and number not in ("123456789", "078051120", "219099999") and apart(text, start, end)


@whole
def itin(text: str, start: int, end: int) -> bool:
    """9xx with a group that the IRS gives out: 50 to 65, 70 to 88, 90 to 92, 94 to 99."""
    group = int(_digits(text[start:end])[3:5])
    return apart(text, start, end) and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94)


@whole
def phone(text: str, start: int, end: int) -> bool:
    """A number that can be dialled: with its country, or as written in North America."""
    if not apart(text, start, end) or _ID_BEFORE.search(text[max(0, start - 30) : start]):
        return False
    value = text[start:end]
    if not value.startswith(("+", "00")) and not re.search(r"[ ().-]", value.strip()):
        return False  # digits in a row are anything
    try:
        number = phonenumbers.parse("+" + value[2:] if value.startswith("00") else value, "US")
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(number)


@whole
def address(text: str, start: int, end: int) -> bool:
    """An IP address, not a version, and none that means nobody."""
    if _VERSION_BEFORE.search(text[max(0, start - 12) : start]) or not apart(text, start, end):
        return False
    try:
        found = ipaddress.ip_address(text[start:end])
    except ValueError:
        return False
    return not found.is_unspecified and str(found) not in ("127.0.0.1", "::1")


@whole
def bitcoin(text: str, start: int, end: int) -> bool:
    """Base58Check: the last four bytes are a checksum."""
    value = text[start:end]
    if not apart(text, start, end):
        return False
    number = 0
    for letter in value:
        number = number * 58 + _B58.index(letter)
    try:
        content = number.to_bytes(25)
    except OverflowError:
        return False
    return hashlib.sha256(hashlib.sha256(content[:-4]).digest()).digest()[:4] == content[-4:]


def _valid(validate: object, text: str, start: int, end: int) -> bool:
    if not apart(text, start, end):
        return False
    try:
        validate(text[start:end])  # type: ignore[operator]
    except ValidationError:
        return False
    return True


@whole
def spanish(text: str, start: int, end: int) -> bool:
    """DNI, NIE or NIF with its letter."""
    return _valid(nif.validate, text, start, end)


@whole
def italian(text: str, start: int, end: int) -> bool:
    """Codice fiscale."""
    return _valid(codicefiscale.validate, text, start, end)


@whole
def british_health(text: str, start: int, end: int) -> bool:
    """NHS number; its check digit alone would let every eleventh number pass, so that words have to say it."""
    return _valid(nhs.validate, text, start, end)


@whole
def indian(text: str, start: int, end: int) -> bool:
    """Aadhaar, by Verhoeff's digit."""
    return _valid(aadhaar.validate, text, start, end)


@whole
def australian(text: str, start: int, end: int) -> bool:
    """Tax file number."""
    return _valid(tfn.validate, text, start, end)


@whole
def entropy(text: str, start: int, end: int) -> bool:
    """A value that was made at random: many different characters, letters and digits, no word."""
    value = text[start:end]
    kinds = sum(bool(re.search(kind, value)) for kind in (r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]"))
    return len(set(value)) >= min(10, len(value) * 2 // 3) and kinds >= 2


separate = whole(apart)
