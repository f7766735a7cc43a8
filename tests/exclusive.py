"""Locks for objects that exist once in the cluster, for tests that run in parallel processes."""

from __future__ import annotations

from filelock import FileLock

from local import paths

_PATIENCE_S = 500


def cluster_wide() -> FileLock:
    """Lock of tests that install CRDs or a default StorageClass, and of tests that need the cluster's own."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    return FileLock(paths.cache() / "tests-cluster-wide.lock", timeout=_PATIENCE_S)
