"""Locks for objects that exist once in the cluster, for tests that run in parallel processes."""

from __future__ import annotations

from filelock import FileLock

from local import paths

_PATIENCE_S = 500


def cluster_wide() -> FileLock:
    """Held by a test that brings CRDs or a default StorageClass of its own, and by one that needs the cluster's."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    return FileLock(paths.cache() / "tests-cluster-wide.lock", timeout=_PATIENCE_S)
