"""Stand-in for the random provider: values from the operating system's generator, stored in the state."""

from __future__ import annotations

import base64
import secrets
import string
from typing import Any

from local.providers.computed import Computed, ComputedProvider, Values
from local.providers.server import ProviderError

_SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
_CLASSES = (
    ("lower", "minLower", string.ascii_lowercase),
    ("upper", "minUpper", string.ascii_uppercase),
    ("numeric", "minNumeric", string.digits),
    ("special", "minSpecial", _SPECIAL),
)
_STRING_DEFAULTS: tuple[tuple[str, Any], ...] = (
    *((name, True) for name, _, _ in _CLASSES),
    *((minimum, 0) for _, minimum, _ in _CLASSES),
)


def _text(inputs: Values) -> str:
    length = inputs["length"]
    pools = {name: chars for name, _, chars in _CLASSES if inputs.get(name, True)}
    if "special" in pools and inputs.get("overrideSpecial"):
        pools["special"] = inputs["overrideSpecial"]
    required = [(pools.get(name, ""), inputs.get(minimum) or 0) for name, minimum, _ in _CLASSES]
    if sum(count for _, count in required) > length or not pools:
        raise ProviderError(f"length {length} is too short for the required minimum of each character class")
    generator = secrets.SystemRandom()
    chosen = [generator.choice(pool) for pool, count in required if pool for _ in range(count)]
    everything = "".join(pools.values())
    chosen += [generator.choice(everything) for _ in range(length - len(chosen))]
    generator.shuffle(chosen)
    return "".join(chosen)


def _password(inputs: Values) -> tuple[str, Values]:
    return "none", {"result": _text(inputs)}


def _string(inputs: Values) -> tuple[str, Values]:
    text = _text(inputs)
    return text, {"result": text}


def _bytes(inputs: Values) -> tuple[str, Values]:
    data = secrets.token_bytes(inputs["length"])
    return "none", {"base64": base64.b64encode(data).decode(), "hex": data.hex()}


class Random(ComputedProvider):
    """Provider for the resource tokens of pulumi-random."""

    package = "random"
    sdk = "pulumi-random"
    resources = {  # noqa: RUF012 - constant
        "random:index/randomPassword:RandomPassword": Computed(_password, ("result",), ("result",), _STRING_DEFAULTS),
        "random:index/randomString:RandomString": Computed(_string, (), ("result",), _STRING_DEFAULTS),
        "random:index/randomBytes:RandomBytes": Computed(_bytes, ("base64", "hex"), ("base64", "hex")),
    }
