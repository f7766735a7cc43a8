"""`forge verify`: verifies digest, signature, provenance, SBOM and age of each image that runs in an environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from kubernetes.client.exceptions import ApiException
from rich.markup import escape

from cli import cluster, documents, output, stack, status
from components import catalogue
from components.config.images import ImageSource
from components.config.platform import PlatformConfig
from components.delivery.images import KEY_VARIABLE, locked
from local.errors import LocalError
from local.images import cosign, evidence, pipeline
from local.images.evidence import Claim, Evidence

_AT_A_TIME = 2
"""Images that are verified at the same time. Each verification runs three processes."""
_ENDED = {"Succeeded", "Failed"}


class Origin(StrEnum):
    """Where the digest of an image is recorded."""

    BUILT = "built here"
    """In the record of the images that `forge up` or `forge images` built."""
    LOCKED = "lock"
    """In versions.lock.yaml, as the current release or the one before."""
    CONFIGURED = "configured"
    """In the stack file, as the image of a user's own service, which its owner signs."""
    FOREIGN = "foreign"
    """Nowhere, and outside the platform's namespace: an image of somebody else."""
    UNKNOWN = "unknown"
    """Nowhere, although the platform's pods or namespace run it."""


@dataclass
class Running:
    """An image that runs, and the result of its verification."""

    reference: str
    origin: Origin
    pods: list[str] = field(default_factory=list[str])
    """Containers that run it, as namespace/pod/container."""
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def ours(self) -> bool:
        """Whether we sign the image."""
        return self.origin in (Origin.BUILT, Origin.LOCKED)


@dataclass(frozen=True)
class Found:
    """All images of an environment."""

    stack: str
    source: ImageSource
    now: datetime
    images: list[Running]

    @property
    def verified(self) -> bool:
        """Whether no claim about an image fails."""
        return not any(image.evidence.failures for image in self.images)


Examine = Callable[[str], Evidence]


def collect(name: str, max_age_days: int | None, key: Path | None) -> Found:
    """Verify all images of an environment. Raises LocalError if the cluster or the public key cannot be reached."""
    config = stack.read_config(name)
    used = key or Path(os.environ.get(KEY_VARIABLE, cosign.public_key()))
    if not used.is_file():
        raise LocalError(
            "there is no public key for the signatures of images",
            reason=f"{used} does not exist",
            fix="give the cosign.pub of the machine that built or released the images with --key",
        )
    longest = timedelta(days=max_age_days or config.images.max_age_days)
    pods = _pods(config)
    with output.waiting(f"verifying the images of {name}"):
        return judge(name, config, pods, lambda reference: evidence.examine(reference, used.resolve(), longest))


def _pods(config: PlatformConfig) -> list[status.Item]:
    """Pods of the whole cluster; of the platform's namespace, if the user may not see others."""
    api = status.connect(cluster.kubeconfig(config), config.cluster.context or None)
    api.configuration.retries = False
    with status.answering():
        try:
            return status.listed(api, "/api/v1/pods")
        except ApiException as error:
            if error.status != 403:
                raise
            return status.listed(api, f"/api/v1/namespaces/{config.cluster.namespace}/pods")


def judge(name: str, config: PlatformConfig, pods: Iterable[Mapping[str, Any]], examine: Examine) -> Found:
    """The images of these pods with the evidence about those that we sign."""
    recorded, images = known(config), dict[str, Running]()
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in _ENDED:
            continue
        namespace = pod["metadata"]["namespace"]
        for reference, place in _containers(pod):
            origin = recorded.get(reference, Origin.FOREIGN)
            image = images.setdefault(reference, Running(reference, origin))
            image.pods.append(place)
            if not image.ours and image.origin is not Origin.CONFIGURED and namespace == config.cluster.namespace:
                image.origin = Origin.UNKNOWN
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        ours = [image for image in images.values() if image.ours]
        for image, found in zip(ours, pool.map(lambda one: examine(one.reference), ours), strict=True):
            image.evidence = found
    for image in images.values():
        if image.origin is Origin.UNKNOWN:
            image.evidence.failures[Claim.DIGEST] = _why_unknown(image.reference, config)
    ordered = sorted(images.values(), key=lambda i: (i.origin is Origin.FOREIGN, short(i.reference)))
    return Found(name, config.images.source, datetime.now(UTC), ordered)


def known(config: PlatformConfig) -> dict[str, Origin]:
    """Recorded images by reference with digest."""
    own = {record.reference: Origin.CONFIGURED for record in config.around.records.values() if record.reference}
    if config.images.source is ImageSource.REGISTRY:
        return own | dict.fromkeys(locked(config.images), Origin.LOCKED)
    registry = config.images.registry
    built = [*pipeline.read_index(registry).values(), *pipeline.read_history(registry)]
    return own | {one.reference: Origin.BUILT for one in built}


def _containers(pod: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Image and place of each container, including init and debugging containers."""
    meta = pod["metadata"]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod["spec"].get(kind) or []:
            yield container["image"], f"{meta['namespace']}/{meta['name']}/{container['name']}"


def _why_unknown(reference: str, config: PlatformConfig) -> str:
    if "@sha256:" not in reference:
        return "the image is referenced by a tag, which can be moved to other content"
    if config.images.source is ImageSource.REGISTRY:
        return f"{catalogue.LOCK_FILE.name} has no such image with this digest"
    return "no image with this digest was built on this machine"


def fix(claim: Claim, source: ImageSource) -> str:
    """What to do if a claim does not hold."""
    again = (
        "`forge images --rebuild` and `forge up`"
        if source is ImageSource.LOCAL_BUILD
        else "`forge release` and `forge up`"
    )
    return {
        Claim.DIGEST: "find out who started the pod and delete it; `forge up` restores the platform's own definition",
        Claim.SIGNATURE: "if you did not change the image or the key yourself, treat the registry as tampered with; "
        f"replace the image with {again}",
        Claim.PROVENANCE: f"attach it again with {again}",
        Claim.SBOM: f"attach it again with {again}",
        Claim.AGE: f"replace the image with {again}"
        + ("" if source is ImageSource.LOCAL_BUILD else ", after a raised version in versions.lock.yaml"),
    }[claim]


def document(found: Found) -> documents.Verification:
    """The result as a JSON document."""
    return documents.Verification(
        stack=found.stack,
        verified=found.verified,
        images=[
            documents.RunningImage(
                reference=image.reference,
                origin=image.origin.value,
                pods=image.pods,
                built=image.evidence.built.isoformat() if image.evidence.built else "",
                commit=image.evidence.commit or "",
                modified=image.evidence.modified,
                components=image.evidence.components,
                failures=[
                    documents.FailedClaim(claim=claim.value, reason=reason, fix=fix(claim, found.source))
                    for claim, reason in image.evidence.failures.items()
                ],
            )
            for image in found.images
        ],
    )


def show(found: Found) -> None:
    """Print a table of the images, and the failures with their fixes."""
    view = output.table(
        "image", "digest in", "signature", "provenance", "SBOM", "age", "pods", right=frozenset({"pods"})
    )
    for image in found.images:
        view.add_row(short(image.reference), *_cells(image, found.now), str(len({_pod(p) for p in image.pods})))
    output.console.print(view)
    output.console.print()
    for image in found.images:
        for claim, reason in image.evidence.failures.items():
            output.line(f"[red]{escape(short(image.reference))}[/]: {claim}: {escape(reason)}", indent=2)
            output.line(f"  [green]fix:[/] {escape(fix(claim, found.source))}", indent=7)
            output.line(f"  in {', '.join(sorted({_pod(place) for place in image.pods}))}", indent=5)
    ours = sum(image.ours for image in found.images)
    failed = sum(bool(image.evidence.failures) for image in found.images)
    others = [image for image in found.images if image.origin in (Origin.FOREIGN, Origin.CONFIGURED)]
    output.line(f"{len(found.images)} images run: {ours} of the platform, {failed} with failures.")
    if others:
        output.line(f"Not signed by us: {', '.join(short(image.reference) for image in others)}.", indent=2)


def _cells(image: Running, now: datetime) -> list[str]:
    """The cells between name and pods."""
    proof = image.evidence
    digest = f"[red]{image.origin}[/]" if Claim.DIGEST in proof.failures else image.origin.value
    if not image.ours:
        return [digest, "", "", "", ""]
    commit = f"{(proof.commit or 'no commit')[:9]}{'+' if proof.modified else ''}"
    age = f"{(now - proof.built).days} d" if proof.built else ""
    shown = {
        Claim.SIGNATURE: "verified",
        Claim.PROVENANCE: commit,
        Claim.SBOM: f"{proof.components} components",
        Claim.AGE: age,
    }
    failed = {Claim.AGE: f"[red]{age}[/]"}
    return [
        digest,
        *(failed.get(claim, "[red]failed[/]") if claim in proof.failures else text for claim, text in shown.items()),
    ]


def _pod(place: str) -> str:
    return place.rpartition("/")[0]


def short(reference: str) -> str:
    """The reference without its registry, with the beginning of the digest."""
    name, _, digest = reference.rsplit("/", 1)[-1].partition("@sha256:")
    return f"{name}@{digest[:8]}" if digest else name
