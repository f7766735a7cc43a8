"""Shared by all tests."""

from __future__ import annotations

import os

import pytest

# Tests must not depend on a proxy or on a kubeconfig of the user's.
os.environ.pop("KUBECONFIG", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests may run side by side: files do, but those that use the one environment follow each other.

    Building an image again touches nothing shared, so that goes on beside them.
    """
    for item in items:
        group = item.path.stem
        if item.get_closest_marker("e2e"):
            group = "rebuild" if "again" in item.name else "environment"
        item.add_marker(pytest.mark.xdist_group(group))
