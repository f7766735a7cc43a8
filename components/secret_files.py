"""Secret values as files of a pod.

Containers read secrets from files in memory (tmpfs), never from environment variables: the environment of a process is
inherited by its children, shows in crash reports, and keeps an old value until the process ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

FOLDER = "/var/run/secrets/service"
"""Folder of a service's secrets in its containers. `kit/settings.py` reads it."""
VOLUME = "secrets"
MODE = 0o440
"""Of each file. Its owner is root, and its group is `fsGroup` of the pod."""
IN_ENVIRONMENT_NOTE = "cogniforge.dev/secrets-in"
"""Pod annotation with the value "environment": the user's own service asks for its secrets in variables."""
IN_ENVIRONMENT: Mapping[tuple[str, str], str] = {
    ("kserve-container", "API_KEY"): "Text Generation Inference reads its key from API_KEY or its arguments only.",
}
"""The secrets that stay in an environment variable, as (container, variable), each with the reason."""


def path(name: str) -> str:
    """Where a container finds the file of this name."""
    return f"{FOLDER}/{name}"


def mount(name: str = VOLUME) -> dict[str, Any]:
    """Mount of the volume of this name in a container."""
    return {"name": name, "mount_path": FOLDER, "read_only": True}


def volume(
    files: Mapping[str, tuple[pulumi.Input[str], str]], name: str = VOLUME, *, waits: bool = True
) -> dict[str, Any]:
    """Volume with one file per entry of a Secret. `files`: (Secret, entry) by file name.

    `waits`: whether pods wait for the Secrets. Otherwise the files come when the Secrets do.
    """
    more = {} if waits else {"optional": True}
    sources = [
        {"secret": {"name": secret, "items": [{"key": entry, "path": file}], **more}}
        for file, (secret, entry) in sorted(files.items())
    ]
    return projected(name, sources)


def projected(name: str, sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Volume with these sources, readable for the pod's group alone."""
    return {"name": name, "projected": {"sources": sources, "default_mode": MODE}}


def whole(name: str, secret: pulumi.Input[str], *entries: str) -> dict[str, Any]:
    """Volume with the named entries of a Secret as files, or with all; readable for the pod's group alone."""
    items = {"items": [{"key": entry, "path": entry} for entry in entries]} if entries else {}
    return {"name": name, "secret": {"secret_name": secret, "default_mode": MODE, **items}}


def variables(held: Mapping[str, tuple[pulumi.Input[str], str]]) -> list[dict[str, Any]]:
    """Environment variables from (Secret, entry), for the services of `IN_ENVIRONMENT_NOTE` only."""
    return [
        {"name": name, "value_from": {"secret_key_ref": {"name": secret, "key": entry}}}
        for name, (secret, entry) in sorted(held.items())
    ]
