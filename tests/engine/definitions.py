"""Installs upstream CRDs in the local cluster during a test, as the projects' charts would."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, utils

from tests import upstream
from tests.exclusive import cluster_wide

_LIMIT_S = 60


@contextmanager
def installed(api: client.ApiClient, *patterns: str) -> Iterator[None]:
    """Serve CRDs by project and file pattern, such as "keda/*scaledobjects*", during the block."""
    documents = [d for pattern in patterns for d in upstream.documents(*pattern.split("/"))]
    made = [d for d in documents if d["kind"] == "CustomResourceDefinition"]
    names = [d["metadata"]["name"] for d in made]
    with cluster_wide():
        yield from _installed(api, made, names, patterns)


def _installed(api: client.ApiClient, made: list[Any], names: list[str], patterns: tuple[str, ...]) -> Iterator[None]:
    extensions = client.ApiextensionsV1Api(api)
    try:
        for definition in made:
            definition["spec"].pop("conversion", None)  # webhooks need the operator in the cluster
            utils.create_from_dict(api, definition)
        _await(lambda: all(_established(extensions, name) for name in names), f"{patterns} to be served")
        yield
    finally:
        for name in names:
            extensions.delete_custom_resource_definition(name)
        _await(lambda: not _there(extensions) & set(names), f"{patterns} to be gone")


def _established(extensions: Any, name: str) -> bool:
    conditions = extensions.read_custom_resource_definition(name).status.conditions or []
    return any(c.type == "Established" and c.status == "True" for c in conditions)


def _there(extensions: Any) -> set[str]:
    return {d.metadata.name for d in extensions.list_custom_resource_definition().items}


def _await(condition: Any, what: str) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {_LIMIT_S} s for {what}"
        time.sleep(0.3)
