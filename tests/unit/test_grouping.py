"""Parallel runs keep the tests of a group in one process, where they share servers and rendered trees."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("grouping")
def test_the_installed_pytest_takes_the_groups_of_xdist(request: pytest.FixtureRequest) -> None:
    """pytest-xdist 3.8 adds the group to the node's ID, from which it chooses the process. pytest 9.2 ignores that."""
    if "PYTEST_XDIST_WORKER" not in os.environ or not request.config.getoption("loadgroup"):
        pytest.skip("the tests do not run in parallel by group")
    assert request.node.nodeid.endswith("@grouping")
