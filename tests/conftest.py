"""Shared by all tests."""

from __future__ import annotations

import os
import sys

import hypothesis
import pytest
from google.rpc import status_pb2

from tests import stack_files
from tests.drills import NAMES

# Pulumi has a copy of google.rpc.Status under another file name, and one process cannot load both.
sys.modules.setdefault("pulumi.runtime.proto.status_pb2", status_pb2)
# Tests must not depend on a proxy or on a kubeconfig of the user's.
os.environ.pop("KUBECONFIG", None)
# Deadlines would test the speed of the machine.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--drill", choices=sorted(NAMES), help="run the tests of this drill only")


def pytest_configure(config: pytest.Config) -> None:
    config.add_cleanup(stack_files.keep())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--drill")
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("drill")
        if mark is not None and mark.args[0] not in NAMES:
            raise pytest.UsageError(f"{item.nodeid}: tests/drills.py has no drill {mark.args[0]!r}")
        elsewhere = wanted and (mark is None or mark.args[0] != wanted)
        (left_out if elsewhere else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
