"""Comparing manifests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.providers.kubernetes.diff import Change, FieldChange, compare, forbidden
from local.providers.wire import UNKNOWN, Secret

JSON = st.recursive(
    st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=15
)


@given(JSON)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert list(compare(value, value)) == []


@given(JSON, JSON)
def test_different_values_differ(old: Any, new: Any) -> None:
    same = old == new and repr(old) == repr(new)  # True == 1 in Python, but not in JSON
    assert bool(list(compare({"v": old}, {"v": new}))) == (not same)


def test_null_and_absent_are_the_same() -> None:
    assert list(compare({"a": None}, {})) == []


def test_a_secret_is_compared_by_its_value() -> None:
    assert list(compare({"a": Secret("x")}, {"a": "x"})) == []


def test_an_unknown_counts_as_changed() -> None:
    assert list(compare({"a": "x"}, {"a": UNKNOWN})) == [FieldChange(("a",), Change.UPDATE)]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [({}, {"a": 1}, Change.ADD), ({"a": 1}, {}, Change.DELETE), ({"a": 1}, {"a": 2}, Change.UPDATE)],
)
def test_kinds_of_change(old: Any, new: Any, change: Change) -> None:
    assert [c.change for c in compare(old, new)] == [change]


@pytest.mark.parametrize(
    ("kind", "path", "replaces"),
    [
        ("Deployment", ("spec", "selector", "matchLabels", "a"), True),
        ("Deployment", ("spec", "template", "metadata", "labels", "a"), False),
        ("StatefulSet", ("spec", "volumeClaimTemplates", 0, "spec"), True),
        ("StatefulSet", ("spec", "replicas"), False),
        ("PersistentVolumeClaim", ("spec", "resources", "requests", "storage"), False),
        ("PersistentVolumeClaim", ("spec", "storageClassName"), True),
        ("Pod", ("spec", "containers", 0, "image"), False),
        ("Pod", ("spec", "containers", 0, "command"), True),
        ("Service", ("spec", "clusterIP"), True),
        ("Service", ("spec", "type"), False),
        ("Job", ("spec", "template", "spec"), True),
        ("Job", ("spec", "parallelism"), False),
        ("ClusterRoleBinding", ("roleRef", "name"), True),
        ("ConfigMap", ("metadata", "name"), True),
        ("ConfigMap", ("metadata", "labels", "name"), False),
    ],
)
def test_names_that_kubernetes_forbids_are_refused(kind: str, path: tuple[str | int, ...], replaces: bool) -> None:
    assert forbidden(FieldChange(path, Change.UPDATE), kind, {}) is replaces
