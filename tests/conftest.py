"""Shared by all tests."""

from __future__ import annotations

import os

import hypothesis

# Tests must not depend on a proxy or on a kubeconfig of the user's.
os.environ.pop("KUBECONFIG", None)
# How fast a machine is, is no property of the code.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")
