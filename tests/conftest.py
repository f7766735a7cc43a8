"""Shared by all tests."""

from __future__ import annotations

import os

# Tests must not depend on a proxy or on a kubeconfig of the user's.
os.environ.pop("KUBECONFIG", None)
