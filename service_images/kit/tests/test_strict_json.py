"""Accepted JSON, and the errors for all other texts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import strict_json
from kit.strict_json import BadJson

DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b'{"a":1,"a":2}', 'the key "a" occurs twice'),
        (b'[{"b":[{"a":1,"\\u0061":2}]}]', 'the key "a" occurs twice'),
        (b'{"a":{"b":["x\\u0000y"]}}', "a.b.0: a text contains the character U+0000"),
        (b'{"a\\u0000":1}', "U+0000"),
        (b'["\\ud83d there"]', "0: a text contains an unpaired surrogate"),
        (b'["\\uDC00"]', "surrogate"),
        (b'["\xed\xa0\xbd"]', "not UTF-8"),
        (b"\xff\xfe[\x00]\x00", "not UTF-8"),
        (b"\xef\xbb\xbf[]", "byte order mark"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"[1e999]", "too large"),
        (b"[-1e400]", "too large"),
        (b"[" + b"9" * 19 + b"]", "more than 18 digits"),
        (b"[-" + b"9" * 5000 + b"]", "more than 18 digits"),
        (b"[0." + b"1" * 5000 + b"]", "more than 400 digits"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
        (b"[" * DEEP + b"]" * DEEP, "deeper than 64"),
        (b'{"a":' * DEEP, "deeper than 64"),
        (b"", "not JSON"),
        (b"[1,]", "not JSON"),
        (b'["\x01"]', "not JSON"),
        (b"[1] 2", "not JSON"),
    ],
)
def test_json_that_a_later_reader_refuses_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadJson, match=words.replace("+", r"\+")):
        strict_json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b'"\\\\u0000"',
        b'"\\ud83d\\ude00"',
        b"[" * 64 + b"]" * 64,
        b"[]" + b" " * 1000,
        b"[999999999999999999,-999999999999999999,1e308,-0.0]",
        b"[" + b",".join([b"[]"] * 1000) + b"]",
        '"\ufffe\u2028\u202e\U0010ffff"'.encode(),
    ],
)
def test_unusual_but_valid_json_is_accepted(text: bytes) -> None:
    assert strict_json.loads(text) == json.loads(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_all_readers_parse_accepted_json_alike(value: Any) -> None:
    text = json.dumps(value)
    try:
        found = strict_json.loads(text)
    except BadJson:
        return
    written = strict_json.dumps(found)
    assert msgspec.json.decode(written) == found == json.loads(written)
    assert b"\\u0000" not in written.replace(b"\\\\", b"")
    assert strict_json.check(found) == found


@given(st.text() | st.binary())
def test_no_text_makes_another_error(text: str | bytes) -> None:
    try:
        strict_json.loads(text)
    except BadJson as error:
        assert str(error)
