"""A tenant's guard policy: each mistake is refused with its path, its value and the valid values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.guard_policy import DETECTABLE, KINDS, MAX_POLICY_BYTES, Pack, Policy
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("policy", "place", "said"),
    [
        ({"rules": [{"detect": "emial", "action": "block"}]}, ("rules", 0, "detect"), ('"emial"', "email", "pii")),
        ({"packs": ["gdprr"]}, ("packs", 0), ('"gdprr"', "gdpr, hipaa, pci-dss, secrets")),
        ({"packz": ["gdpr"]}, ("packz",), ("not permitted",)),
        ({"rules": [{"detect": "email", "action": "mask"}]}, ("rules", 0, "action"), ('"mask"', "redact")),
        (
            {"rules": [{"detect": "email", "action": "block", "on": ["in"]}]},
            ("rules", 0, "on", 0),
            ('"in"', "input, output"),
        ),
        ({"rules": [{"detect": "email", "action": "block", "to": 1}]}, ("rules", 0, "to"), ("not permitted",)),
        ({"output_schema": {"type": "nothing"}}, ("output_schema",), ("nothing",)),
        ({"output_schema": {"const": "a\0b"}}, ("output_schema",), ("U+0000",)),
        ({"topics": [{"name": "t", "words": ["a\0b"]}]}, ("topics", 0, "words", 0), ("pattern",)),
    ],
)
def test_a_mistake_is_refused_with_its_path_value_and_the_valid_values(
    policy: dict[str, Any], place: tuple[Any, ...], said: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate_json(json.dumps(policy))
    messages = [error["msg"] for error in raised.value.errors() if error["loc"] == place]
    assert messages and all(part in messages[0] for part in said)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as raised:
        Policy.model_validate({"packs": ["x"], "rules": [{"detect": "y", "action": "z"}], "w": 1})
    assert {error["loc"] for error in raised.value.errors()} == {
        *((("packs", 0), ("rules", 0, "detect"), ("rules", 0, "action"), ("w",)))
    }


def test_a_policy_has_at_most_64_kib_in_total() -> None:
    words = ["w" * 99] * 320
    fits = {"topics": [{"name": "a", "words": words}, {"name": "b", "words": words}]}
    assert len(json.dumps(fits, separators=(",", ":"))) < MAX_POLICY_BYTES
    assert len(Policy.model_validate(fits).topics) == 2
    fits["topics"].append({"name": "c", "words": words})
    with pytest.raises(ValidationError, match=f"at most {MAX_POLICY_BYTES} bytes"):
        Policy.model_validate(fits)


def test_the_openapi_schema_lists_the_valid_values() -> None:
    found = Policy.model_json_schema()["$defs"]
    assert found["Rule"]["properties"]["detect"]["enum"] == list(DETECTABLE)
    assert found["Pack"]["enum"] == list(Pack)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(sorted(KINDS)),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["packs", "rules", "topics", "output_schema", "detect", "action", "on", "name", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_policy_or_a_clear_error(given_: Any) -> None:
    try:
        policy = Policy.model_validate(given_)
    except ValidationError:
        return
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
