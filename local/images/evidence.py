"""Evidence about an image in its registry: signature, SLSA provenance and SBOM, each verified with a public key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from components.config.images import speaks_plain_http
from components.delivery import registry
from local.errors import LocalError
from local.images import cosign, provenance

T = TypeVar("T")


class Claim(StrEnum):
    """What is verified about an image."""

    DIGEST = "digest"
    """The reference has a digest that is in the lock file or in the record of built images."""
    SIGNATURE = "signature"
    """The holder of the key signed the digest, and the registry serves content with this digest."""
    PROVENANCE = "provenance"
    """A signed statement says when and from which sources our builder built the image."""
    SBOM = "SBOM"
    """A signed statement lists the software in the image."""
    AGE = "age"
    """The image was built within the allowed number of days."""


@dataclass
class Evidence:
    """The result of an examination. Fields without a verified statement are None."""

    failures: dict[Claim, str] = field(default_factory=dict[Claim, str])
    """The reason for each claim that does not hold."""
    built: datetime | None = None
    commit: str | None = None
    """Commit of the sources; empty: the sources were not in Git."""
    modified: bool = False
    """Whether the sources had uncommitted changes."""
    components: int | None = None
    """Number of components in the SBOM."""


def examine(reference: str, key: Path, longest: timedelta, now: datetime | None = None) -> Evidence:
    """Verify an image that is given by its reference with digest. `longest`: the highest allowed age."""
    found = Evidence()
    reason = cosign.verify(reference, key)
    if reason is None and speaks_plain_http(reference):
        reason = registry.altered(reference)
    if reason is not None:
        found.failures[Claim.SIGNATURE] = reason

    def provenance_holds() -> None:
        found.built, found.commit, found.modified = max(_accepted(reference, "slsaprovenance1", key, _build))

    def sbom_holds() -> None:
        found.components = max(_accepted(reference, "cyclonedx", key, _components))

    _stated(found, Claim.PROVENANCE, provenance_holds)
    _stated(found, Claim.SBOM, sbom_holds)
    if found.built is not None and (age := (now or datetime.now(UTC)) - found.built) > longest:
        found.failures[Claim.AGE] = f"it was built {age.days} days ago; the limit is {longest.days} days"
    return found


class _Unacceptable(Exception):
    """A statement is signed, but says something else than it must."""


def _stated(found: Evidence, claim: Claim, check: Callable[[], None]) -> None:
    try:
        check()
    except _Unacceptable as error:
        found.failures[claim] = str(error)
    except LocalError as error:
        found.failures[claim] = error.reason.splitlines()[-1].strip() if error.reason else error.problem


def _accepted(reference: str, kind: str, key: Path, read: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `read` finds in the verified statements of one type about this image; at least one.

    An image that was built again with the same digest has a statement of each build.
    """
    accepted: list[T] = []
    reason = "there is none"
    for line in cosign.attestation(reference, kind, key).splitlines():
        try:
            statement = json.loads(base64.b64decode(json.loads(line)["payload"]))
            subjects = {f"sha256:{subject['digest']['sha256']}" for subject in statement["subject"]}
            if reference.partition("@")[2] not in subjects:
                raise _Unacceptable(f"the signed statement is about {', '.join(sorted(subjects))}")
            accepted.append(read(statement["predicate"]))
        except _Unacceptable as error:
            reason = str(error)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = f"the signed statement is malformed: {type(error).__name__}: {error}"
    if not accepted:
        raise _Unacceptable(reason)
    return accepted


def _build(predicate: dict[str, Any]) -> tuple[datetime, str, bool]:
    """Time of the build, commit of the sources, and whether they had uncommitted changes."""
    if (builder := predicate["runDetails"]["builder"]["id"]) != provenance.BUILDER:
        raise _Unacceptable(f"it was built by {builder}, and not by {provenance.BUILDER}")
    sources = predicate["buildDefinition"]["resolvedDependencies"]
    source = next((one for one in sources if one.get("name") == "source"), {})
    finished = datetime.fromisoformat(predicate["runDetails"]["metadata"]["finishedOn"])
    modified = bool(source.get("annotations", {}).get("modified"))
    return finished, source.get("digest", {}).get("gitCommit", ""), modified


def _components(predicate: dict[str, Any]) -> int:
    components = predicate.get("components", [])
    # The SBOM of an image with one program and no library describes that program only.
    if not components and not predicate.get("metadata", {}).get("component"):
        raise _Unacceptable("the SBOM lists no component")
    return len(components)
