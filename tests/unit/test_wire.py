"""Property values survive serialization to the engine and back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from local.providers import wire
from local.providers.wire import UNKNOWN, Secret

_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not x.is_integer()
)
_LEAVES = st.none() | st.booleans() | _NUMBERS | st.text() | st.just(UNKNOWN)
VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | inner.map(Secret), max_leaves=20
)
OBJECTS = st.dictionaries(st.text(), VALUES)


@given(OBJECTS)
def test_encoding_and_decoding_gives_the_same_value(value: dict[str, Any]) -> None:
    assert wire.decode_struct(wire.encode_struct(value)) == value


@given(st.integers(-(2**53), 2**53))
def test_whole_numbers_stay_integers(number: int) -> None:
    decoded = wire.decode_struct(wire.encode_struct({"n": number}))["n"]
    assert isinstance(decoded, int)


@given(OBJECTS)
def test_revealing_leaves_no_secret(value: dict[str, Any]) -> None:
    assert list(wire.secret_paths(wire.reveal(value))) == []


@given(st.dictionaries(st.text(min_size=1), _LEAVES | st.lists(_LEAVES)))
def test_concealing_hides_exactly_what_was_secret(value: dict[str, Any]) -> None:
    secret = {key: Secret(item) for key, item in value.items()}
    paths = set(wire.secret_paths(secret))
    assert wire.conceal(wire.reveal(secret), paths) == secret


def test_an_unknown_inside_a_secret_is_found() -> None:
    assert wire.has_unknown({"a": [{"b": Secret({"c": UNKNOWN})}]})


def test_paths_are_written_as_pulumi_writes_them() -> None:
    assert wire.format_path(("spec", "ports", 0, "a.b")) == 'spec.ports[0]["a.b"]'
