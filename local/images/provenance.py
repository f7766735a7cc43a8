"""SLSA v1 provenance of images: source, materials, builder and time."""

from __future__ import annotations

import hashlib
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components import sources

BUILD_TYPE = "https://cogniforge.dev/build-types/containerfile/v1"
BUILDER = "https://cogniforge.dev/builders/local/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


def _git(*args: str) -> str:
    result = subprocess.run(["git", *args], cwd=sources.ROOT, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else ""


def source() -> dict[str, Any]:
    """The commit of the checkout, and whether the checkout has uncommitted changes."""
    material: dict[str, Any] = {"uri": "git+https://cogniforge.dev/platform", "name": "source"}
    if sources.INSTALLED:
        found = json.loads((sources.ROOT / "source.json").read_text())  # the wheel's build wrote it
        commit, modified = found["commit"], found["modified"]
    else:
        commit = _git("rev-parse", "HEAD")
        modified = bool(_git("status", "--porcelain", "--untracked-files=no"))
    if commit:
        material["digest"] = {"gitCommit": commit}
        material["annotations"] = {"modified": modified}
    return material


def predicate(
    image: str, file: str, context: Path, context_hash: str, parents: dict[str, str], engine: str, started: datetime
) -> str:
    """The predicate as JSON; `file` is the Containerfile's path in the source.

    Cosign wraps it in an in-toto statement about the image's digest.
    """
    materials = [source(), {"name": "context", "digest": {"sha256": context_hash}}]
    materials += [
        {"uri": f"oci://{ref}", "digest": {"sha256": d.removeprefix("sha256:")}} for ref, d in parents.items()
    ]
    for lock in sorted(context.glob("*.lock")):
        materials.append({"name": lock.name, "digest": {"sha256": hashlib.sha256(lock.read_bytes()).hexdigest()}})
    return json.dumps(
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "image": image,
                    "containerfile": file,
                },
                "internalParameters": {"engine": engine},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {
                    "invocationId": f"{context_hash[:16]}-{int(started.timestamp())}",
                    "startedOn": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    "finishedOn": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
            },
        }
    )
