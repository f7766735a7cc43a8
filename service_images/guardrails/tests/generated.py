"""Generated texts with personal data and with lookalikes, reproducible by a seed."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass

from stdnum import luhn

WORDS = [
    "please",
    "contact",
    "me",
    "about",
    "the",
    "delivery",
    "of",
    "my",
    "new",
    "chair",
    "since",
    "it",
    "has",
    "not",
    "come",
    "yet",
    "and",
    "I",
    "am",
    "waiting",
    "at",
    "home",
]
# Numbers reserved for films and examples are invalid; these areas are in use.
AREAS = ("212", "415", "312", "617", "206", "303", "404", "713")


@dataclass(frozen=True)
class Sample:
    """A text, and the position of its finding; kind "" for none."""

    text: str
    start: int
    end: int
    kind: str


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


NETWORKS = (
    *(("4", 16), ("4", 13), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16)),
    *(
        ("62", 16),
        ("62", 19),
        ("3528", 16),
        ("36", 14),
        ("305", 14),
        ("2204", 16),
        ("6521", 16),
        ("6759", 16),
        ("9792", 16),
    ),
)
"""First digits and lengths of ISO/IEC 7812's networks."""
BETWEEN = (" ", "-", "", ".", "  ", "\u00a0", "\u202f", "\u2011", "\u2013", "/", "_")
"""Separators between the groups of a number."""
SCRIPTS = ("0123456789", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "०१२३४५६७८९")
"""Digits of scripts: ASCII, Arabic, full width, Devanagari."""


def _grouped(rng: random.Random, number: str, *groups: int) -> str:
    """A number with separators between its groups, and digits of one of the scripts."""
    pieces, place = [], 0
    for group in groups:
        pieces.append(number[place : place + group])
        place += group
    text = rng.choice(BETWEEN).join([*pieces, number[place:]] if number[place:] else pieces)
    return text if rng.random() < 0.8 else text.translate(str.maketrans("0123456789", rng.choice(SCRIPTS)))


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice(NETWORKS)
    body = prefix + _digits(rng, length - len(prefix) - 2) + rng.choice("123456789")
    number = body + luhn.calc_check_digit(body)
    groups = {16: (4, 4, 4), 15: (4, 6), 14: (4, 6), 19: (4, 4, 4, 4), 13: (4, 4)}[length]
    return _grouped(rng, number, *groups) if rng.random() < 0.8 else number


def _iban(rng: random.Random) -> str:
    body = _digits(rng, 18)
    check = 98 - int(body + "131400") % 97
    number = f"DE{check:02d}{body}"
    if rng.random() < 0.5:
        return number
    return rng.choice((" ", "-", "\u00a0", "  ")).join(number[i : i + 4] for i in range(0, 22, 4))


def _ssn(rng: random.Random) -> str:
    area = rng.choice([n for n in range(1, 899) if n != 666])
    dash = rng.choice(("-", "-", " ", "\u2011", "\u00a0", "\u2013"))
    return f"{area:03d}{dash}{rng.randint(1, 99):02d}{dash}{rng.randint(1, 9999):04d}"


def _phone(rng: random.Random) -> str:
    area, office, line = rng.choice(AREAS), f"{rng.randint(220, 989)}", _digits(rng, 4)
    if office[1:] == "11":
        office = "234"
    return rng.choice(
        [
            f"+1 {area} {office} {line}",
            f"({area}) {office}-{line}",
            f"{area}-{office}-{line}",
            f"{area}.{office}.{line}",
            f"+1\u00a0({area})\u00a0{office}\u2011{line}",
            f"001 {area} {office} {line}",
            f"+49 (0)30 {rng.randint(200000, 999999)}",
            f"+55 (11) 9{rng.randint(1000, 9999)}-{line}",
            f"+44 (0) 20 7946 0{_digits(rng, 3)}",
            f"+33 6 12 34 {rng.randint(10, 99)} {rng.randint(10, 99)}",
            f"+91-98765-{_digits(rng, 5)}",
        ]
    )


def _email(rng: random.Random) -> str:
    name = "".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randint(3, 10)))
    local = f"{name}{rng.choice(['', '.', '_', '+', chr(39)])}{rng.randint(1, 99)}"
    return f"{rng.choice([local, local, 'jörg', 'анна', '田中'])}@{rng.choice(DOMAINS)}"


DOMAINS = ["example.com", "mail.example.org", "a-b.example.co.uk", "müller.de", "пример.рф", "例え.jp", "δοκιμή.ελ"]


def _address(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return ".".join(str(rng.randint(1, 254)) for _ in range(4))
    group = f"{rng.randint(1, 0xFFFF):x}"
    return rng.choice(
        [f"fe80::{group}", f"2a02::{group}", f"fe80::{group}%eth0", f"2001:db8:{group}::/48", f"::ffff:192.0.2.{rng.randint(1, 254)}",
         f"2001:db8:0:0:{group}:0:0:1", f"fd00:{group}::1", f"64:ff9b::192.0.2.{rng.randint(1, 254)}"]
    )  # fmt: skip


REAL = {"email": _email, "credit_card": _card, "iban": _iban, "us_ssn": _ssn, "phone": _phone, "ip_address": _address}


def _fake_card(rng: random.Random) -> str:
    return _no_card(rng, 16, "4")


def _no_card(rng: random.Random, length: int, first: str = "") -> str:
    """Digits with a wrong check digit."""
    number = first + _digits(rng, length - len(first))
    return number[:-1] + str((int(luhn.calc_check_digit(number[:-1])) + rng.randint(1, 9)) % 10)


LOOKALIKES = (
    _fake_card,
    lambda rng: f"order number {_no_card(rng, 16)}",
    lambda rng: f"00{rng.randint(12, 98)}{_digits(rng, 9)} units",
    lambda rng: (
        f"please do not {rng.choice(['ignore', 'disregard', 'forget', 'bypass'])} the {rng.choice(['previous', 'above', 'earlier'])} {rng.choice(['instructions', 'rules', 'guidelines'])}"
    ),
    lambda rng: f"{rng.randint(0, 9)}.{_digits(rng, 16)}",
    lambda rng: f"{rng.randint(1700000000000, 1799999999999)} ms",
    lambda rng: f"{rng.choice(['std', 'core', 'ab', 'dead'])}::{rng.choice(['beef', 'vector', 'face', 'cafe'])}",
    lambda rng: f"icon@{rng.randint(2, 3)}x.png and logo@{rng.randint(2, 3)}x.jpeg",
    lambda rng: f"git@{rng.choice(['github.com', 'gitlab.com'])}:team/project.git",
    lambda rng: f"{rng.randint(1, 9)},{_digits(rng, 3)},{_digits(rng, 3)}.{_digits(rng, 2)}",
    lambda rng: f"rows {' '.join(str(rng.randint(2000, 2030)) for _ in range(3))} of the table",
    lambda rng: f"package@{rng.randint(1, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 30)}",
    lambda rng: ":".join(f"{rng.getrandbits(8):02X}" for _ in range(20)),
    lambda rng: f"v{rng.randint(1, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 30)}.{rng.randint(0, 99)}",
    lambda rng: f"version {rng.randint(1, 20)}.{rng.randint(0, 30)}.{rng.randint(0, 30)}.{rng.randint(0, 99)}",
    lambda rng: f"{rng.randint(1990, 2030)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
    lambda rng: f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}:{rng.randint(0, 59):02d}",
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    lambda rng: f"sha256:{rng.getrandbits(256):064x}",
    lambda rng: f"@{rng.choice(['ann', 'team', 'here'])} on the channel",
    lambda rng: f"{rng.randint(1, 99)}.{_digits(rng, 8)}",
    lambda rng: f"000-{rng.randint(1, 99):02d}-{_digits(rng, 4)}",
    lambda rng: f"{rng.randint(100000, 99999999)} units",
    lambda rng: f"DE00{_digits(rng, 18)}",
    lambda rng: f"{rng.randint(300, 999)}.{rng.randint(300, 999)}.{rng.randint(300, 999)}.{rng.randint(300, 999)}",
    lambda rng: f"ratio 1:{rng.randint(2, 99)}",
    lambda rng: f"a@b and c@{rng.randint(1, 9)}",
)


BESIDE = (
    ("", ""),
    ("", ""),
    ("", ","),
    ("(", ")"),
    ("_", "_"),
    ("**", "**"),
    ("`", "`"),
    ('"', '"'),
    ("卡号", "结束"),
    ("：", "。"),
)
"""Neighbours of a finding: nothing, punctuation, Markdown marks, scripts without spaces."""


def _around(rng: random.Random, thing: str, kind: str) -> Sample:
    before = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 20)))
    after = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 20)))
    left, right = rng.choice(BESIDE) if kind else ("", "")
    if not thing[0].isascii() or not thing[-1].isascii() or "." in right:
        left, right = ("", "") if "卡" in left else (left, right)
    if kind == "credit_card" and rng.random() < 0.3:
        left, right = rng.choice(
            (("2 ", ""), ("", " 12/27"), ("", " 123"), ("in case ", " is charged"), ("3 x ", " 09/28 cvv 321"))
        )
    start = len(before) + 1 + len(left)
    return Sample(f"{before} {left}{thing}{right} {after}", start, start + len(thing), kind)


def real(count: int, seed: int = 1) -> list[Sample]:
    """Texts with one finding each."""
    rng = random.Random(seed)
    kinds = sorted(REAL)
    return [_around(rng, REAL[kind](rng), kind) for kind in (kinds[i % len(kinds)] for i in range(count))]


def lookalikes(count: int, seed: int = 2) -> list[Sample]:
    """Texts without findings."""
    rng = random.Random(seed)
    return [_around(rng, LOOKALIKES[i % len(LOOKALIKES)](rng), "") for i in range(count)]
