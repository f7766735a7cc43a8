"""Validates candidates of detectors by check digits, ranges, and surrounding characters.

A check receives a folded text and the span of a match, and returns the valid spans in it.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable

import tldextract
from stdnum.au import tfn
from stdnum.es import nif
from stdnum.exceptions import ValidationError
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale

from guardrails.folding import fold
from guardrails.views import View

Span = tuple[int, int]
Spans = Iterable[Span]
Check = Callable[[str, int, int], Spans]
_NOT_DIGIT = re.compile(r"\D")
_VERSION_BEFORE = re.compile(r"(?i)(\bv|version|release|build|firmware)[\s:=.]*$")
_B58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ALNUM = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
"""Letters and digits of folded texts that join adjacent words. Those of other scripts do not: Chinese, Japanese and
Thai have no spaces, and Korean appends particles to words."""


def whole(fits: Callable[[str, int, int], bool]) -> Check:
    """A check that accepts or rejects the whole match."""

    @functools.wraps(fits)
    def check(text: str, start: int, end: int) -> Spans:
        return ((start, end),) if fits(text, start, end) else ()

    return check


def digits_of(text: str) -> str:
    """The digits of a text."""
    return _NOT_DIGIT.sub("", text)


def alnum_at(text: str, place: int) -> bool:
    """Whether there is an ASCII letter or digit at a place."""
    return 0 <= place < len(text) and text[place] in _ALNUM


def apart(text: str, start: int, end: int) -> bool:
    """Whether a span is not part of a longer word or number. "_" counts as Markdown markup."""
    if alnum_at(text, start - 1) or alnum_at(text, end):
        return False
    if text[start - 1 : start] in ("-", ".") and alnum_at(text, start - 2):
        return False
    return not (text[end : end + 1] in ("-", ".") and alnum_at(text, end + 1))


@whole
def separate(text: str, start: int, end: int) -> bool:
    """See `apart`."""
    return apart(text, start, end)


@whole
def token(text: str, start: int, end: int) -> bool:
    """Whether a span is not part of a longer word."""
    return not (alnum_at(text, start - 1) or alnum_at(text, end))


_TLDS = frozenset(
    name
    for suffix in tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None).tlds
    for name in (suffix.rpartition(".")[2], fold(View(suffix.rpartition(".")[2])).text)
) | {
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "corp",
    "home",
    "private",
    "test",
    "example",
    "invalid",
    "onion",
}
"""Top-level domains: the public suffix list, and names for private networks."""
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_LOCAL = re.compile(rf"[^\s@{_SPACELESS}]{{1,64}}\Z")
_BEFORE_LOCAL = re.compile(r"(?s).*[\s<>()\[\]{},;:\"|\\=/]")
_MARKS = "*~`'.!?#$%&^+-="
_LABEL = re.compile(rf"[A-Za-z0-9\u0080-\u0dff\u0f00-\u0fff\u10a0-\u177f\u1800-\u2fff-]+|[{_SPACELESS}A-Za-z0-9-]+")


def email(text: str, start: int, _: int) -> Spans:
    """Email addresses around "@", including internationalised ones (RFC 6531, RFC 5890), with a valid domain."""
    at = start
    first = _local(text, at)
    last = _domain(text, at + 1)
    if first == at or not last:
        return ()
    if text[first:at] == "git" and text[last : last + 1] == ":":
        return ()  # the URL of a repository
    if text[first] == "_" and text[last : last + 1] == "_":
        first += len(text[first:at]) - len(text[first:at].lstrip("_"))
    return ((first, last),) if first < at else ()


def _local(text: str, at: int) -> int:
    """Start of the local part before "@"."""
    window = text[max(0, at - 64) : at]
    if (before := _BEFORE_LOCAL.match(window)) is not None:
        window = window[before.end() :]
    if not window or window.endswith("."):
        return at
    match = _LOCAL.search(window)
    value = match[0] if match is not None else window
    if value.isdigit():
        value = window  # final digits of a name, perhaps in a script without spaces
    value = value.lstrip(_MARKS) if value[0] != "_" else value
    return at - len(value) if ".." not in value else at


def _domain(text: str, start: int) -> int:
    """End of a domain; 0 if there is none."""
    labels: list[tuple[int, str]] = []
    place = start
    while len(labels) < 10 and (match := _LABEL.match(text, place)) and len(match[0]) <= 63:
        labels.append((match.end(), match[0]))
        place = match.end() + 1
        stop = text[match.end() : place]
        if stop != "." and not (stop == "。" and not match[0].isascii()):
            break
    # A following word without a space, as in "example.com.Please", does not belong to it.
    while len(labels) > 1:
        end, label = labels.pop()
        label = label.rstrip("-")
        if label.lower() in _TLDS or (len(label) > 1 and not label.isascii()):
            return end - (len(text[start:end]) - len(text[start:end].rstrip("-")))
    return 0


@whole
def ssn(text: str, start: int, end: int) -> bool:
    """Invalid numbers: areas 000, 666 and from 900, group 00, serial 0000. Source: SSA, randomization FAQ."""
    number = digits_of(text[start:end])
    fits = number[:3] not in ("000", "666") and number[0] != "9" and number[3:5] != "00" and number[5:] != "0000"
    return fits and number not in ("123456789", "078051120", "219099999") and apart(text, start, end)


@whole
def itin(text: str, start: int, end: int) -> bool:
    """9xx with a group that the IRS issues: 50 to 65, 70 to 88, 90 to 92, 94 to 99."""
    group = int(digits_of(text[start:end])[3:5])
    return apart(text, start, end) and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94)


def _beside_address(text: str, start: int, end: int) -> bool:
    if (
        alnum_at(text, start - 1)
        or alnum_at(text, end)
        or (text[start - 1 : start] == "." and alnum_at(text, start - 2))
    ):
        return False
    after = text[end : end + 16]
    return not (after[:1] == "." and alnum_at(text, end + 1)) and not re.match(r"-[A-Za-z0-9]+(?![0-9.])", after)


def ipv4(text: str, start: int, end: int) -> Spans:
    """An IPv4 address with its prefix length; not a version number, and not a reserved address."""
    if _VERSION_BEFORE.search(text[max(0, start - 12) : start]) or not _beside_address(text, start, end):
        return ()
    found, _, prefix = text[start:end].partition("/")
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return ()
    if address.is_unspecified or str(address) == "127.0.0.1":
        return ()
    return ((start, end if prefix.isdigit() and int(prefix) <= 32 else start + len(found)),)


def ipv6(text: str, start: int, end: int) -> Spans:
    """An IPv6 address in any form of RFC 4291 and RFC 5952, with zone and prefix length, outside of reserved space.

    Reserved space (IANA, IPv6 address space) identifies no one. Names in programs, such as `dead::beef`, are in it.
    """
    first = text.index(":", start) + 1
    # A colon may join a word to the address, as in "address:fe80::1".
    if text.startswith(":::", start):
        begins = (start + 1,)
    else:
        begins = (start, first) if text[first : first + 1] != ":" else (start,)
    for begin in begins:
        if alnum_at(text, begin - 1) or (begin == start and text[begin - 1 : begin] == ":"):
            continue
        if last := _ipv6_end(text, begin, end):
            return ((begin, last),)
    return ()


def _ipv6_end(text: str, start: int, end: int) -> int:
    """End of an address that begins at `start`; 0 if there is none."""
    value = text[start:end]
    while value:
        address, _, prefix = value.partition("/")
        address = address.rstrip("_~.-") if "%" in address else address
        try:
            found = ipaddress.IPv6Address(address)
        except ValueError:
            shorter = max(value.rfind(":"), value.rfind("/"), value.rfind("%"), value.rfind("."))
            value = value[:-1] if value.endswith(":") else value[: max(shorter, 0)]
            continue
        mapped = found.ipv4_mapped or str(found).startswith("64:ff9b:")
        if found.is_unspecified or found.is_loopback or (found.is_reserved and not mapped):
            return 0
        if alnum_at(text, start + len(value)) or text[start + len(value) : start + len(value) + 2] == "::":
            return 0
        return start + (len(value) if prefix.isdigit() and int(prefix) <= 128 else len(address))
    return 0


@whole
def mac(text: str, start: int, end: int) -> bool:
    """Whether it is not part of a longer row of octets, such as a fingerprint."""
    more = re.compile(r"[:\-][0-9A-Fa-f]{2}\b")
    value = text[start:end]
    dotted = "." not in value or bool(re.search(r"\d", value))
    return (
        dotted and apart(text, start, end) and not more.match(text, end) and text[start - 1 : start] not in (":", "-")
    )


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


def _valid(validate: Callable[[str], object], text: str, start: int, end: int) -> bool:
    if not apart(text, start, end):
        return False
    try:
        validate(re.sub(r"[^A-Za-z0-9]", "", text[start:end]))
    except ValidationError:
        return False
    return True


@whole
def spanish(text: str, start: int, end: int) -> bool:
    """DNI, NIE or NIF with a valid letter."""
    return _valid(nif.validate, text, start, end)


@whole
def italian(text: str, start: int, end: int) -> bool:
    """Codice fiscale."""
    return _valid(codicefiscale.validate, text, start, end)


@whole
def british(text: str, start: int, end: int) -> bool:
    """National Insurance number with a valid prefix. Source: HMRC, NIM39110."""
    return apart(text, start, end) and text[start : start + 2].upper() not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


@whole
def british_health(text: str, start: int, end: int) -> bool:
    """NHS number. Its check digit accepts every eleventh number, so words must announce it."""
    return _valid(nhs.validate, text, start, end)


@whole
def indian(text: str, start: int, end: int) -> bool:
    """Aadhaar number with Verhoeff's check digit."""
    return _valid(aadhaar.validate, text, start, end)


@whole
def australian(text: str, start: int, end: int) -> bool:
    """Tax file number."""
    return _valid(tfn.validate, text, start, end)


@whole
def entropy(text: str, start: int, end: int) -> bool:
    """Whether a value is random: many different characters, letters and digits, and no words."""
    value = text[start:end]
    kinds = sum(bool(re.search(kind, value)) for kind in (r"[a-z]", r"[A-Z]", r"\d", r"[^A-Za-z0-9]"))
    return len(set(value)) >= min(10, len(value) * 2 // 3) and kinds >= 2


def openai(text: str, start: int, end: int) -> Spans:
    """An OpenAI key. Anthropic's keys have a similar beginning."""
    if alnum_at(text, start - 1) or text.startswith("sk-ant-", start):
        return ()
    return entropy(text, start, end)


def keyed(text: str, start: int, end: int) -> Spans:
    """A random token that is not part of a longer word."""
    return () if alnum_at(text, start - 1) else entropy(text, start, end)
