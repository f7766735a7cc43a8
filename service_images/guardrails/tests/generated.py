"""Texts with personal data in them, and with what only looks like it; made anew from a seed."""

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
# Numbers that the regulators keep for films and examples would not be valid; these areas are in use.
AREAS = ("212", "415", "312", "617", "206", "303", "404", "713")


@dataclass(frozen=True)
class Sample:
    """A text, and the place of what is in it; kind "" where nothing is."""

    text: str
    start: int
    end: int
    kind: str


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _card(rng: random.Random) -> str:
    prefix, length = rng.choice([("4", 16), ("51", 16), ("55", 16), ("34", 15), ("37", 15), ("6011", 16)])
    body = prefix + _digits(rng, length - len(prefix) - 1)
    number = body + luhn.calc_check_digit(body)
    separator = rng.choice(["", " ", "-"])
    return separator.join(number[i : i + 4] for i in range(0, len(number), 4)) if length == 16 else number


def _iban(rng: random.Random) -> str:
    body = _digits(rng, 18)
    check = 98 - int(body + "131400") % 97
    number = f"DE{check:02d}{body}"
    return number if rng.random() < 0.5 else " ".join(number[i : i + 4] for i in range(0, 22, 4))


def _ssn(rng: random.Random) -> str:
    area = rng.choice([n for n in range(1, 899) if n != 666])
    return f"{area:03d}-{rng.randint(1, 99):02d}-{rng.randint(1, 9999):04d}"


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
        ]
    )


def _email(rng: random.Random) -> str:
    name = "".join(rng.choice("abcdefghijklmnop") for _ in range(rng.randint(3, 10)))
    return f"{name}{rng.choice(['', '.', '_'])}{rng.randint(1, 99)}@{rng.choice(['example.com', 'mail.example.org', 'a-b.example.co.uk'])}"


def _address(rng: random.Random) -> str:
    return ".".join(str(rng.randint(1, 254)) for _ in range(4))


REAL = {"email": _email, "credit_card": _card, "iban": _iban, "us_ssn": _ssn, "phone": _phone, "ip_address": _address}


def _fake_card(rng: random.Random) -> str:
    number = _card(rng).replace(" ", "").replace("-", "")
    return number[:-1] + str((int(number[-1]) + rng.randint(1, 9)) % 10)


LOOKALIKES = (
    _fake_card,
    lambda rng: f"order number {_digits(rng, 16)}",
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


def _around(rng: random.Random, thing: str, kind: str) -> Sample:
    before = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 20)))
    after = " ".join(rng.choice(WORDS) for _ in range(rng.randint(3, 20)))
    start = len(before) + 1
    return Sample(f"{before} {thing} {after}", start, start + len(thing), kind)


def real(count: int, seed: int = 1) -> list[Sample]:
    """Each with one thing in it."""
    rng = random.Random(seed)
    kinds = sorted(REAL)
    return [_around(rng, REAL[kind](rng), kind) for kind in (kinds[i % len(kinds)] for i in range(count))]


def lookalikes(count: int, seed: int = 2) -> list[Sample]:
    """Each with nothing in it."""
    rng = random.Random(seed)
    return [_around(rng, LOOKALIKES[i % len(LOOKALIKES)](rng), "") for i in range(count)]
